"""The scripted speech and transcription.

Rule of this file: without scripts they are inverse to each other; a stream is made from the response of the
whole call.
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
from allm_actors.data.media.audio import FORMATS
from allm_actors.data.predicates import one_of
from allm_actors.engine.adapter import Call

from .scripted import ScriptedFake

__all__ = ["FakeSpeech", "FakeTranscription"]


class FakeSpeech(ScriptedFake[SpeechResponse]):
    """`speech_script`; `ok` takes bytes, or a list of bytes, which a stream yields one by one, and which may
    end with an `error(…)`. Default answer: the text as UTF-8, word by word.
    """

    script = "speech_script"
    what = "speech"
    takes = "bytes, or a list of bytes"
    error = SpeechAdapterError
    response = SpeechResponse

    def synthesize(self, request: SpeechRequest, call: Call) -> SpeechResponse:
        """The clip. Raises `malformed_response` for one without a single byte, as every provider's adapter does."""
        self.capture(request, call)
        return self._audible(self.answer(request, call))

    def stream_synthesize(self, request: SpeechRequest, call: Call) -> Iterator[SpeechEvent]:
        """The clip in its pieces; a scripted error comes in place of the rest."""
        self.capture(request, call)
        events: list[SpeechEvent] = []
        try:
            value, fields, failure = self.take(call)
            whole = self.whole(request, call, value, fields)
            pieces = [_bytes(whole)] if isinstance(value, SpeechResponse) else self._pieces(request, value)
            events += [_speech_started(whole), *map(AudioDelta, filter(None, pieces))]
            if failure is not None:
                raise failure
            events.append(_speech_completed(self._audible(whole)))
        except AllmError as error:
            events.append(ErrorEvent(error))
        return iter(events)

    def build(self, request: SpeechRequest, value: Any, fields: Mapping[str, Any]) -> SpeechResponse:
        """The scripted bytes, or those of the text."""
        own = {"provider": self.name, "format": request.format or "mp3", "sample_rate": request.sample_rate}
        said = {**own, **fields}
        data = b"".join(self._pieces(request, value))
        audio = Audio(source=("binary", data), mime_type=_mime(said["format"]))
        return SpeechResponse(**{**said, "audio": audio})

    def _pieces(self, request: SpeechRequest, value: Any) -> list[bytes]:
        if value is None:
            words = request.input.split(" ")
            said = [f"{' ' if at else ''}{word}" for at, word in enumerate(words) if word or at]
            return list(map(self._encoded, said))
        return [value] if isinstance(value, bytes) else self.items(value, bytes)

    def _encoded(self, text: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            message = f"the request has a text that is not valid Unicode: {error.reason}"
            raise self.error("invalid_request", provider=self.name, message=message) from None

    def _audible(self, response: SpeechResponse) -> SpeechResponse:
        if not _bytes(response):
            raise self.error("malformed_response", provider=self.name, message="the clip is empty")
        return response


class FakeTranscription(ScriptedFake[TranscriptionResponse]):
    """`transcription_script`; `ok` takes a text, or a list of segments, which may end with an `error(…)`.
    Default answer: the clip's bytes as UTF-8, which is the inverse of `FakeSpeech`.
    """

    script = "transcription_script"
    what = "transcription"
    takes = "a text, or a list of texts"
    error = TranscriptionAdapterError
    response = TranscriptionResponse

    def transcribe(self, request: TranscriptionRequest, call: Call) -> TranscriptionResponse:
        """The text."""
        self.capture(request, call)
        return self.answer(request, call)

    def stream_transcribe(self, request: TranscriptionRequest, call: Call) -> Iterator[TranscriptionEvent]:
        """The text, segment by segment: first a guess, then the segment."""
        self.capture(request, call)
        events: list[TranscriptionEvent] = []
        try:
            value, fields, failure = self.take(call)
            whole = self.whole(request, call, value, fields)
            events.append(_transcription_started(whole))
            for segment in value if isinstance(value, list | tuple) else [whole.text]:
                events += [PartialTranscript(segment[:1]), CommittedTranscript(segment, whole.language)]
            if failure is not None:
                raise failure
            events.append(_transcription_completed(whole))
        except AllmError as error:
            events.append(ErrorEvent(error))
        return iter(events)

    def build(
        self, request: TranscriptionRequest, value: Any, fields: Mapping[str, Any]
    ) -> TranscriptionResponse:
        """The scripted text, or the one in the clip."""
        if value is None:
            value = self._heard(request)
        text = value
        if not isinstance(value, str):
            text = " ".join(filter(None, map(str.strip, self.items(value, str))))
        own = {"provider": self.name, "language": request.language}
        return TranscriptionResponse(**{**own, **fields, "text": text})

    def _heard(self, request: TranscriptionRequest) -> str:
        try:
            return request.audio.to_bytes().decode(errors="replace")
        except (OSError, ValueError) as error:
            message = f"the clip cannot be read: {error}"
            cause = {"cause": "unresolvable_audio"}
            raise self.error("invalid_request", provider=self.name, message=message, metadata=cause) from None


def _bytes(response: SpeechResponse) -> bytes:
    audio: Any = response.audio
    if not isinstance(audio, Audio | None):
        raise TypeError(
            f"audio of a SpeechResponse in speech_script must be an Audio, got: {type(audio).__name__}"
        )
    try:
        return b"" if audio is None else audio.to_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"speech_script has a clip that cannot be read: {error}") from None


def _mime(format: Any) -> str | None:
    """The MIME type of a format; None for None, an unknown format. Raises ValueError for any other value."""
    if format is None:
        return None
    if not one_of(format, FORMATS):
        raise ValueError(
            f"format in speech_script must be one of {', '.join(FORMATS)}, or None, got: {format!r}"
        )
    return FORMATS[format]


def _speech_started(whole: SpeechResponse) -> SpeechStarted:
    return SpeechStarted(
        request_id=whole.request_id,
        model=whole.model,
        provider=whole.provider,
        format=whole.format,
        mime_type=None if whole.audio is None else whole.audio.mime_type,
        sample_rate=whole.sample_rate,
    )


def _speech_completed(whole: SpeechResponse) -> SpeechCompleted:
    return SpeechCompleted(
        request_id=whole.request_id, id=whole.id, usage=whole.usage, metadata=whole.metadata
    )


def _transcription_started(whole: TranscriptionResponse) -> TranscriptionStarted:
    return TranscriptionStarted(
        request_id=whole.request_id, model=whole.model, provider=whole.provider, session_id=whole.id
    )


def _transcription_completed(whole: TranscriptionResponse) -> TranscriptionCompleted:
    return TranscriptionCompleted(
        text=whole.text,
        language=whole.language,
        duration_seconds=whole.duration_seconds,
        request_id=whole.request_id,
        usage=whole.usage,
        metadata=whole.metadata,
    )
