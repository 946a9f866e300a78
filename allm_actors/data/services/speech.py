"""Text to speech: the request, the response, and the events of a stream.

Rule of this file: a stream is one `SpeechStarted`, one or more `AudioDelta`, and one `SpeechCompleted`, or an
`ErrorEvent` in place of whatever is left. The deltas, joined, are the clip. Half a clip is never a response.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from allm_actors.data.events import ErrorEvent
from allm_actors.data.media.audio import Audio, AudioFormat
from allm_actors.data.responses import Usage

__all__ = [
    "SPEECH_EVENTS",
    "AudioDelta",
    "SpeechCompleted",
    "SpeechEvent",
    "SpeechRequest",
    "SpeechResponse",
    "SpeechStarted",
]


class SpeechRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A text to speak. `instructions` say how; `speed` is a factor, `sample_rate` is in Hz; None is the
    provider's default.
    """

    input: str
    model: str | None = None
    voice: str | None = None
    format: AudioFormat | None = None
    instructions: str | None = None
    speed: float | None = None
    sample_rate: int | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class SpeechResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The clip. `format` is that of the received bytes, None if the provider's content type is not known."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    provider: str | None = None
    audio: Audio | None = None
    format: AudioFormat | None = None
    sample_rate: int | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    raw: Any = None
    metadata: dict[str, Any] = {}


class SpeechStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The provider has accepted; the fields describe the bytes that will come."""

    tag: ClassVar[Literal["speech_started"]] = "speech_started"
    request_id: str | None = None
    model: str | None = None
    provider: str | None = None
    format: AudioFormat | None = None
    mime_type: str | None = None
    sample_rate: int | None = None


class AudioDelta(msgspec.Struct, frozen=True):
    """The next bytes of the clip; never empty."""

    tag: ClassVar[Literal["audio_delta"]] = "audio_delta"
    data: bytes


class SpeechCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """The clip is complete."""

    tag: ClassVar[Literal["speech_completed"]] = "speech_completed"
    request_id: str | None = None
    id: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    metadata: dict[str, Any] = {}


SPEECH_EVENTS = (SpeechStarted, AudioDelta, SpeechCompleted)
SpeechEvent = SpeechStarted | AudioDelta | SpeechCompleted | ErrorEvent
