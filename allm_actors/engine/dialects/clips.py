"""Audio clips: sent for transcription, and received as speech.

Rule of this file: a clip is never decoded; only its content type says what it is. A local file is read here,
when the request is made.
"""

from __future__ import annotations

import re
from typing import Any, Final

from allm_actors.data import Audio
from allm_actors.data.media.audio import FORMATS, AudioFormat
from allm_actors.engine.dialects.refusals import answered_object, media_bytes
from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpAnswer

__all__ = ["audio_type", "clip_bytes", "format_of", "plain_type", "rate_of"]

_FORMATS: Final[dict[str, Any]] = {
    **{f"audio/{name}": name for name in FORMATS},
    **{mime: name for name, mime in FORMATS.items()},
    "audio/ogg": "opus",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/x-flac": "flac",
    "audio/l16": "pcm",
}
_RATE = re.compile(r";\s*rate=(\d{1,7})\s*(?:;|$)", re.IGNORECASE | re.ASCII)


def clip_bytes(audio: Audio, most: int, row: Service) -> bytes:
    """The bytes of a clip to send. Raises `invalid_request` if they cannot be read, or are more than `most`."""
    data = media_bytes(audio, "the clip", row, field="audio", cause="unresolvable_audio")
    if len(data) > most:
        message = (
            f"{row.provider.label} takes clips of at most {most} bytes, got {len(data)}; send it in parts"
        )
        raise row.error("invalid_request", message, metadata={"bytes": len(data), "max": most})
    return data


def plain_type(mime_type: str | None) -> str:
    """A content type in lower case without its parameters."""
    return (mime_type or "").split(";")[0].strip().lower()


def audio_type(answer: HttpAnswer, row: Service, wanted: AudioFormat) -> str:
    """The content type of an answer that is a clip. Raises `malformed_response` for any other.

    For a generic type such as `application/octet-stream`, that of the requested format.
    """
    kind = plain_type(answer.headers.get("content-type"))
    if kind.endswith("json"):
        answered_object(answer, row)  # raises the error that the JSON may contain
    if kind in ("application/octet-stream", "binary/octet-stream"):
        return FORMATS[wanted]
    if not kind.startswith("audio/"):
        raise row.malformed(f"its content type is {kind[:100] or 'missing'}, not audio")
    return kind


def format_of(kind: str) -> AudioFormat | None:
    """The `AudioFormat` of a content type, or None."""
    return _FORMATS.get(kind)


def rate_of(answer: HttpAnswer) -> int | None:
    """The sample rate that a content type names, in Hz."""
    named = _RATE.search(answer.headers.get("content-type", ""))
    return int(named[1]) if named else None
