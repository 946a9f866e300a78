"""Laws of speech and transcription.

Rule of this file: a clip is its bytes, and a stream gives the same result as the whole call.
"""

from __future__ import annotations

from typing import Any

from allm_actors import facade
from allm_actors.data import (
    Audio,
    AudioDelta,
    CommittedTranscript,
    ErrorEvent,
    SpeechCompleted,
    SpeechStarted,
    TranscriptionCompleted,
)
from allm_actors.engine.engine import Engine

from .calls import CallScene, CallSuite
from .made import CLIP, TRANSCRIPT
from .scenes import require, says

__all__ = ["SpeechSuite", "TranscriptionSuite"]


class SpeechSuite(CallSuite):
    """Clips, and clips in pieces."""

    name = "speech"
    words = ("Good morning.",)

    def ask(self, engine: Engine, **options: Any) -> Any:
        """Good morning."""
        return facade.synthesize(engine, "Good morning.", **options)

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
        self.sends("voice", "voice-of-the-suite", "voice-of-the-suite")

    def test_the_format_is_sent_or_refused(self) -> None:
        """A caller that can play only one format must not get another."""
        self.sends("format", "opus", "opus", "ogg")

    def test_the_sample_rate_is_sent_or_refused(self) -> None:
        """In Hz, or in kHz: at another rate the sound is too slow, or too fast."""
        self.sends("sample_rate", 22050, "22050", "22.05", "22khz")

    def test_the_instructions_are_sent_or_refused(self) -> None:
        """They say how the text is to be spoken."""
        self.sends("instructions", "like a pirate", "pirate")

    def test_the_speed_is_sent_or_refused(self) -> None:
        """As a factor, or in percent."""
        self.sends("speed", 1.0625, "1.0625", "106.25", "6.25")

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
            _whole(list(facade.stream_synthesize(stage.engine, "Good morning.")))
            sent = stage.all_sent()
        assert says(sent, "Good morning."), (
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

    def test_a_stream_that_breaks_off_ends_with_its_error(self) -> None:
        """As an event, exactly one."""
        _ends_with_its_error(self.told(CallScene(reason="network_error", streamed=True)))

    def told(self, scene: CallScene) -> list[Any]:
        """Every event of a stream."""
        with self.ready(scene) as stage:
            return list(facade.stream_synthesize(stage.engine, "Good morning."))


class TranscriptionSuite(CallSuite):
    """Transcripts, and transcripts in pieces."""

    name = "transcribe"
    clip = Audio.from_bytes(b"Good morning.", "audio/mpeg")
    """A clip that your provider understands."""

    def ask(self, engine: Engine, **options: Any) -> Any:
        """The clip."""
        return facade.transcribe(engine, self.clip, **options)

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

    def test_the_prompt_is_sent_or_refused(self) -> None:
        """It has names and words whose spelling cannot be heard."""
        self.sends("prompt", "with the pirate Schellenursli", "schellenursli")

    def test_the_language_is_sent_or_refused(self) -> None:
        """A clip transcribed as another language becomes nonsense."""
        self.sends("language", "haw", "haw")

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
            _whole(list(facade.stream_transcribe(stage.engine, self.clip)))
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

    def test_a_stream_that_breaks_off_ends_with_its_error(self) -> None:
        """As an event, exactly one."""
        _ends_with_its_error(self.told(CallScene(reason="network_error", streamed=True)))

    def told(self, scene: CallScene) -> list[Any]:
        """Every event of a stream."""
        with self.ready(scene) as stage:
            return list(facade.stream_transcribe(stage.engine, self.clip))


def _whole(told: list[Any]) -> list[Any]:
    """The events of a stream, after checking that it did not fail."""
    errors = [event.error for event in told if isinstance(event, ErrorEvent)]
    assert not errors, f"the provider sent a whole answer, but its stream failed with {errors[0]!r}"
    return told


def _ends_with_its_error(told: list[Any]) -> None:
    kinds = [type(event).__name__ for event in told]
    assert kinds.count(ErrorEvent.__name__) == 1, (
        f"a stream that breaks off must have exactly one ErrorEvent, but this one is {kinds}"
    )
    last = told[-1]
    assert isinstance(last, ErrorEvent), f"nothing may follow the ErrorEvent, but this stream is {kinds}"
    reason = getattr(last.error, "reason", None)
    assert reason == "network_error", f"a connection broke, but the error is {last.error!r}"
