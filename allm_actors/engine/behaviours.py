"""What others implement for everything that is not chat: one protocol for each capability.

Rule of this file: contracts only, as in `adapter`. They share one law:

    a call    takes a request and a `Call`, and returns its response, or an awaitable of it. One that may block is an
              ordinary function and is run on a thread; a coroutine function is run on the event loop that all calls
              share and must not block it.
    failing   means raising the capability's error (`ImageAdapterError`, …), with a `reason` that says whether a retry
              may help. Adapters never retry: their caller does.
    a gate    refuses what cannot be sent before it gets the key, and before any I/O.
    a stream  is opened by the call, in its caller, without I/O; the iterator does nothing before the first pull, raises
              nothing (a failure is one `ErrorEvent`), and cleans up once when it is closed.

The response carries the request's `metadata`. Errors name the provider by `adapter.name`, as in `Adapter`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Iterator
from typing import Protocol, runtime_checkable

from allm_actors.data import (
    ClassificationRequest,
    ClassificationResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    ImageRequest,
    ImageResponse,
    ModerationRequest,
    ModerationResponse,
    SpeechEvent,
    SpeechRequest,
    SpeechResponse,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptionResponse,
)
from allm_actors.engine.adapter import Call

__all__ = [
    "ClassificationAdapter",
    "EmbeddingAdapter",
    "ImageAdapter",
    "ModerationAdapter",
    "SpeechAdapter",
    "SpeechStreamAdapter",
    "TranscriptionAdapter",
    "TranscriptionStreamAdapter",
]


@runtime_checkable
class ImageAdapter(Protocol):
    """Makes and edits images."""

    def generate(self, request: ImageRequest, call: Call, /) -> ImageResponse | Awaitable[ImageResponse]:
        """The images; raises `ImageAdapterError`."""
        ...

    def supported_operations(self) -> Collection[str]:
        """Some of `generate`, `edit`, `variation`; `generate` refuses any other with `unsupported_operation`."""
        ...


@runtime_checkable
class EmbeddingAdapter(Protocol):
    """Turns texts into vectors."""

    def embed(
        self, request: EmbeddingRequest, call: Call, /
    ) -> EmbeddingResponse | Awaitable[EmbeddingResponse]:
        """A vector for each input, with its index; raises `EmbeddingAdapterError`."""
        ...

    def max_batch_size(self) -> int:
        """How many inputs one call may have; more are sent in several calls, one after the other."""
        ...


@runtime_checkable
class ModerationAdapter(Protocol):
    """Judges content."""

    def moderate(
        self, request: ModerationRequest, call: Call, /
    ) -> ModerationResponse | Awaitable[ModerationResponse]:
        """A verdict for each item; raises `ModerationAdapterError`, and never guesses that something is clean."""
        ...


@runtime_checkable
class SpeechAdapter(Protocol):
    """Speaks texts."""

    def synthesize(self, request: SpeechRequest, call: Call, /) -> SpeechResponse | Awaitable[SpeechResponse]:
        """The clip; raises `SpeechAdapterError`."""
        ...


@runtime_checkable
class SpeechStreamAdapter(Protocol):
    """Speaks texts, as a stream of pieces."""

    def stream_synthesize(
        self, request: SpeechRequest, call: Call, /
    ) -> Iterator[SpeechEvent] | AsyncIterator[SpeechEvent]:
        """The clip in pieces; raises `SpeechAdapterError` only for what it refuses at once."""
        ...


@runtime_checkable
class TranscriptionAdapter(Protocol):
    """Transcribes clips."""

    def transcribe(
        self, request: TranscriptionRequest, call: Call, /
    ) -> TranscriptionResponse | Awaitable[TranscriptionResponse]:
        """The text; raises `TranscriptionAdapterError`."""
        ...


@runtime_checkable
class TranscriptionStreamAdapter(Protocol):
    """Transcribes clips, as a stream of segments."""

    def stream_transcribe(
        self, request: TranscriptionRequest, call: Call, /
    ) -> Iterator[TranscriptionEvent] | AsyncIterator[TranscriptionEvent]:
        """The text segment by segment; raises `TranscriptionAdapterError` only for what it refuses at once."""
        ...


@runtime_checkable
class ClassificationAdapter(Protocol):
    """Answers typed questions."""

    def classify(
        self, request: ClassificationRequest, call: Call, /
    ) -> ClassificationResponse | Awaitable[ClassificationResponse]:
        """An answer of the question's type for each question; raises `ClassificationAdapterError`."""
        ...
