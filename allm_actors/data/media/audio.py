"""Sound as a value: where the bytes are, not necessarily the bytes themselves.

Rule of this file: a clip is never decoded; only its MIME type says what it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from .sources import bytes_of, check_given, repr_of

__all__ = ["FORMATS", "Audio", "AudioFormat", "AudioSource"]

AudioSource = tuple[Literal["binary", "base64", "file"], str | bytes]
AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
FORMATS: dict[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_MIME = {f".{format}": mime for format, mime in FORMATS.items()} | {
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".aiff": "audio/aiff",
    ".aif": "audio/aiff",
    ".m4a": "audio/mp4",
    ".webm": "audio/webm",
}


class Audio(msgspec.Struct, frozen=True, kw_only=True):
    """A clip: `source` is `(kind, value)` with kind `binary`, `base64` or `file`."""

    source: AudioSource
    mime_type: str | None = None
    metadata: dict[str, Any] = {}

    def __repr__(self) -> str:
        return repr_of(self)

    @classmethod
    def from_file(cls, path: str | Path) -> Audio:
        """The clip in a local file, read when it is needed; the MIME type comes from the extension."""
        return cls(source=("file", str(path)), mime_type=_MIME.get(Path(path).suffix.lower()))

    @classmethod
    def from_bytes(cls, data: bytes, mime_type: str) -> Audio:
        """The clip in `data`. Raises TypeError unless they are bytes with a MIME type."""
        check_given("Audio.from_bytes", data, bytes, mime_type, "audio/wav")
        return cls(source=("binary", data), mime_type=mime_type)

    @classmethod
    def from_base64(cls, text: str, mime_type: str) -> Audio:
        """The clip in Base64 `text`, kept undecoded. Raises TypeError unless it is text with a MIME type."""
        check_given("Audio.from_base64", text, str, mime_type, "audio/wav")
        return cls(source=("base64", text), mime_type=mime_type)

    def to_bytes(self) -> bytes:
        """The bytes. Raises ValueError (`invalid_source`, `invalid_base64`), or OSError for an unreadable file."""
        return bytes_of(self.source, "clip")
