"""Laws of speech and transcription.

Rule of this file: a clip is its bytes, and a stream gives the same result as the whole call.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from allm_actors import facade
from allm_actors.data import (
    Audio,
    AudioDelta,
    CommittedTranscript,
    EngineError,
    ErrorEvent,
    SpeechCompleted,
    SpeechStarted,
    TranscriptionCompleted,
)
from allm_actors.engine.engine import Engine

from .calls import (
    KEY,
    LETTERS,
    METADATA,
    NOTE,
    REQUEST_ID,
    TENANTS,
    CallScene,
    CallSuite,
    TextSuite,
    skip_if_played_out,
)
from .made import CLIP, TRANSCRIPT
from .scenes import AGAIN, Stage, require, says, skip

__all__ = ["SpeechSuite", "TranscriptionSuite"]


class StreamedSuite(CallSuite):
    """The laws of an answer that comes in pieces. A stream is another method of the adapter: what the one for whole
    answers sends, it can forget.
    """

    wishes: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """The options of a call, and what the laws ask for: a value, and the words of which one must be sent."""

    def stream(self, engine: Engine, **options: Any) -> Any:
        """The plainest stream, not begun yet."""
        raise NotImplementedError

    def stream_about(self, engine: Engine, text: str, **options: Any) -> Any:  # noqa: ARG002
        """A stream about this text; of what takes no text, the plainest one."""
        return self.stream(engine, **options)

    def test_streams_at_once_are_each_their_own(self) -> None:
        """Two that are open, each with a key and an input of its own, before the first is read."""
        scene = CallScene(streamed=True)
        with self.ready(scene) as stage:
            keyed = self.takes_keys(stage, lambda _, **options: self.streamed(stage, **options))
            self.skip_unless_told_apart(keyed, stage.sent is not None)
            begun = [self.serves(stage, self.begun, tenant, keyed) for tenant in TENANTS[:2]]
            for told in map(list, begun):
                for event in told:
                    skip_if_played_out(getattr(event, "error", None))
                _whole(told)
            self.has_served(stage, TENANTS[:2], keyed)
            one, other = (self.content(stream.result()) for stream in begun)
        assert one == other, (
            f"the provider made the same of two streams, but they came to {one!r} and {other!r}: keep nothing of a "
            "stream on the adapter"
        )

    def content(self, response: Any) -> Any:
        """What the provider has made."""
        raise NotImplementedError

    def test_a_stream_has_the_key_of_the_call(self) -> None:
        """As a whole answer has."""
        with self.ready(CallScene(streamed=True)) as stage:
            self.tries(stage, "api_key", lambda: self.streamed(stage, api_key=KEY))
            used = KEY in stage.last_key()  # the other key is nobody's to read: pytest would print it
        assert used, "a stream has an api_key, but another key was sent: use call.api_key if there is one"

    def test_a_stream_sends_every_option_or_refuses_it(self) -> None:
        """What a whole answer is asked with, its stream is asked with."""
        common = {"model": (self.model, self.model), "options": ({"seed": 1019}, "1019")}
        for wish, (value, *words) in {**common, **self.wishes}.items():
            with self.ready(CallScene(streamed=True)) as stage:
                ask = functools.partial(self.streamed, stage, **{wish: value})
                if self.refusal(stage, wish, ask) is not None:
                    continue
                sent = stage.all_sent().casefold()
            assert any(says(sent, word.casefold()) for word in words), (
                f"{wish}={value!r} was requested of a stream, but was not sent: {self.send_or_refuse}"
            )

    def test_a_stream_returns_the_metadata_and_does_not_send_it(self) -> None:
        """With its last event."""
        with self.ready(CallScene(streamed=True)) as stage:
            told = _whole(list(self.opened(stage, metadata={**METADATA, "note": NOTE})))
            sent = stage.all_sent() if stage.sent is not None else ""
        returned = getattr(told[-1], "metadata", {}) if told else {}
        assert {name: returned.get(name) for name in METADATA} == METADATA, (
            f"the metadata {METADATA} of a stream's request came back as {returned}: give metadata=request.metadata "
            "to its last event"
        )
        assert NOTE not in sent, (
            "the metadata of a stream's request was sent to the provider: it belongs to the caller, and must only be "
            "returned"
        )

    def test_a_stream_with_a_refused_key_ends_with_its_error(self) -> None:
        """HTTP 401."""
        self.refuses_a_stream("authentication_failed")

    def test_a_stream_that_is_rate_limited_says_how_long_to_wait(self) -> None:
        """HTTP 429."""
        error = self.refuses_a_stream("rate_limited", retry_after_ms=500)
        assert error.retry_after_ms == 500, (
            f"the provider asked to wait 500 ms: give retry_after_ms=500 to {error!r}"
        )

    def test_a_stream_is_asked_for_once(self) -> None:
        """Nobody tries a stream again: neither the library, whatever `retry` says, nor an adapter."""
        scene = CallScene(reason="provider_unavailable")
        with self.ready(scene) as stage:
            stage.asked()  # skips at once where nobody counts
            self.raised(scene, lambda: self.streamed(stage, retry=AGAIN, request_id=REQUEST_ID))
            count = stage.asked()
        assert count == 1, (
            f"requests: {count}, for a stream that was refused; make one request, and tell its error: a stream is "
            "never tried again"
        )

    def test_a_stream_that_breaks_off_ends_with_its_error(self) -> None:
        """As an event, exactly one."""
        told = self.told(CallScene(reason="network_error", streamed=True))
        kinds = [type(event).__name__ for event in told]
        assert kinds.count(ErrorEvent.__name__) == 1, (
            f"a stream that breaks off must have exactly one ErrorEvent, but this one is {kinds}"
        )
        last = told[-1]
        assert isinstance(last, ErrorEvent), f"nothing may follow the ErrorEvent, but this stream is {kinds}"
        reason = getattr(last.error, "reason", None)
        assert reason == "network_error", f"a connection broke, but the error is {last.error!r}"

    def refuses_a_stream(self, reason: str, retry_after_ms: int | None = None) -> Any:
        """The error of a stream that the provider refuses before its first piece, after checking it."""
        scene = CallScene(reason=reason, retry_after_ms=retry_after_ms)
        with self.ready(scene) as stage:
            return self.raised(scene, lambda: self.streamed(stage, request_id=REQUEST_ID))

    def told(self, scene: CallScene) -> list[Any]:
        """Every event of a stream."""
        with self.ready(scene) as stage:
            return list(self.opened(stage))

    def streamed(self, stage: Stage, **options: Any) -> Any:
        """What a stream comes to. Raises its error."""
        return self.opened(stage, **options).result()

    def opened(self, stage: Stage, **options: Any) -> Any:
        """The plainest stream, not begun yet. Skips the law where the adapter has none."""
        return self.begun(stage.engine, None, **options)

    def begun(self, engine: Engine, text: str | None, **options: Any) -> Any:
        """A stream that is not begun yet, about a text or the plainest one. Skips the law where there are none."""
        try:
            return (
                self.stream(engine, **options) if text is None else self.stream_about(engine, text, **options)
            )
        except EngineError as error:
            if error.reason != "missing_stream_adapter":
                raise
            skip(f"this adapter has no streams, which is allowed: {error}")


class SpeechSuite(StreamedSuite, TextSuite):
    """Clips, and clips in pieces."""

    name = "speech"
    words = (f"Good morning. {LETTERS}",)
    wishes: ClassVar[dict[str, tuple[Any, ...]]] = {
        "voice": ("voice-of-the-suite", "voice-of-the-suite"),
        "format": ("opus", "opus", "ogg"),
        "sample_rate": (22050, "22050", "22.05", "22khz"),
        "instructions": ("like a pirate", "pirate"),
        "speed": (1.0625, "1.0625", "106.25", "6.25"),
    }

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Good morning."""
        return self.ask_about(engine, self.words[0], **options)

    def ask_about(self, engine: Engine, text: str, **options: Any) -> Any:
        """This text."""
        return facade.synthesize(engine, text, **options)

    def stream(self, engine: Engine, **options: Any) -> Any:
        """The same in pieces."""
        return self.stream_about(engine, self.words[0], **options)

    def stream_about(self, engine: Engine, text: str, **options: Any) -> Any:
        """This text in pieces."""
        return facade.stream_synthesize(engine, text, **options)

    def content(self, response: Any) -> bytes:
        """The clip."""
        return bytes(response.audio.to_bytes())

    def test_the_clip_has_bytes_and_a_type(self) -> None:
        """`audio/…`, and the format that came."""
        audio = self.answered().audio
        assert audio.to_bytes(), "the clip is empty"
        assert audio.mime_type.startswith("audio/"), (
            f"a clip's type must be audio/…, but it is {audio.mime_type!r}"
        )

    def test_the_clip_is_the_one_that_was_made(self) -> None:
        """To its last byte."""
        scene = CallScene()
        with self.ready(scene) as stage:
            got = self.ask(stage.engine).audio.to_bytes()
        message = (
            f"the provider made the clip {CLIP!r}, but {got[:99]!r} came back: return its bytes unchanged"
        )
        require(got == CLIP, scene, "clip", message)

    def test_the_voice_is_sent_or_refused(self) -> None:
        """A caller who names a voice must not silently get another."""
        self.sends("voice", *self.wishes["voice"])

    def test_the_format_is_sent_or_refused(self) -> None:
        """A caller that can play only one format must not get another."""
        self.sends("format", *self.wishes["format"])

    def test_the_sample_rate_is_sent_or_refused(self) -> None:
        """In Hz, or in kHz: at another rate the sound is too slow, or too fast."""
        self.sends("sample_rate", *self.wishes["sample_rate"])

    def test_the_instructions_are_sent_or_refused(self) -> None:
        """They say how the text is to be spoken."""
        self.sends("instructions", *self.wishes["instructions"])

    def test_the_speed_is_sent_or_refused(self) -> None:
        """As a factor, or in percent."""
        self.sends("speed", *self.wishes["speed"])

    def test_a_stream_is_a_beginning_pieces_and_an_end(self) -> None:
        """No piece is empty, and nothing follows the end."""
        told = _whole(self.told(CallScene(streamed=True)))
        kinds = [type(event).__name__ for event in told]
        assert len(told) > 2, (
            f"a stream must be SpeechStarted, AudioDeltas and SpeechCompleted, but this one is {kinds}"
        )
        first, *pieces, last = told
        assert isinstance(first, SpeechStarted), (
            f"a stream must begin with SpeechStarted, but this one is {kinds}"
        )
        assert isinstance(last, SpeechCompleted), (
            f"a stream must end with SpeechCompleted, but this one is {kinds}"
        )
        for piece in pieces:
            assert isinstance(piece, AudioDelta), (
                f"between its first and last event the stream has {piece!r}, which is not an AudioDelta"
            )
            assert piece.data, "an AudioDelta is empty: leave it out"

    def test_a_stream_is_asked_for_the_text(self) -> None:
        """As a whole clip is."""
        with self.ready(CallScene(streamed=True)) as stage:
            _whole(list(self.opened(stage)))
            sent = stage.all_sent()
        assert says(sent, self.words[0]), (
            "a stream was requested, but the text was not sent: send request.input"
        )

    def test_a_stream_comes_to_the_clip_that_was_made(self) -> None:
        """Its pieces, in their order, and nothing twice."""
        scene = CallScene(streamed=True)
        got = b"".join(event.data for event in _whole(self.told(scene)) if isinstance(event, AudioDelta))
        message = (
            f"the provider made the clip {CLIP!r}, but the AudioDeltas of its stream add up to {got[:99]!r}: "
            "yield each piece unchanged"
        )
        require(got == CLIP, scene, "clip", message)


