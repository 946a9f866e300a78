"""A stream of speech, or of a transcription, folded to the response that a call without streaming would give.

Rule of this file: half an answer is no answer. A stream that broke off folds to its error, which says how far
it came.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from allm_actors.data import (
    AdapterError,
    AllmError,
    Audio,
    AudioDelta,
    CommittedTranscript,
    ErrorEvent,
    SpeechAdapterError,
    SpeechCompleted,
    SpeechEvent,
    SpeechResponse,
    SpeechStarted,
    TranscriptionAdapterError,
    TranscriptionCompleted,
    TranscriptionEvent,
    TranscriptionResponse,
    TranscriptionStarted,
)

__all__ = ["AudioFold", "SpeechFold", "TranscriptionFold"]


class AudioFold:
    """The fold of one stream; `events` are its event types. Thread: not safe to share; one reader owns it."""

    error: type[AdapterError] = AdapterError
    events: frozenset[type] = frozenset({ErrorEvent})

    def __init__(self) -> None:
        self._outcome: Any = None

    @property
    def over(self) -> bool:
        """Whether the last event has come."""
        return self._outcome is not None

    def apply(self, event: Any) -> None:
        """Take one event; events after the last one are ignored."""
        if self.over:
            return
        if isinstance(event, ErrorEvent):
            self._outcome = self._broken(event.error)
        else:
            self._take(event)

    def outcome(self) -> Any:
        """The response, or the error."""
        if self._outcome is not None:
            return self._outcome
        message = f"{self.error.kind}: the stream ended without its last event"
        return self._broken(self.error("malformed_response", message=message))

    def _take(self, event: Any) -> None:
        raise NotImplementedError

    def _so_far(self) -> dict[str, Any]:
        raise NotImplementedError

    def _broken(self, error: Any) -> AllmError:
        if not isinstance(error, AllmError):
            error = self.error("unknown", cause=repr(error))
        told: AllmError = error.replaced(metadata={**error.metadata, **self._so_far()})
        return told


class SpeechFold(AudioFold):
    """To a `SpeechResponse`, or an error with `bytes_received`."""

    error = SpeechAdapterError
    events = frozenset(get_args(SpeechEvent))

    def __init__(self) -> None:
        super().__init__()
        self._started: SpeechStarted | None = None
        self._data: list[bytes] = []

    def _take(self, event: Any) -> None:
        match event:
            case SpeechStarted():
                self._started = event
            case AudioDelta(data=data):
                self._data.append(data)
            case SpeechCompleted():
                self._outcome = self._complete(event)
            case _:
                pass

    def _complete(self, event: SpeechCompleted) -> Any:
        started, data = self._started, b"".join(self._data)
        if started is None or not data:
            missing = "SpeechStarted" if started is None else "a single byte"
            message = f"{self.error.kind}: the stream was completed without {missing}"
            return self._broken(self.error("malformed_response", message=message))
        return SpeechResponse(
            id=event.id,
            request_id=event.request_id or started.request_id,
            model=started.model,
            provider=started.provider,
            audio=Audio(source=("binary", data), mime_type=started.mime_type),
            format=started.format,
            sample_rate=started.sample_rate,
            usage=event.usage,
            metadata=event.metadata,
        )

    def _so_far(self) -> dict[str, Any]:
        return {"bytes_received": sum(map(len, self._data))}


class TranscriptionFold(AudioFold):
    """To a `TranscriptionResponse`, or an error with `committed_text`."""

    error = TranscriptionAdapterError
    events = frozenset(get_args(TranscriptionEvent))

    def __init__(self) -> None:
        super().__init__()
        self._started = TranscriptionStarted()
        self._committed: list[str] = []

    def _take(self, event: Any) -> None:
        match event:
            case TranscriptionStarted():
                self._started = event
            case CommittedTranscript(text=text):
                self._committed.append(text)
            case TranscriptionCompleted():
                said = msgspec.structs.asdict(event)
                self._outcome = TranscriptionResponse(
                    **{**said, "request_id": event.request_id or self._started.request_id},
                    id=self._started.session_id,
                    model=self._started.model,
                    provider=self._started.provider,
                )
            case _:
                pass

    def _so_far(self) -> dict[str, Any]:
        trimmed = [text.strip() for text in self._committed]
        return {"committed_text": " ".join(text for text in trimmed if text)}
