"""OpenAI's transcriptions: a clip to a form, an answer to its text.

Rule of this file: pure. The server relies on the extension of the file's name; a clip without one gets that
of its MIME type. `options` are fields of the form; a list becomes one field for each value; `response_format`
must be a JSON one.

Source: https://platform.openai.com/docs/api-reference/audio/createTranscription, and a recorded exchange.
"""

from __future__ import annotations

from typing import Any, Final

from allm_actors.data import TranscriptionRequest, TranscriptionResponse, Usage
from allm_actors.engine.dialects.clips import clip_bytes, plain_type
from allm_actors.engine.dialects.failures import provider_request_id
from allm_actors.engine.dialects.lenient import count_of, dict_of, dicts_of, number_of, text_of
from allm_actors.engine.dialects.multipart import FilePart, file_name, form_request
from allm_actors.engine.dialects.refusals import answered_object, refusal
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_MOST_BYTES = 26_148_864
_EXTENSIONS: Final = frozenset(["flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"])
_BY_TYPE: Final = {
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/m4a": "m4a",
    "audio/x-m4a": "m4a",
    "audio/mp4": "m4a",
    "video/mp4": "mp4",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mpga": "mpga",
    "audio/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/webm": "webm",
    "video/webm": "webm",
}
_JSON: Final = frozenset({"json", "verbose_json", "diarized_json"})


def encode(request: TranscriptionRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    data = clip_bytes(request.audio, _MOST_BYTES, row)
    name = _name(request, row)
    options = dict(request.options)
    wanted = options.pop("response_format", "json")
    if not isinstance(wanted, str) or wanted not in _JSON or options.pop("stream", False):
        there = ", ".join(sorted(_JSON))
        message = f"a transcript is read from one JSON answer; response_format must be one of: {there}"
        raise row.error("invalid_request", message, metadata={"field": "options"})
    fields = {
        **options,
        "model": request.model or row.model,
        "response_format": wanted,
        "language": request.language,
        "prompt": request.prompt,
    }
    kind = plain_type(request.audio.mime_type) or "application/octet-stream"
    file = FilePart(name="file", filename=name, content_type=kind, data=data)
    return form_request(f"{base_url}/audio/transcriptions", fields, [file], row)


def decode(answer: HttpAnswer, request: TranscriptionRequest, row: Service) -> TranscriptionResponse:
    """See `ServiceDialect.decode`."""
    wire = answered_object(answer, row)
    text = wire.get("text")
    if not isinstance(text, str):
        raise row.malformed("there is no text in it")
    told = dict_of(wire.get("usage"))
    first = (dicts_of(wire.get("languages")) or [{}])[0]
    return TranscriptionResponse(
        id=provider_request_id(answer.headers),
        model=request.model or row.model,
        provider=row.provider.name,
        text=text,
        language=text_of(first.get("code")) or text_of(wire.get("language")),
        duration_seconds=number_of(told.get("seconds"))
        if told.get("type") == "duration"
        else number_of(wire.get("duration")),
        usage=_usage(told),
        raw=wire,
        metadata=dict(request.metadata),
    )


def _name(request: TranscriptionRequest, row: Service) -> str:
    own = file_name(request.audio.source)
    if own is not None and own.rpartition(".")[2].lower() in _EXTENSIONS:
        return own
    extension = _BY_TYPE.get(plain_type(request.audio.mime_type))
    if extension is None:
        message = (
            f"{row.provider.label} identifies a clip by its file extension, and knows none for "
            f"{request.audio.mime_type!r}; it knows: {', '.join(sorted(_EXTENSIONS))}"
        )
        raise row.error("invalid_request", message, metadata={"field": "audio"})
    return f"audio.{extension}"


def _usage(told: dict[str, Any]) -> Usage:
    if told.get("type") == "duration":
        return Usage()
    return Usage(
        input_tokens=count_of(told.get("input_tokens")),
        output_tokens=count_of(told.get("output_tokens")),
        total_tokens=count_of(told.get("total_tokens")),
    )


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
