"""ElevenLabs' speech to text: a clip to a form, an answer to its text.

Rule of this file: pure. The format has no field for a prompt. `options` are fields of the form; a list
becomes one field for each value. With several channels (`use_multi_channel`) each one has a transcript of its own;
the text is one line for each.

Source: https://elevenlabs.io/docs/api-reference/speech-to-text/convert.
"""

from __future__ import annotations

from typing import Final

from allm_actors.data import TranscriptionRequest, TranscriptionResponse
from allm_actors.engine.dialects.clips import clip_bytes, plain_type
from allm_actors.engine.dialects.elevenlabs.errors import elevenlabs_refusal
from allm_actors.engine.dialects.lenient import dict_of, number_of, text_of
from allm_actors.engine.dialects.multipart import FilePart, file_name, form_request
from allm_actors.engine.dialects.refusals import answered_object
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_MOST_BYTES = 4_999_999_999
_NAME = "audio.bin"


def encode(request: TranscriptionRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    data = clip_bytes(request.audio, _MOST_BYTES, row)
    if request.prompt is not None:
        message = f"{row.provider.label} takes no prompt for a transcript; leave it out"
        raise row.error("unsupported_feature", message, metadata={"field": "prompt"})
    if request.options.get("webhook") not in (None, False, "false"):
        message = (
            "this call waits for its transcript, and a webhook gets it instead; leave webhook out of options"
        )
        raise row.error("unsupported_feature", message, metadata={"field": "options"})
    fields = {
        **request.options,
        "model_id": request.model or row.model,
        "language_code": request.language,
    }
    kind = plain_type(request.audio.mime_type) or "application/octet-stream"
    name = file_name(request.audio.source) or _NAME
    file = FilePart(name="file", filename=name, content_type=kind, data=data)
    return form_request(f"{base_url}/v1/speech-to-text", fields, [file], row)


def decode(answer: HttpAnswer, request: TranscriptionRequest, row: Service) -> TranscriptionResponse:
    """See `ServiceDialect.decode`."""
    wire = answered_object(answer, row)
    several = wire.get("transcripts")
    channels = several if isinstance(several, list) else [wire]
    texts = [text for channel in channels if isinstance(text := dict_of(channel).get("text"), str)]
    if not texts or len(texts) < len(channels):
        raise row.malformed("there is no text in it")
    languages = {text_of(channel.get("language_code")) for channel in channels}
    return TranscriptionResponse(
        id=text_of(wire.get("transcription_id")),
        model=request.model or row.model,
        provider=row.provider.name,
        text="\n".join(texts),
        language=languages.pop() if len(languages) == 1 else None,
        duration_seconds=number_of(wire.get("audio_duration_secs")),
        raw=wire,
        metadata=dict(request.metadata),
    )


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=elevenlabs_refusal)
