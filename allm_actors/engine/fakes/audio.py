"""The scripted voice, and the scripted ear.

Rule of this file: by themselves they undo each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from allm_actors.data import (
    AllmError,
    Audio,
    AudioDelta,
    CommittedTranscript,
    ErrorEvent,
    PartialTranscript,
    SpeechAdapterError,
    SpeechCompleted,
    SpeechEvent,
    SpeechRequest,
    SpeechResponse,
    SpeechStarted,
    TranscriptionAdapterError,
    TranscriptionCompleted,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptionResponse,
    TranscriptionStarted,
)
from allm_actors.data.audio import FORMATS
from allm_actors.engine.adapter import Call

from .scripted import ScriptedFake

__all__ = ["FakeSpeech", "FakeTranscription"]


class FakeSpeech(ScriptedFake[SpeechResponse]):
    """`speech_script`; `ok` takes bytes, or a list of bytes, which a stream hands out one by one, and which may end
    with an `error(…)`. By itself: the text as UTF-8, word by word.
    """

    script = "speech_script"
    what = "speech"
    error = SpeechAdapterError

    def synthesize(self, request: SpeechRequest, call: Call) -> SpeechResponse:
        """The clip."""
        self.capture(request, call)
        return self.answer(request, call)

    def stream_synthesize(self, request: SpeechRequest, call: Call) -> Iterator[SpeechEvent]:
        """The clip in its pieces; an error that is scripted comes in place of what is left of it."""
        self.capture(request, call)
        events: list[SpeechEvent] = [_started(request, call)]
        try:
            value, fields = self._next(call)
            value, failure = self._cut(value)
            whole = value if isinstance(value, SpeechResponse) else self.build(request, value, fields)
            pieces = [_bytes(whole)] if value is whole else _pieces(request, value)
            events += map(AudioDelta, filter(None, pieces))
            if failure is not None:
                raise failure
            metadata = {**request.metadata, **whole.metadata}
            events.append(
                SpeechCompleted(request_id=call.request_id, id=whole.id, usage=whole.usage, metadata=metadata)
            )
        except AllmError as error:
            events.append(ErrorEvent(error))
        return iter(events)

    def build(self, request: SpeechRequest, value: Any, fields: Mapping[str, Any]) -> SpeechResponse:
        """The scripted bytes, or those of the text."""
        format = request.format or "mp3"
        audio = Audio.from_bytes(b"".join(_pieces(request, value)), FORMATS[format])
        own = {"provider": self.name, "format": format, "sample_rate": request.sample_rate}
        return SpeechResponse(**{**own, **fields, "audio": audio})


class FakeTranscription(ScriptedFake[TranscriptionResponse]):
    """`transcription_script`; `ok` takes a text, or a list of segments, which may end with an `error(…)`. By
    itself: the clip's bytes as UTF-8, which undoes `FakeSpeech`.
    """

    script = "transcription_script"
    what = "transcription"
    error = TranscriptionAdapterError

    def transcribe(self, request: TranscriptionRequest, call: Call) -> TranscriptionResponse:
        """The text."""
        self.capture(request, call)
        return self.answer(request, call)

    def stream_transcribe(self, request: TranscriptionRequest, call: Call) -> Iterator[TranscriptionEvent]:
        """The text, segment by segment: first a guess, then the segment."""
        self.capture(request, call)
        own = {"request_id": call.request_id, "model": request.model, "provider": self.name}
        events: list[TranscriptionEvent] = [TranscriptionStarted(**own)]
        try:
            value, fields = self._next(call)
            value, failure = self._cut(value)
            given = isinstance(value, TranscriptionResponse)
            whole = value if given else self.build(request, value, fields)
            for segment in value if isinstance(value, list) else [whole.text]:
                events += [PartialTranscript(segment[:1]), CommittedTranscript(segment, whole.language)]
            if failure is not None:
                raise failure
            names = ("text", "language", "duration_seconds", "usage")
            events.append(
                TranscriptionCompleted(
                    **{name: getattr(whole, name) for name in names},
                    request_id=call.request_id,
                    metadata={**request.metadata, **whole.metadata},
                )
            )
        except AllmError as error:
            events.append(ErrorEvent(error))
        return iter(events)

    def build(
        self, request: TranscriptionRequest, value: Any, fields: Mapping[str, Any]
    ) -> TranscriptionResponse:
        """The scripted text, or the one in the clip."""
        if value is None:
            value = self._heard(request)
        text = value if isinstance(value, str) else " ".join(filter(None, map(str.strip, value)))
        own = {"provider": self.name, "language": request.language}
        return TranscriptionResponse(**{**own, **fields, "text": text})

    def _heard(self, request: TranscriptionRequest) -> str:
        try:
            return request.audio.to_bytes().decode(errors="replace")
        except (OSError, ValueError) as error:
            message = f"the clip cannot be read: {error}"
            cause = {"cause": "unresolvable_audio"}
            raise self.error("invalid_request", provider=self.name, message=message, metadata=cause) from None


def _pieces(request: SpeechRequest, value: Any) -> list[bytes]:
    if value is None:
        words = request.input.split(" ")
        return [f"{' ' if at else ''}{word}".encode() for at, word in enumerate(words) if word or at]
    return [value] if isinstance(value, bytes) else list(value)


def _bytes(response: SpeechResponse) -> bytes:
    return b"" if response.audio is None else response.audio.to_bytes()


def _started(request: SpeechRequest, call: Call) -> SpeechStarted:
    format = request.format or "mp3"
    return SpeechStarted(
        request_id=call.request_id,
        model=request.model,
        provider="fake",
        format=format,
        mime_type=FORMATS[format],
        sample_rate=request.sample_rate,
    )
