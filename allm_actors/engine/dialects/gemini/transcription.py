"""Gemini's transcription: generateContent with a clip and the instruction to transcribe it.

Rule of this file: pure. The instruction is text beside the clip. An answer that was cut for its length is
still an answer, and its metadata says so; one that was withheld is `content_filter`.

Source: https://ai.google.dev/gemini-api/docs/audio, and recorded exchanges of the same format.
"""

from __future__ import annotations

from typing import Any, Final

from allm_actors.data import TranscriptionRequest, TranscriptionResponse
from allm_actors.engine.dialects.clips import clip_bytes, plain_type
from allm_actors.engine.dialects.gemini.chunks import BROKEN_FINISHES, FINISHES
from allm_actors.engine.dialects.gemini.content import asked, blocked, inline, parts_of, usage_of
from allm_actors.engine.dialects.lenient import dicts_of, text_of
from allm_actors.engine.dialects.refusals import answered_object, refusal
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_MOST_BYTES = 15_679_488
_TYPES: Final = {
    **{f"audio/{name}": f"audio/{name}" for name in ("wav", "mpeg", "aiff", "aac", "ogg", "opus", "flac")},
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-aiff": "audio/aiff",
    "audio/x-flac": "audio/flac",
}
_TASK = "Write a verbatim transcript of this recording. Answer with the transcript and nothing else."


def encode(request: TranscriptionRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    data = clip_bytes(request.audio, _MOST_BYTES, row)
    mime = _TYPES.get(plain_type(request.audio.mime_type))
    if mime is None:
        there = ", ".join(sorted(set(_TYPES.values())))
        message = f"{row.provider.label} takes no clip of type {request.audio.mime_type!r}; it takes: {there}"
        raise row.error("invalid_request", message, metadata={"field": "audio"})
    parts: list[dict[str, Any]] = [{"text": _task(request)}, inline(data, mime)]
    model = request.model or row.model or ""
    return asked(parts, {}, request.options, model, row, base_url)


def decode(answer: HttpAnswer, request: TranscriptionRequest, row: Service) -> TranscriptionResponse:
    """See `ServiceDialect.decode`."""
    wire = answered_object(answer, row)
    withheld = blocked(wire, row, answer.status)
    if withheld is not None:
        raise withheld
    candidates = dicts_of(wire.get("candidates"))
    if not candidates:
        raise row.malformed("there is no candidate in it")
    said = [part.get("text") for part in parts_of(candidates[0]) if part.get("thought") is not True]
    texts = [text for text in said if isinstance(text, str)]
    finish = text_of(candidates[0].get("finishReason"))
    if finish in BROKEN_FINISHES or (not texts and finish not in FINISHES):
        raise row.malformed(f"there is no transcript in it ({finish or 'without a finishReason'})")
    return TranscriptionResponse(
        id=text_of(wire.get("responseId")),
        model=text_of(wire.get("modelVersion")) or request.model or row.model,
        provider=row.provider.name,
        text="".join(texts).strip(),
        usage=usage_of(wire),
        raw=wire,
        metadata={**request.metadata, **_unfinished(finish)},
    )


def _unfinished(finish: str | None) -> dict[str, str]:
    """Metadata for a transcript that is not complete."""
    if finish is None or FINISHES.get(finish) == "stop":
        return {}
    if finish in FINISHES:
        return {"finish_reason": FINISHES[finish]}
    return {"finish_reason": "other", "raw_finish_reason": finish}


def _task(request: TranscriptionRequest) -> str:
    lines = [_TASK]
    if request.language:
        lines.append(f"The language is {request.language}.")
    if request.prompt:
        lines.append(f"For context, names and spelling: {request.prompt}")
    return "\n".join(lines)


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
