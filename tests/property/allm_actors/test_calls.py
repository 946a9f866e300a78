"""A call that is not chat comes to the same, however it is made: by its plan alone, by a thread, by an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors.engine.adapter import Call
from allm_actors.engine.calls import Answered, Failed, Pause, conduct, patient
from allm_actors.engine.fakes import FakeEmbeddings
from allm_actors.engine.retry import policy_of
from allm_actors.testing import script

law = settings(max_examples=60, derandomize=True)
REASONS = ("rate_limited", "timeout", "network_error", "invalid_request", "context_length_exceeded")
ENTRIES = st.lists(
    st.builds(lambda n: script.ok(None, id=f"answer {n}"), st.integers(0, 9))  # a vector for each text
    | st.sampled_from(REASONS).map(script.error)
    | st.integers(1, 3).map(script.retry_until_call),
    max_size=8,
)


class Loop:
    """The fake, as a coroutine function."""

    name = "fake"

    def __init__(self, fake: FakeEmbeddings) -> None:
        self._fake = fake

    async def embed(self, request: Any, call: Any) -> Any:
        await asyncio.sleep(0)
        return self._fake.embed(request, call)

    def max_batch_size(self) -> int:
        return self._fake.max_batch_size()


def came(ask: Any) -> Any:
    """What a call came to, as one value."""
    try:
        return ask()
    except allm.AdapterError as error:
        return error


def alone(entries: Any, texts: list[str], retry: Any) -> Any:
    """The plan, driven by hand: no process, no time."""
    fake, options = FakeEmbeddings(2), {"embed_script": entries}
    call = Call(request_id="r1", options=options, cursor_key="alone")
    plan = conduct(
        allm.EmbeddingRequest(input=texts), patient(policy_of(retry)), lambda: 0.0, fake.max_batch_size()
    )
    news: Any = None
    while True:
        try:
            step = plan.send(news)
        except StopIteration as over:
            outcome = over.value
            break
        if isinstance(step, Pause):
            news = True
            continue
        try:
            news = Answered(fake.embed(step.request, call))
        except allm.AdapterError as error:
            news = Failed(error)
    if isinstance(outcome, Answered):
        return outcome.response
    assert isinstance(outcome.error, allm.AdapterError)
    fields = outcome.error.to_fields()
    fields["metadata"] = {"request_id": "r1", **outcome.error.metadata}
    return type(outcome.error).from_fields(fields)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_a_call_comes_to_what_its_plan_says(asynchronous: bool) -> None:
    @law
    @given(ENTRIES, st.lists(st.sampled_from("abc"), min_size=1, max_size=5), st.integers(0, 4))
    def holds(entries: Any, texts: list[str], attempts: int) -> None:
        retry = {"max_attempts": attempts, "base_delay": 0.0, "jitter": 0.0}
        fake = FakeEmbeddings(2)
        engine = allm.Engine(
            embed_adapter=Loop(fake) if asynchronous else fake,
            adapter_opts={"embed_script": entries},
            retry=retry,
        )
        assert came(lambda: allm.embed(engine, texts, request_id="r1")) == alone(entries, texts, retry)

    holds()


@law
@given(st.lists(st.binary(max_size=3), min_size=1, max_size=5), st.none() | st.sampled_from(REASONS))
def test_a_clip_in_pieces_is_the_clip_and_half_a_clip_is_its_error(pieces: list[bytes], reason: Any) -> None:
    reason = None if reason not in allm.SpeechAdapterError.reasons else reason
    entry = script.ok([*pieces, script.error(reason)] if reason else pieces)
    engine = allm.Engine(speech_adapter="fake", adapter_opts={"speech_script": [entry] * 2}, retry=False)
    told = list(events := allm.stream_synthesize(engine, "x", request_id="r1"))
    streamed = came(events.result)
    whole = came(lambda: allm.synthesize(engine, "x", request_id="r1"))
    data = b"".join(event.data for event in told if isinstance(event, allm.AudioDelta))
    assert data == b"".join(pieces)
    if reason:
        assert streamed.reason == whole.reason == reason
        assert streamed.metadata["bytes_received"] == len(data)
    elif data:
        assert streamed == whole
        assert streamed.audio.to_bytes() == data
    else:
        assert streamed.reason == "malformed_response"