class TranscriptionSuite(StreamedSuite):
    """Transcripts, and transcripts in pieces."""

    name = "transcribe"
    wishes: ClassVar[dict[str, tuple[Any, ...]]] = {
        "prompt": ("with the pirate Schellenürsli", "schellenürsli"),
        "language": ("haw", "haw"),
    }
    clip: Audio = Audio.from_bytes(b"Good morning.", "audio/mpeg")
    """A clip that your provider understands."""

    def ask(self, engine: Engine, **options: Any) -> Any:
        """The clip."""
        return facade.transcribe(engine, self.clip, **options)

    def stream(self, engine: Engine, **options: Any) -> Any:
        """The same in pieces."""
        return facade.stream_transcribe(engine, self.clip, **options)

    def content(self, response: Any) -> str:
        """The transcript."""
        return str(response.text)

    def test_there_is_a_text(self) -> None:
        """Of the clip, which says something."""
        assert self.answered().text, "a clip with speech became an empty text"

    def test_the_transcript_is_the_one_that_was_made(self) -> None:
        """To its last letter; what it begins and ends with may be trimmed."""
        scene = CallScene()
        with self.ready(scene) as stage:
            got = self.ask(stage.engine).text
        message = f"the provider heard {TRANSCRIPT!r}, but {got!r} came back: return its text unchanged"
        require(got.strip() == TRANSCRIPT, scene, "transcript", message)

    def test_the_clip_is_sent(self) -> None:
        """A transcript is of what was said, all of it."""
        with self.ready(CallScene()) as stage:
            self.ask(stage.engine)
            held = stage.holds(self.clip.to_bytes())
        assert held, (
            "the bytes of request.audio were not sent, neither raw nor in base64: send request.audio.to_bytes()"
        )

    def test_the_type_of_the_clip_is_sent_or_refused(self) -> None:
        """A clip that is read as one of another type is noise."""
        self.skip_if_without("mime_type")
        clip = Audio.from_bytes(self.clip.to_bytes(), "audio/flac")
        with self.ready(CallScene()) as stage:
            self.tries(stage, "audio", lambda: facade.transcribe(stage.engine, clip))
            sent = stage.all_sent()
        assert "flac" in sent.casefold(), (
            f"the clip is of the type {clip.mime_type!r}, but that was not sent: {self.send_or_refuse}; or set "
            "without = ('mime_type',) in your suite, if your provider finds out by itself"
        )

    def test_the_prompt_is_sent_or_refused(self) -> None:
        """It has names and words whose spelling cannot be heard."""
        self.sends("prompt", *self.wishes["prompt"])

    def test_the_language_is_sent_or_refused(self) -> None:
        """A clip transcribed as another language becomes nonsense."""
        self.sends("language", *self.wishes["language"])

    def test_a_stream_ends_with_all_that_it_committed(self) -> None:
        """Trimmed, and joined with one space."""
        told = _whole(self.told(CallScene(streamed=True)))
        assert told, "a stream of an answer has no events"
        last = told[-1]
        assert isinstance(last, TranscriptionCompleted), (
            f"a stream must end with TranscriptionCompleted, not {last!r}"
        )
        committed = [event.text.strip() for event in told if isinstance(event, CommittedTranscript)]
        whole = " ".join(text for text in committed if text)
        assert last.text == whole, f"the stream committed {committed}, but its last event has {last.text!r}"

    def test_a_stream_is_asked_for_the_clip(self) -> None:
        """As a whole transcript is."""
        with self.ready(CallScene(streamed=True)) as stage:
            _whole(list(self.opened(stage)))
            held = stage.holds(self.clip.to_bytes())
        assert held, "a stream was requested, but the bytes of request.audio were not sent: send them"

    def test_a_stream_comes_to_the_transcript_that_was_made(self) -> None:
        """Its last event has all of it."""
        scene = CallScene(streamed=True)
        told = _whole(self.told(scene))
        got = getattr(told[-1], "text", "") if told else ""
        message = (
            f"the provider heard {TRANSCRIPT!r}, but the stream ends with {got!r}: lose none of its pieces"
        )
        require(got.strip() == TRANSCRIPT, scene, "transcript", message)


def _whole(told: list[Any]) -> list[Any]:
    """The events of a stream, after checking that it did not fail."""
    errors = [event.error for event in told if isinstance(event, ErrorEvent)]
    assert not errors, f"the provider sent a whole answer, but its stream failed with {errors[0]!r}"
    return told
