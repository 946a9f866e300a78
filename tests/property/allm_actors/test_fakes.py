"""What a fake is scripted to say it says alike, whole and in pieces; what it cannot say it refuses by its place."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors.data.media.audio import FORMATS
from allm_actors.engine.adapter import Call
from allm_actors.engine.fakes import FakeSpeech, FakeTranscription
from allm_actors.engine.script import stage
from allm_actors.execution.audio import AudioFold, SpeechFold, TranscriptionFold
from allm_actors.execution.fold import fold
from allm_actors.testing import script, strategies

law = settings(max_examples=200, derandomize=True)
NAMES = st.text("abc", min_size=1, max_size=3)
REASONS = sorted(allm.SpeechAdapterError.reasons)
COMMON: dict[str, Any] = {
    **dict.fromkeys(("id", "request_id", "model", "provider"), NAMES),
    "usage": strategies.usage(),
    "metadata": strategies.json_objects(),
}
SOUND = {"format": st.none() | st.sampled_from(sorted(FORMATS)), "sample_rate": st.integers(1, 48000)}
HEARD = {"language": NAMES, "duration_seconds": st.floats(0, 9)}


def breaking_off(pieces: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[Any]:
    failing = st.sampled_from(REASONS).map(script.error)
    return pieces | pieces.map(tuple) | st.builds(lambda some, failure: [*some, failure], pieces, failing)


def entries(values: Any, wholes: Any, fields: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A scripted answer with some of its other fields, a scripted response, or a refusal."""
    others = st.fixed_dictionaries({}, optional={**COMMON, **fields})
    answers = st.builds(lambda value, said: script.ok(value, **said), values, others)
    return answers | wholes.map(script.ok) | st.sampled_from(REASONS).map(script.error)


SPOKEN = entries(
    st.binary(max_size=3) | breaking_off(st.lists(st.binary(max_size=3), max_size=3)),
    strategies.speech_responses(),
    SOUND,
)
WRITTEN = entries(
    st.text(max_size=3) | breaking_off(st.lists(st.text(max_size=3), max_size=3)),
    strategies.transcription_responses(),
    HEARD,
)


def whole(ask: Any, request: Any, entry: Any, name: str) -> Any:
    """What a call came to, as a value: a clip is its bytes, and `raw` is told by no stream."""
    try:
        response = ask(request, Call(request_id="r1", options={name: [entry]}))
    except (allm.AllmError, ValueError) as error:
        return type(error), str(error)
    response = msgspec.structs.replace(response, raw=None)
    if isinstance(response, allm.SpeechResponse):
        clip = allm.Audio(source=("binary", response.audio.to_bytes()), mime_type=response.audio.mime_type)
        response = msgspec.structs.replace(response, audio=clip)
    return response


def folded(fold: AudioFold, stream: Any) -> Any:
    """`stream`, asked like the whole answer."""

    def ask(request: Any, call: Call) -> Any:
        for event in stream(request, call):
            fold.apply(event)
        outcome = fold.outcome()
        if isinstance(outcome, allm.AllmError):
            raise outcome
        return outcome

    return ask


@law
@given(strategies.speech_requests(), SPOKEN)
def test_a_scripted_clip_is_the_fold_of_its_stream(request: Any, entry: Any) -> None:
    streamed = folded(SpeechFold(), FakeSpeech().stream_synthesize)
    name = FakeSpeech.script
    assert whole(streamed, request, entry, name) == whole(FakeSpeech().synthesize, request, entry, name)


@law
@given(strategies.transcription_requests(), WRITTEN)
def test_a_scripted_transcript_is_the_fold_of_its_stream(request: Any, entry: Any) -> None:
    streamed = folded(TranscriptionFold(), FakeTranscription().stream_transcribe)
    name = FakeTranscription.script
    assert whole(streamed, request, entry, name) == whole(
        FakeTranscription().transcribe, request, entry, name
    )


KINDS = (
    *("text", "text_delta", "tool_call", "tool_call_delta", "usage", "raw_chunk", "delay"),
    *("error", "error_event", "stream_error", "finish", "preflight_error", "nope"),
)
ANYTHING = strategies.json_values() | st.sampled_from(["stop", "timeout", RuntimeError("boom"), b"x"])
ENTRIES = st.lists(
    st.builds(lambda kind, values: (kind, *values), st.sampled_from(KINDS), st.lists(ANYTHING, max_size=3)),
    max_size=3,
)


@law
@given(ENTRIES)
def test_a_script_is_played_to_what_can_be_stored_or_refused_by_the_place_of_an_entry(script: Any) -> None:
    try:
        events = stage(script)
    except (TypeError, ValueError) as refusal:
        told = str(refusal)
    else:
        response = fold(events).response()
        assert allm.from_json(allm.to_json(response)) == response
        return
    assert told.startswith("script entry [")


@law
@given(
    st.integers(0, 3),
    st.lists(
        st.none() | st.integers(0, 6).map("c{}".format), max_size=5, unique_by=lambda id: id or object()
    ),
)
def test_calls_of_a_script_have_different_ids_and_those_that_were_given(first: int, given: Any) -> None:
    events = stage([script.tool_call("t", id=id) for id in given], first_call=first)
    ids = [event.id for event in events if isinstance(event, allm.ToolCallStarted)]
    assert len(set(ids)) == len(ids)
    assert [id for id, own in zip(ids, given, strict=True) if own] == [own for own in given if own]
    numbered = {id for id, own in zip(ids, given, strict=True) if not own}
    assert numbered <= {f"c{first + place}" for place in range(len(given))}
