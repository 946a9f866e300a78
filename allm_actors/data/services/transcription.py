"""Speech to text: the request, the response, and the events of a stream.

Rule of this file: a stream is one `TranscriptionStarted`, segments, and one `TranscriptionCompleted`, or an
`ErrorEvent` in place of whatever is left. A segment is any number of `PartialTranscript`, each of which replaces the
one before, and a `CommittedTranscript`, which stays. The whole text is the committed segments, trimmed, joined with
one space.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from allm_actors.data.events import ErrorEvent
from allm_actors.data.media.audio import Audio
from allm_actors.data.responses import Usage

__all__ = [
    "TRANSCRIPTION_EVENTS",
    "CommittedTranscript",
    "PartialTranscript",
    "TranscriptionCompleted",
    "TranscriptionEvent",
    "TranscriptionRequest",
    "TranscriptionResponse",
    "TranscriptionStarted",
]


class TranscriptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A clip to transcribe. `language` is an ISO 639 code; `prompt` helps with names and style."""

    audio: Audio
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class TranscriptionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What was said."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    provider: str | None = None
    text: str = ""
    language: str | None = None
    duration_seconds: float | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    raw: Any = None
    metadata: dict[str, Any] = {}


class TranscriptionStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The provider has accepted the clip."""

    tag: ClassVar[Literal["transcription_started"]] = "transcription_started"
    request_id: str | None = None
    model: str | None = None
    provider: str | None = None
    session_id: str | None = None


class PartialTranscript(msgspec.Struct, frozen=True):
    """The best guess at the segment being spoken; it replaces the one before."""

    tag: ClassVar[Literal["partial_transcript"]] = "partial_transcript"
    text: str


class CommittedTranscript(msgspec.Struct, frozen=True):
    """A segment that will not change any more."""

    tag: ClassVar[Literal["committed_transcript"]] = "committed_transcript"
    text: str
    language: str | None = None


class TranscriptionCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """The clip is transcribed; `text` is the whole text."""

    tag: ClassVar[Literal["transcription_completed"]] = "transcription_completed"
    text: str = ""
    language: str | None = None
    duration_seconds: float | None = None
    request_id: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    metadata: dict[str, Any] = {}


TRANSCRIPTION_EVENTS = (
    TranscriptionStarted,
    PartialTranscript,
    CommittedTranscript,
    TranscriptionCompleted,
)
TranscriptionEvent = (
    TranscriptionStarted | PartialTranscript | CommittedTranscript | TranscriptionCompleted | ErrorEvent
)
