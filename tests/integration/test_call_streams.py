"""A clip and a transcript in pieces: lazy, bounded, closed once, ended once, whatever dies."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors import default_host
from allm_actors.actors.calls.streamer import StreamCallActor
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.testing import script
from supervisors import exit as exit_process
from tests.integration.calling import (
    CALLS,
    CLIP,
    made,
    measured,
    scripted,
    with_adapter,
    workers,
)
from tests.integration.stage import until

STREAMS = pytest.mark.parametrize("name", ["speech", "transcribe"])


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    until(lambda: workers() == [])


def stream(name: str, api: Any, engine: Any, **options: Any) -> Any:
    if name == "speech":
        return api.stream_synthesize(engine, "a cat", **options)
    return api.stream_transcribe(engine, CLIP, **options)


PIECES = {"speech": [b"ab", b"c"], "transcribe": ["Hello ", "", " world"]}
TAGS = {
    "speech": ["speech_started", "audio_delta", "audio_delta", "speech_completed"],
    "transcribe": [
        "transcription_started",
        *["partial_transcript", "committed_transcript"] * 3,
        "transcription_completed",
    ],
}


@STREAMS
def test_a_stream_is_told_piece_by_piece_and_folds_to_the_response(name: str) -> None:
    engine = scripted(name, *[script.ok(PIECES[name])] * 3)
    with stream(name, allm, engine, request_id="r1") as events:
        assert [event.tag for event in events] == TAGS[name]
        told = events.result()
    whole = CALLS[name](allm, engine, request_id="r1")
    assert told == whole
    assert stream(name, allm, engine, request_id="r1").result() == whole


@STREAMS
def test_a_stream_can_be_read_on_an_event_loop(name: str) -> None:
    async def main() -> Any:
        async with stream(name, allm.aio, scripted(name, script.ok(PIECES[name]))) as events:
            return [event.tag async for event in events], await events

    tags, response = asyncio.run(main())
    assert tags == TAGS[name]
    assert isinstance(response, CAPABILITIES[name].response)


@STREAMS
def test_half_an_answer_is_an_event_for_the_reader_and_raised_by_the_result(name: str) -> None:
    engine = scripted(name, script.ok([*PIECES[name], script.error("network_error")]))
    with measured() as heard:
        events = stream(name, allm, engine, request_id="r1")
        told = list(events)
        with pytest.raises(CAPABILITIES[name].error) as broken:
            events.result()
    assert isinstance(told[-1], allm.ErrorEvent)
    assert told[-1].error.reason == broken.value.reason == "network_error"
    so_far = {"speech": ("bytes_received", 3), "transcribe": ("committed_text", "Hello world")}[name]
    assert so_far in broken.value.metadata.items()
    assert broken.value.metadata["request_id"] == "r1"
    assert heard[-1].name == f"allm.{name}.stop"
    assert heard[-1].metadata["error"] == broken.value


@STREAMS
def test_nothing_happens_before_the_first_pull(name: str) -> None:
    pulled: list[int] = []

    def work(_request: Any, _call: Any) -> Any:
        pulled.append(1)
        yield allm.ErrorEvent(CAPABILITIES[name].error("unknown"))

    with measured() as heard:
        events = stream(name, allm, streaming(name, work))
        assert (pulled, heard, workers()) == ([], [], [])
        assert len(list(events)) == 1
        events = stream(name, allm, streaming(name, work))
        events.close()
        with pytest.raises(allm.StreamError, match="closed before it began"):
            events.result()
    assert pulled == [1]


def streaming(name: str, work: Any) -> allm.Engine:
    method = CAPABILITIES[name].stream_method
    adapter = type(
        "Streaming", (), {"name": "made", method: lambda _self, request, call: work(request, call)}
    )()
    return allm.Engine(**{CAPABILITIES[name].slot: adapter})


@STREAMS
@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_leaving_a_stream_closes_it_once(name: str, asynchronous: bool) -> None:
    closed: list[int] = []
    done = threading.Event()
    event = allm.AudioDelta(b"x") if name == "speech" else allm.PartialTranscript("x")

    def blocking(_request: Any, _call: Any) -> Any:
        try:
            while True:
                yield event
        finally:
            closed.append(1)
            done.set()

    async def awaited(_request: Any, _call: Any) -> Any:
        try:
            while True:
                await asyncio.sleep(0)
                yield event
        finally:
            closed.append(1)
            done.set()

    with stream(name, allm, streaming(name, awaited if asynchronous else blocking)) as events:
        assert [next(events) for _ in range(3)] == [event] * 3
    assert done.wait(5)
    until(lambda: workers() == [])
    assert closed == [1]


@STREAMS
def test_an_adapter_is_never_far_ahead_of_its_reader(name: str) -> None:
    given: list[int] = []
    event = allm.AudioDelta(b"x") if name == "speech" else allm.PartialTranscript("x")

    def endless(_request: Any, _call: Any) -> Any:
        while True:
            given.append(1)
            yield event

    with stream(name, allm, streaming(name, endless)) as events:
        lead = [len(given) - taken for taken, _ in enumerate(itertools.islice(events, 3000))]
    assert (
        max(lead) < 2 * 256 + 32
    )  # what the reader took at once, as much again in the channel, and the lead of a worker


@STREAMS
def test_too_long_a_silence_ends_a_stream(name: str) -> None:
    free = threading.Event()

    def silent(_request: Any, _call: Any) -> Any:
        free.wait(30)
        yield from ()

    try:
        events = stream(name, allm, streaming(name, silent), stream_timeout=0.05)
        told = list(events)
    finally:
        free.set()
    assert [(type(e), e.error.reason) for e in told] == [(allm.ErrorEvent, "timeout")]
    assert "stream_timeout" in str(told[0].error)


@STREAMS
def test_a_reader_who_is_behind_is_not_the_streams_silence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, look = threading.Event(), StreamCallActor._silent

    def silent(self: Any) -> None:
        look(self)
        looked.set()

    def many(_request: Any, _call: Any) -> Iterator[Any]:
        yield from [piece] * 600
        yield last

    monkeypatch.setattr(StreamCallActor, "_silent", silent)
    piece: Any = allm.AudioDelta(b"x") if name == "speech" else allm.PartialTranscript("x")
    last: Any = allm.ErrorEvent(CAPABILITIES[name].error("unknown"))
    with stream(name, allm, streaming(name, many), stream_timeout=0.05) as events:
        next(events)
        assert looked.wait(5)
        assert [event.error.reason for event in events if isinstance(event, allm.ErrorEvent)] == ["unknown"]


@STREAMS
def test_a_response_of_a_stream_that_says_no_id_has_that_of_the_request(name: str) -> None:
    clip = [allm.SpeechStarted(), allm.AudioDelta(b"x"), allm.SpeechCompleted()]
    heard = [allm.TranscriptionStarted(), allm.TranscriptionCompleted(text="x")]
    events: Any = clip if name == "speech" else heard
    engine = streaming(name, lambda _request, _call: iter(events))
    assert stream(name, allm, engine, request_id="r1").result().request_id == "r1"


@STREAMS
def test_a_stream_costs_what_its_model_is_known_to_cost(name: str) -> None:
    used = allm.Usage(input_tokens=1_000_000, output_tokens=500_000)
    clip = [allm.SpeechStarted(), allm.AudioDelta(b"x"), allm.SpeechCompleted(usage=used)]
    heard = [allm.TranscriptionStarted(), allm.TranscriptionCompleted(text="x", usage=used)]
    events: Any = clip if name == "speech" else heard
    engine = streaming(name, lambda _request, _call: iter(events))
    known = allm.ModelRef(id="m", pricing={"input": 2.0, "output": 8.0})
    assert stream(name, allm, engine, model=known).result().usage.total_cost == 6.0


@STREAMS
def test_what_is_no_event_of_such_a_stream_is_not_shown(name: str) -> None:
    event = allm.AudioDelta(b"x") if name == "speech" else allm.PartialTranscript("x")
    other = allm.PartialTranscript("x") if name == "speech" else allm.AudioDelta(b"x")

    def mixed(_request: Any, _call: Any) -> Any:
        yield from (allm.TextDelta("x"), event, 5, other, None)

    told = list(stream(name, allm, streaming(name, mixed)))
    assert told[:-1] == [event]
    assert isinstance(told[-1], allm.ErrorEvent)


@STREAMS
def test_a_stream_that_just_ends_is_malformed(name: str) -> None:
    events = stream(name, allm, streaming(name, lambda _request, _call: iter(())))
    assert [event.error.reason for event in events] == ["malformed_response"]


@STREAMS
@pytest.mark.parametrize("who", ["StreamCallActor", "BlockingAdapterActor"])
def test_a_killed_stream_has_its_end_all_the_same(name: str, who: str) -> None:
    free = threading.Event()
    event = allm.AudioDelta(b"x") if name == "speech" else allm.PartialTranscript("x")

    def work(_request: Any, _call: Any) -> Any:
        yield event
        free.wait(30)

    events = stream(name, allm, streaming(name, work))
    assert next(events) == event
    refs = default_host().system.processes()
    exit_process(next(ref for ref in refs if ref.actor_class.__name__ == who), "kill")
    rest = list(events)
    free.set()
    assert [type(each) for each in rest] == [allm.ErrorEvent]
    assert rest[0].error.metadata["cause"] == "adapter_died"
    with pytest.raises(CAPABILITIES[name].error):
        events.result()


@STREAMS
def test_what_a_stream_refuses_at_once_is_raised_in_its_caller(name: str) -> None:
    def refuses(_request: Any, _call: Any) -> Any:
        raise CAPABILITIES[name].error("unsupported_feature")

    with measured() as heard, pytest.raises(CAPABILITIES[name].error, match="unsupported_feature"):
        stream(name, allm, streaming(name, refuses))
    assert [event.name.split(".")[2] for event in heard] == ["start", "stop"]
    with pytest.raises(allm.EngineError) as missing:
        stream(name, allm, with_adapter(name, made(name, lambda _request, _call: None)))
    assert missing.value.reason == "missing_stream_adapter"
    with pytest.raises(allm.EngineError, match="returned None, not an iterator of events") as nothing:
        stream(name, allm, streaming(name, lambda _request, _call: None))
    assert nothing.value.reason == "invalid_engine"
