"""However a call is made, the same comes of it: whole or as a stream, awaited or not, in a session or without one.

Agreement is judged against a driver of the pure machine that knows no actor. `HYPOTHESIS_PROFILE=thorough` looks
longer.
"""

import os

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors.data import ChatCompleted, Request, Thread
from allm_actors.data.rules.validate import validate

from . import drivers
from .drivers import HI, Case, Loop, Pure, cases, fold_as, outcome, shape, shown

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
law = settings(max_examples=2000 if THOROUGH else 80, derandomize=not THOROUGH)
PROVIDER = {
    "message_started",
    "text_delta",
    "text_completed",
    "tool_call_started",
    "tool_call_delta",
    "tool_call_completed",
    "message_completed",
    "raw_chunk",
    "error",
}


@pytest.fixture(scope="module")
def loop():
    running = Loop()
    yield running
    running.close()


@pytest.fixture(scope="module")
def host_on(tmp_path_factory):
    hosts = {name: allm.Host(dispatcher=name) for name in ("loop", "pool", "threads")}
    hosts["sqlite"] = allm.Host(store=tmp_path_factory.mktemp("store") / "sessions.db")
    for host in hosts.values():
        host.start()
    yield hosts
    for host in hosts.values():
        host.stop()


@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
def test_a_call_is_its_stream_folded(kind, loop):
    @law
    @given(cases(kind))
    def holds(case):
        expected = outcome(Pure(kind, case))
        assert outcome(drivers.whole, kind, case) == expected
        assert outcome(loop.whole, kind, case) == expected
        if kind == "generate":  # nothing but deltas knows of a call that was never completed
            assume(case.filters.get("emit_tool_deltas", True))
        assert outcome(drivers.folded, kind, case) == expected
        assert outcome(loop.folded, kind, case) == expected

    holds()


@pytest.mark.parametrize("kind", ["step", "chat"])
def test_the_stream_shows_what_the_machine_emits(kind):
    @law
    @given(cases(kind))
    def holds(case):
        reference = Pure(kind, case)
        if outcome(reference)[0] == "raised":
            return
        assert shown(drivers.unfiltered(case, kind)) == shown(reference.events)

    holds()


@law
@given(cases("chat"))
def test_an_observer_is_told_what_the_provider_says_and_nothing_else(case):
    reference = Pure("chat", case)
    if outcome(reference)[0] == "raised":
        return
    said = [shape(event) for event in reference.events if event.tag in PROVIDER]
    assert [shape(event) for event in drivers.observed(case, "chat")] == said


@law
@given(cases("chat"))
def test_a_chat_without_its_last_event_folds_to_all_that_can_be_known(case):
    reference = Pure("chat", case)
    verdict, _ = outcome(reference)
    if verdict == "raised":
        return
    *events, last = drivers.unfiltered(case, "chat")
    assert isinstance(last, ChatCompleted)
    whole, known = last.result, fold_as("chat", events)
    failed = drivers.has_error(events) or any(step.response.finish_reason == "error" for step in whole.steps)
    assert known.halted_reason == ("error" if failed else "cancelled")
    assert shape(known.steps) == shape(whole.steps)
    if whole.steps:
        assert shape(known.final_response) == shape(whole.final_response)
        assert shape(known.thread.messages) == shape(whole.thread.messages)[: len(known.thread.messages)]


@pytest.mark.parametrize("name", ["pool", "threads"])
@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
def test_a_call_is_its_stream_folded_whatever_runs_its_actors(kind, name, host_on):
    @law
    @given(cases(kind))
    def holds(case):
        expected = outcome(Pure(kind, case))
        with drivers.instead(host_on[name]):
            assert outcome(drivers.whole, kind, case) == expected
            if kind == "generate":
                assume(case.filters.get("emit_tool_deltas", True))
            assert outcome(drivers.folded, kind, case) == expected

    holds()


@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
def test_a_call_in_a_simulation_is_its_stream_folded_in_any_order(kind):
    @law
    @given(cases(kind), st.integers(0, 2**32))
    def holds(case, seed):
        expected = outcome(Pure(kind, case))
        assert outcome(drivers.whole_in_sim, seed, kind, case) == expected
        if kind == "generate":
            assume(case.filters.get("emit_tool_deltas", True))
        assert outcome(drivers.folded_in_sim, seed, kind, case) == expected

    holds()


@pytest.mark.parametrize("name", ["loop", "pool", "threads", "sqlite"])
def test_a_session_replies_what_a_chat_answers(name, host_on):
    @law
    @given(cases("chat"))
    def holds(case):
        assert outcome(drivers.replied, host_on[name], case) == outcome(Pure("chat", case))

    holds()


@law
@given(cases("chat"), st.integers(0, 2**32))
def test_a_session_in_a_simulation_replies_what_a_chat_answers_in_any_order(case, seed):
    assert outcome(drivers.simulated, seed, case) == outcome(Pure("chat", case))


def test_a_session_on_the_callers_loop_replies_what_a_chat_answers(loop):
    @law
    @given(cases("chat"))
    def holds(case):
        assert outcome(loop.replied, case) == outcome(Pure("chat", case))

    holds()


@law
@given(cases("chat"))
def test_a_chat_halts_and_leaves_a_thread_that_can_be_sent(case):
    calls = []
    try:
        result = allm.chat(case.engine(record=calls), HI, **case.all_options)
    except allm.AllmError:
        return
    retries = case.options.get("max_retries", 2) if "response_model" in case.options else 0
    budget = case.options.get("max_turns", 8) + ("structured_finalize" in case.options) + retries
    assert 1 <= len(calls) <= budget
    for call in calls:
        validate(call.request)
        if not call.request.tools:  # only the last pass of a structured answer has none
            assert len(calls) - calls.index(call) <= 1 + retries
            continue
        assert call.request.tools == calls[0].request.tools, "every step is asked with the same tools"
    validate(result.thread)
    open_calls = "manual_tool_calls" in result.metadata or result.halted_reason == "manual_tool_calls"
    if not open_calls:
        validate(Request(messages=result.thread.messages))
    assert result.thread.messages[:1] == Thread.from_messages(HI).messages


def test_a_case_says_what_it_is():
    assert repr(Case([[("text", "a")]])) == "Case(scripts=[[('text', 'a')]], options={}, filters={})"
