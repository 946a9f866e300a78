"""A stream of sound or text, folded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    AllmError,
    Audio,
    AudioDelta,
    CommittedTranscript,
    ErrorEvent,
    PartialTranscript,
    SpeechAdapterError,
    SpeechCompleted,
    SpeechResponse,
    SpeechStarted,
    TranscriptionCompleted,
    TranscriptionResponse,
    TranscriptionStarted,
    Usage,
)
from allm_actors.execution.audio import SpeechFold, TranscriptionFold
from allm_actors.testing import strategies

STARTED = SpeechStarted(request_id="r1", model="m", provider="p", format="mp3", mime_type="audio/mpeg")


def fold(cls, *events):
    folded = cls()
    for event in events:
        folded.apply(event)
    return folded.outcome()


def test_a_clip():
    done = SpeechCompleted(id="x", usage=Usage(input_tokens=1), metadata={"mine": 1})
    assert fold(SpeechFold, STARTED, AudioDelta(b"ab"), AudioDelta(b"c"), done) == SpeechResponse(
        id="x",
        request_id="r1",
        model="m",
        provider="p",
        audio=Audio.from_bytes(b"abc", "audio/mpeg"),
        format="mp3",
        usage=Usage(input_tokens=1),
        metadata={"mine": 1},
    )


def test_a_transcript():
    events = [
        TranscriptionStarted(request_id="r1", model="m", provider="p", session_id="s1"),
        PartialTranscript("Hel"),
        CommittedTranscript("Hello"),
        TranscriptionCompleted(text="Hello", language="en", duration_seconds=1.5),
    ]
    expected = TranscriptionResponse(
        id="s1", request_id="r1", model="m", provider="p", text="Hello", language="en", duration_seconds=1.5
    )
    assert fold(TranscriptionFold, *events) == expected


def test_what_broke_off_says_how_far_it_came():
    error = SpeechAdapterError("timeout", metadata={"mine": 1})
    broken = fold(SpeechFold, STARTED, AudioDelta(b"abc"), ErrorEvent(error))
    assert broken == SpeechAdapterError("timeout", metadata={"mine": 1, "bytes_received": 3})
    said = [CommittedTranscript(text) for text in ("Hello ", " ", "world")]
    assert fold(TranscriptionFold, *said, ErrorEvent("?")).metadata == {"committed_text": "Hello world"}


@pytest.mark.parametrize(
    "events",
    [[], [STARTED, AudioDelta(b"a")], [AudioDelta(b"a"), SpeechCompleted()], [STARTED, SpeechCompleted()]],
    ids=["nothing", "unfinished", "unstarted", "silent"],
)
def test_half_a_clip_is_malformed(events):
    assert fold(SpeechFold, *events).reason == "malformed_response"


def test_a_transcript_needs_no_beginning():
    assert fold(TranscriptionFold, TranscriptionCompleted(text="a")).text == "a"
    assert fold(TranscriptionFold, TranscriptionStarted()).reason == "malformed_response"


@pytest.mark.parametrize(
    ("cls", "events", "response"),
    [
        (SpeechFold, strategies.speech_events(), SpeechResponse),
        (TranscriptionFold, strategies.transcription_events(), TranscriptionResponse),
    ],
    ids=["speech", "transcription"],
)
def test_any_events_fold_and_nothing_counts_after_the_last_word(cls, events, response):
    @given(st.lists(events, max_size=6))
    def holds(told):
        folded = cls()
        outcomes = []
        for event in told:
            folded.apply(event)
            if folded.over:
                outcomes.append(folded.outcome())
        assert isinstance(folded.outcome(), response | AllmError)
        assert all(outcome == outcomes[0] for outcome in outcomes)

    holds()
