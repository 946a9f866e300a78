"""Sessions in a host, as their users see them: turns, questions, manual tools, forks, and what a store brings back."""

import asyncio
import contextlib
import copy as copying
import gc
import inspect
import logging
import os
import pickle
import sqlite3
import sys
import threading
import time
import traceback
import warnings

import msgspec
import pytest

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.actors.protocol import Fork
from allm_actors.actors.store import MemoryStore, Save, SQLiteStore
from allm_actors.data import ChatCompleted, TextDelta
from allm_actors.engine.script import stage
from allm_actors.engine.secret import Secret
from allm_actors.execution.tools import AWAITING_USER
from allm_actors.testing import SimHost, script
from supervisors import exit as exit_process

from .stage import HeldStore, until

SOON = 5.0
DISPATCHERS = ("loop", "pool", "threads")


def says(*texts):
    return [*map(script.text, texts), script.finish("stop")]


def calls(*made):
    return [*(script.tool_call(name, {}, id=id) for id, name in made), script.finish("tool_calls")]


def tool(name, handler=None, **options):
    return allm.Tool(name=name, description="", schema={}, handler=handler, **options)


def fake(*scripts, tools=(), **opts):
    return allm.Engine(adapter="fake", tools=tools, adapter_opts={"scripts": list(scripts), **opts})


def shape(thread):
    """A thread in short: `U hi`, `A text`, `A text +tc`, `T(c0) content`."""
    lines = []
    for message in thread.messages:
        calls = f" +{len(message.tool_calls)}" if message.tool_calls else ""
        who = f"T({message.tool_call_id})" if message.role == "tool" else message.role[0].upper()
        lines.append(f"{who} {message.content}{calls}")
    return lines


def tags(events):
    return [event.tag for event in events]


@pytest.fixture
def host():
    with allm.Host() as running:
        yield running


@pytest.fixture(params=DISPATCHERS)
def any_host(request):
    with allm.Host(dispatcher=request.param) as running:
        yield running


# --- turns --------------------------------------------------------------------------------------------------------


def test_a_conversation(any_host):
    chat = any_host.session("s", fake(says("one"), says("two")))
    assert (chat.status, chat.messages) == ("idle", [])
    first = chat.reply("hi").result()
    assert (first.halted_reason, chat.status) == ("completed", "completed")
    chat.reply("and?").result()
    assert shape(chat.value.thread) == ["U hi", "A one", "U and?", "A two"]
    assert (chat.id, chat.value.id) == ("s", "s")
    assert repr(chat) == "<session 's' completed>"


def test_a_turn_is_a_stream_with_an_id(host):
    chat = host.session("s", fake(says("one")))
    turn = chat.reply("hi", request_id="r1")
    assert (turn.id, repr(turn)) == ("r1", "<Turn r1 running>")
    events = list(turn)
    assert tags(events)[0] == "message_started"
    assert isinstance(events[-1], ChatCompleted)
    assert turn.result() == events[-1].result
    assert repr(turn) == "<Turn r1 over>"


def test_the_value_is_new_before_the_last_event_is_read(host):
    chat = host.session("s", fake(says("one")))
    for event in chat.reply("hi"):
        if isinstance(event, ChatCompleted):
            assert chat.status == "completed"
            assert chat.value.thread == event.result.thread


def test_a_step_is_a_turn_too(host):
    chat = host.session(
        "s", fake(calls(("c0", "look")), says("done"), tools=[tool("look", lambda _: "seen")])
    )
    with pytest.raises(allm.ValidationError, match="messages"):
        chat.step().result()
    chat.continue_("hi", max_turns=1).result()
    assert chat.status == "completed"
    result = chat.step().result()
    assert isinstance(result, allm.StepResult)
    assert (result.done, chat.status) == (True, "completed")
    assert shape(chat.value.thread) == ["U hi", "A  +1", "T(c0) seen", "A done"]


def test_an_endless_conversation_goes_on_where_its_turns_ended(host):
    look = tool("look", lambda _: "seen")
    chat = host.session("s", fake(calls(("c0", "look")), calls(("c1", "look")), says("done"), tools=[look]))
    result = chat.reply("hi", max_turns=2).result()
    assert (result.halted_reason, result.metadata) == ("max_turns", {"max_turns": 2})
    assert shape(chat.value.thread)[-1] == "T(c1) seen"
    assert chat.continue_().result().final_response.output_text == "done"


def test_handles_of_one_name_are_one_session(host):
    one, other = host.session("s", fake(says("one"))), host.session("s", fake(says("two")))
    one.reply("hi").result()
    assert other.value == one.value
    other.reply("and?").result()
    assert shape(one.value.thread)[-1] == "A two"
    assert host.session_ids() == ["s"]


def test_many_sessions_at_once(any_host):
    def talk(number):
        chat = any_host.session(f"s{number}", fake(says(f"I am {number}")))
        results[number] = chat.reply("who?").result().final_response.output_text

    results = {}
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert results == {number: f"I am {number}" for number in range(30)}
    assert len(any_host.session_ids()) == 30


def test_the_tree_shows_who_lives(host):
    host.session("support-42", fake())
    drawn = host.tree()
    for name in ("host", "store", "work", "adapters", "tools", "sessions", "support-42"):
        assert name in drawn


# --- a question to the user ---------------------------------------------------------------------------------------


def test_a_tool_asks_the_user(any_host):
    ask = tool("ask", lambda _: allm.AskUser("which city?", choices=["A", "B"]))
    chat = any_host.session("s", fake(calls(("c0", "ask")), says("sunny in A"), tools=[ask]))
    events = list(chat.reply("weather?"))
    assert tags(events)[-5:] == [
        "tool_execution_started",
        "tool_execution_completed",
        "ask_user_requested",
        "step_completed",
        "chat_completed",
    ]
    result = events[-1].result
    asked = {
        "pending_question": "which city?",
        "pending_tool_call_id": "c0",
        "ask_user_opts": {"choices": ["A", "B"]},
    }
    assert (result.halted_reason, result.metadata) == ("ask_user", asked)
    assert (result.pending_question, result.pending_tool_call_id) == ("which city?", "c0")
    question = allm.Message(
        role="assistant", content="which city?", metadata={"ask_user": True, "tool_call_id": "c0"}
    )
    assert result.thread.messages[-1] == question
    assert shape(events[-2].thread) == ["U weather?", "A  +1", f"T(c0) {AWAITING_USER}"]
    waiting = chat.value
    assert (waiting.status, waiting.pending_question, waiting.pending_tool_call_id) == (
        "awaiting_user",
        "which city?",
        "c0",
    )
    answer = chat.reply("A").result()
    assert answer.final_response.output_text == "sunny in A"
    assert shape(chat.value.thread) == [
        "U weather?",
        "A  +1",
        f"T(c0) {AWAITING_USER}",
        "A which city?",
        "U A",
        "A sunny in A",
    ]
    assert (chat.status, chat.value.pending_question, chat.value.pending_tool_call_id) == (
        "completed",
        None,
        None,
    )


def test_a_cancelled_answer_keeps_the_question(host):
    ask = tool("ask", lambda _: allm.AskUser("which?"))
    chat = host.session("s", fake(calls(("c0", "ask")), [script.delay(60)], says("fine"), tools=[ask]))
    chat.reply("hi").result()
    with chat.reply("this") as turn:
        next(turn)
    assert turn.result().halted_reason == "cancelled"
    assert (chat.status, chat.value.pending_question) == ("idle", "which?")
    assert shape(chat.value.thread)[-2:] == ["A which?", "U this"]
    assert chat.continue_().result().halted_reason == "completed"
    assert chat.value.pending_question is None


# --- tools of the caller's ----------------------------------------------------------------------------------------

APPROVE, NOTIFY = tool("approve", manual=True), tool("notify", manual=True)


def test_manual_tools_beside_an_automatic_one(any_host):
    look = tool("look", lambda _: "seen")
    made = calls(("m1", "approve"), ("a1", "look"), ("m2", "notify"))
    chat = any_host.session("s", fake(made, says("done"), tools=[APPROVE, NOTIFY, look]))
    events = list(chat.reply("go"))
    result = events[-1].result
    assert [event.id for event in events if event.tag == "tool_execution_started"] == ["a1"]
    assert (result.halted_reason, result.metadata["manual_turn_index"]) == ("manual_tool_calls", 0)
    assert [call.id for call in result.metadata["manual_tool_calls"]] == ["m1", "m2"]
    assert len(result.final_response.tool_calls) == 3
    assert [call.id for call in chat.pending_tool_calls] == ["m1", "m2"]
    with pytest.raises(allm.SessionError, match="a1"):
        chat.submit_tool_result("a1", "x")
    chat.submit_tool_result("m2", {"sent": True})
    assert chat.status == "awaiting_tools"
    chat.submit_tool_result("m1", "yes")
    assert (chat.status, chat.pending_tool_calls) == ("idle", [])
    assert shape(chat.value.thread) == ["U go", "A  +3", "T(a1) seen", 'T(m2) {"sent":true}', "T(m1) yes"]
    assert chat.continue_().result().final_response.output_text == "done"
    assert chat.status == "completed"


def test_nothing_but_manual_tools(host):
    chat = host.session("s", fake(calls(("m1", "approve")), tools=[APPROVE]))
    events = list(chat.reply("go"))
    assert not any(event.tag.startswith("tool_execution") for event in events)
    assert tags(events)[-3:] == ["message_completed", "step_completed", "chat_completed"]
    assert "mode" not in events[-1].result.steps[0].metadata


def test_the_whole_loop_by_hand(host):
    ran = []
    look = tool("look", ran.append)
    chat = host.session(
        "s", fake(calls(("c0", "look"), ("m1", "approve")), says("done"), tools=[look, APPROVE])
    )
    result = chat.reply("go", mode="manual").result()
    assert (result.halted_reason, result.metadata) == ("manual_tool_calls", {"manual_turn_index": 0})
    assert result.steps[0].metadata == {"mode": "manual"}
    assert [call.id for call in chat.pending_tool_calls] == ["c0", "m1"]
    assert ran == []
    chat.submit_tool_results([("c0", 5), ("m1", [1, 2])])
    assert shape(chat.value.thread)[-2:] == ["T(c0) 5", "T(m1) [1,2]"]
    assert chat.continue_(mode="manual").result().halted_reason == "completed"


def test_submitting_nothing_is_always_right(host):
    chat = host.session("s", fake())
    assert chat.submit_tool_results([]) == chat.value


# --- halts and errors ---------------------------------------------------------------------------------------------


def test_a_tool_halts_the_chat(host):
    plan = tool("plan", lambda _: allm.Halt("plan_submitted", {"ok": 1}))
    chat = host.session("s", fake(calls(("c0", "plan")), says("more"), tools=[plan]))
    result = chat.reply("go").result()
    assert (result.halted_reason, result.metadata) == (
        "plan_submitted",
        {"halt_tool_call_id": "c0", "halt_result": {"ok": 1}},
    )
    assert (chat.status, shape(chat.value.thread)[-1]) == ("completed", 'T(c0) {"ok":1}')
    assert chat.reply("and?").result().halted_reason == "completed"


def test_an_error_ends_a_session_until_it_recovers(any_host):
    chat = any_host.session("s", fake([script.text("Hel"), script.error("rate_limited")], says("fine")))
    result = chat.reply("hi").result()
    assert (result.halted_reason, chat.status) == ("error", "error")
    assert chat.value.metadata["error"].reason == "rate_limited"
    with pytest.raises(allm.SessionError, match="recover"):
        chat.reply("hi").result()
    assert chat.recover().status == "idle"
    assert chat.reply("again").result().halted_reason == "completed"


def test_a_tool_error_that_halts(host):
    def fails(_):
        raise LookupError("no such city")

    chat = host.session("s", fake(calls(("c0", "look")), tools=[tool("look", fails)]))
    result = chat.reply("hi", on_tool_error="halt").result()
    assert (result.halted_reason, result.metadata) == ("tool_error", {"halt_tool_call_id": "c0"})
    assert chat.value.metadata["error"] == {"halt_tool_call_id": "c0"}
    assert "no such city" in chat.messages[-1].content


def test_a_turn_that_is_dropped_unread_is_warned_of(host):
    chat = host.session("s", fake(*[says("one")] * 9))
    with pytest.warns(
        RuntimeWarning, match="a turn was dropped unread, so the model was not asked; call result"
    ):
        gc.collect(bool(chat.reply("hi")))
    until(lambda: chat.status == "idle" and not host.stats().turns)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        chat.reply("hi").result()
        next(chat.reply("hi"))
        chat.reply("hi").close()
        with chat.reply("hi"):
            pass
        with contextlib.suppress(ValueError):
            chat.reply("hi", tool_timeout=-1)
        gc.collect()
    assert told == []


def test_who_takes_a_turn_for_its_result_is_told_where_that_is(host):
    turn = host.session("s", fake(says("one"))).reply("hi")
    with pytest.raises(
        AttributeError, match=r"'Turn' object has no attribute 'text'; it is no result: .*`\.result\(\)`"
    ):
        _ = turn.text
    with pytest.raises(AttributeError, match=r"^'Turn' object has no attribute 'txt'$"):
        _ = turn.txt
    assert turn.result().text() == "one"


def test_a_turn_whose_reader_gave_up_waiting_for_it_was_not_unread():
    async def main():
        async with allm.Host() as host:
            slowly = fake([script.delay(60), script.finish("stop")], says("two"))
            chat = await host.session("s", slowly)
            first = asyncio.ensure_future(chat.reply("one"))
            await asyncio.sleep(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    async for _ in chat.reply("two"):
                        pass
            first.cancel()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        asyncio.run(main())
        gc.collect()
    assert [each.message for each in told if each.category is RuntimeWarning] == []


def test_the_copy_of_a_turn_in_a_forked_child_is_nobodys_to_read(host):
    turn = host.session("s", fake(says("one"))).reply("hi")
    child = os.fork()
    if not child:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", RuntimeWarning)
            del turn
            gc.collect()
        os._exit(len(told))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert turn.result().text() == "one"


def in_a_forked_child(run):
    """What a function returns in a forked child, as its exit code; 99 if it raises."""
    child = os.fork()
    if not child:
        code = 99
        try:
            code = run()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_host_that_the_parent_has_started_is_not_started_in_a_forked_child(host):
    async def enter():
        async with host:
            return 1

    def run():
        for begin in (host.start, lambda: asyncio.run(enter())):
            try:
                begin()
            except allm.EngineError as error:
                if "was started by another process" not in str(error):
                    return 2
            else:
                return 1
        return 0

    assert in_a_forked_child(run) == 0
    assert host.running


def test_a_host_that_nobody_has_started_is_started_in_a_forked_child():
    host = allm.Host()
    assert in_a_forked_child(lambda: 0 if host.start().running else 1) == 0


# --- one turn at a time -------------------------------------------------------------------------------------------


class Held:
    """A tool that is held until the test lets it go."""

    def __init__(self):
        self.started, self.released = threading.Event(), threading.Event()

    def __call__(self, _arguments):
        self.started.set()
        assert self.released.wait(SOON)
        return "held"


def reading(turn):
    """Read a turn on a thread of its own; what it showed is in `thread.events`."""
    thread = threading.Thread(target=lambda: thread.events.extend(turn), daemon=True)
    thread.events = []
    thread.start()
    return thread


def busy(host, request_id=None, **options):
    """A session in the middle of a turn: the handle, the held tool, the turn and its reader."""
    held = Held()
    engine = fake(calls(("c0", "hold")), says("one"), says("two"), says("three"), tools=[tool("hold", held)])
    chat = host.session("s", engine, **options)
    turn = chat.reply("first", request_id=request_id)
    reader = reading(turn)
    assert held.started.wait(SOON)
    return chat, held, turn, reader


def test_a_host_tells_how_busy_it_is(any_host):
    chat, held, _first, reader = busy(any_host)
    any_host.session("idle", fake())
    second = chat.reply("second")
    numbers = msgspec.structs.asdict(any_host.stats())
    assert numbers.pop("lag") == 0.0, "measured from the first look on"
    assert numbers == {
        "sessions": 2,
        "turns": 1,
        "waiting": 1,
        "model_calls": 0,
        "tool_calls": 1,
        "other_calls": 0,
        "hanging": 0,
    }
    held.released.set()
    second.result()
    reader.join(SOON)
    rest = allm.HostStats(sessions=2)
    until(lambda: msgspec.structs.replace(any_host.stats(), lag=0.0) == rest)
    asks = allm.Engine("fake", adapter_opts={"script": [script.delay(60), script.finish("stop")]})
    asked = reading(any_host.session("t", asks).reply("hi"))
    until(lambda: any_host.stats().model_calls == 1)
    any_host.stop()
    asked.join(SOON)
    assert any_host.stats() == allm.HostStats(), "a health check may come at any moment"
    with pytest.raises(allm.EngineError, match=r"not running: call start\(\), or use it in a `with` block"):
        any_host.tree()


def test_a_log_that_blocks_shows_as_lag(any_host):
    held, go = threading.Event(), threading.Event()

    class Blocks(logging.Handler):
        def emit(self, record):
            held.set()
            assert go.wait(SOON)

    async def logs(_args):
        logging.getLogger("app").warning("to a pipe that nobody reads")
        return "logged"

    log, handler = logging.getLogger("app"), Blocks()
    log.addHandler(handler)
    try:
        engine = fake(calls(("c0", "logs")), says("done"), tools=[tool("logs", logs)])
        reader = reading(any_host.session("s", engine).reply("hi"))
        assert held.wait(SOON)
        until(lambda: any_host.stats().lag > 0.05)
        go.set()
        reader.join(SOON)
        until(lambda: any_host.stats().lag < 0.05)
    finally:
        go.set()
        log.removeHandler(handler)


@pytest.mark.parametrize("copy", [pickle.dumps, copying.copy, copying.deepcopy])
def test_a_host_and_its_sessions_stay_in_their_process(copy):
    with allm.Host() as host:
        with pytest.raises(TypeError, match="a host cannot be sent to another process; open a host there"):
            copy(host)
        with pytest.raises(TypeError, match="send its name, 'ada', and open it there"):
            copy(host.session("ada", fake(says("x"))))


def test_a_second_reply_waits_for_the_first(any_host):
    chat, held, first, reader = busy(any_host)
    second = chat.reply("second")
    held.released.set()
    assert second.result().final_response.output_text == "two"
    reader.join(SOON)
    assert first.result().final_response.output_text == "one"
    assert shape(chat.value.thread)[-3:] == ["A one", "U second", "A two"]


def test_turns_may_be_read_in_any_order(any_host):
    look = tool("look", lambda _: "seen")
    long = [*[script.text("x")] * 2000, script.tool_call("look", {}, id="c0"), script.finish("tool_calls")]
    chat = any_host.session("s", fake(long, says("one"), says("two"), says("three"), tools=[look]))
    first, second, third = chat.reply("first"), chat.reply("second"), chat.reply("third")
    unread = threading.Thread(target=third.result, daemon=True)
    unread.start()
    unread.join(SOON)
    assert not unread.is_alive()
    assert len([event for event in first if isinstance(event, TextDelta)]) == 2001
    assert tags(second)[-1] == "chat_completed"
    assert [m.content for m in chat.messages if m.role == "user"] == ["first", "second", "third"]


def test_a_turn_that_is_closed_unread_did_nothing(any_host):
    asked = []
    chat = any_host.session("s", fake(says("one"), says("two"), record=asked))
    first, second = chat.reply("first"), chat.reply("second")
    first.close()
    assert asked == []
    assert second.result().final_response.output_text == "one"
    assert shape(chat.value.thread) == ["U first", "U second", "A one"]


def test_only_so_many_wait(host):
    chat, held, _, reader = busy(host, queue_limit=1)
    second = chat.reply("second")
    with pytest.raises(allm.SessionBusy, match="waiting") as caught:
        chat.reply("third").result()
    assert caught.value.reason == "queue_full"
    held.released.set()
    assert second.result().halted_reason == "completed"
    reader.join(SOON)


def test_a_second_reply_is_rejected(any_host):
    chat, held, first, reader = busy(any_host, when_busy="reject")
    with pytest.raises(allm.SessionBusy, match="busy"):
        chat.reply("second").result()
    for operation in (lambda: chat.submit_tool_result("c0", "x"), chat.recover):
        with pytest.raises(allm.SessionBusy):
            operation()
    held.released.set()
    assert first.result().final_response.output_text == "one"
    reader.join(SOON)
    assert "U second" not in shape(chat.value.thread)


def test_a_second_reply_interrupts_the_first(any_host):
    chat, held, first, reader = busy(any_host, when_busy="interrupt")
    assert chat.reply("second").result().final_response.output_text == "one"
    reader.join(SOON)
    assert isinstance(reader.events[-1], ChatCompleted)
    assert first.result().halted_reason == "cancelled"
    kept = shape(chat.value.thread)
    assert (kept[:2], kept[-2:]) == (["U first", "A  +1"], ["U second", "A one"])
    assert "cancelled" in kept[2]
    held.released.set()


def test_a_turn_that_waits_begins_when_a_later_one_interrupts_it(host):
    chat, held, _, reader = busy(host)
    second = chat.reply("second")
    third = host.session("s", fake(says("one")), when_busy="interrupt").reply("third")
    assert third.result().halted_reason == "completed"
    assert second.result().halted_reason == "cancelled"
    held.released.set()
    reader.join(SOON)
    assert [m.content for m in chat.messages if m.role == "user"] == ["first", "second", "third"]


def test_a_cancelled_turn_keeps_what_was_said(any_host):
    chat = any_host.session("s", fake([script.text("Hel"), script.delay(60)], says("fine")))
    said = threading.Event()
    turn = chat.reply("hi", on_event=lambda event: said.set() if isinstance(event, TextDelta) else None)
    reader = reading(turn)
    assert said.wait(SOON)
    chat.cancel()
    reader.join(SOON)
    assert reader.events[-1].result.halted_reason == "cancelled"
    assert (chat.status, shape(chat.value.thread)) == ("idle", ["U hi", "A Hel"])
    assert chat.messages[-1].metadata["partial"] is True
    assert chat.reply("again").result().halted_reason == "completed"


@pytest.mark.parametrize("of_the_session", [False, True], ids=["closed", "cancelled"])
def test_a_turn_that_waits_can_be_cancelled(host, of_the_session):
    chat, held, first, reader = busy(host)
    second = chat.reply("second")
    if of_the_session:
        chat.cancel()
    else:
        second.close()
    assert second.result().halted_reason == "cancelled"
    held.released.set()
    assert first.result().halted_reason == "completed"
    reader.join(SOON)
    assert "U second" not in shape(chat.value.thread)


def test_stopping_a_session_interrupts_its_turn_and_loses_nothing(any_host):
    chat, held, first, reader = busy(any_host)
    waiting = chat.reply("second")
    chat.stop()
    held.released.set()
    reader.join(SOON)
    assert isinstance(reader.events[-1], ChatCompleted)
    assert first.result().halted_reason == "interrupted"
    assert waiting.result().halted_reason == "interrupted"
    assert shape(chat.value.thread)[:2] == ["U first", "A  +1"]
    assert chat.reply("third").result().final_response.output_text == "one"


# --- forks --------------------------------------------------------------------------------------------------------


def test_an_answer_is_asked_for_again(any_host):
    chat = any_host.session("s", fake(says("one"), says("two")))
    chat.reply("hi").result()
    value = chat.replace_messages(chat.messages[:-1])
    assert (value.status, value) == ("idle", chat.value)
    assert chat.continue_().result().text() == "two"
    assert shape(chat.value.thread) == ["U hi", "A two"]


def test_a_session_gets_another_system_prompt(any_host):
    chat = any_host.session("s", fake(says("one"), says("two")), system="Be brief.")
    chat.reply("hi").result()
    chat.replace_messages([allm.system("Be kind."), *chat.messages[1:]])
    assert chat.status == "completed"
    assert shape(chat.reply("and?").result().thread) == ["S Be kind.", "U hi", "A one", "U and?", "A two"]


def test_a_new_system_prompt_for_an_old_conversation_is_logged_once(host, caplog):
    chat = host.session("s", fake(*[says("one")] * 5), system="Be brief.")
    chat.reply("hi").result()
    for _ in range(2):
        chat.reply("and?").result()
        assert not caplog.records
    for _ in range(2):
        host.session("s", chat.engine, system="Be kind.").reply("and?").result()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "replace_messages can change it" in caplog.text
    assert chat.messages[0].content == "Be brief."


def test_a_session_without_messages_begins_with_its_system_prompt(any_host):
    chat = any_host.session("s", fake(says("one"), says("two")), system="Be brief.")
    chat.reply("hi").result()
    chat.replace_messages([])
    assert shape(chat.reply("again").result().thread) == ["S Be brief.", "U again", "A two"]


def test_a_session_tells_everybody_whether_a_turn_of_it_runs(any_host):
    held = Held()
    chat = any_host.session("s", fake(calls(("c0", "wait")), says("done"), tools=[tool("wait", held)]))
    another = any_host.session("s", chat.engine)
    assert (chat.busy, another.busy) == (False, False)
    turn = chat.reply("hi")
    next(turn)
    assert (chat.busy, another.busy) == (True, True)
    held.released.set()
    turn.result()
    assert (chat.busy, another.busy) == (False, False)


def test_a_session_that_was_killed_in_a_turn_is_not_busy(host):
    chat = host.session("s", fake(SLOWLY))
    turn = chat.reply("hi")
    next(event for event in turn if event.tag == "text_delta")
    assert chat.busy
    exit_process(host.system.whereis(("sessions", "s")), "kill")
    assert turn.result().halted_reason == "error"
    assert not chat.busy


def test_messages_are_not_replaced_during_a_turn(any_host):
    held = Held()
    chat = any_host.session("s", fake(calls(("c0", "wait")), says("done"), tools=[tool("wait", held)]))
    turn = chat.reply("hi")
    next(turn)
    with pytest.raises(allm.SessionBusy, match="replace_messages"):
        chat.replace_messages([])
    held.released.set()
    assert turn.result().text() == "done"
    assert len(chat.messages) == 4


def test_what_was_replaced_is_forgotten(host):
    chat = host.session("s", fake(says("one")))
    chat.reply("a secret").result()
    chat.replace_messages([])
    ledger = host.system.whereis(("sessions", "s")).actor_inbox.owner._ledger
    assert ledger._before is None
    assert ledger.value.messages == []


def test_messages_that_no_model_would_accept_replace_nothing(any_host):
    chat = any_host.session("s", fake(says("one"), says("two")))
    before = chat.reply("hi").result().thread
    for bad, error in (
        ("text", allm.ValidationError),
        ([allm.Message(role="tool", content="x", tool_call_id="c9")], allm.ValidationError),
        ([allm.Message(role="user", content=object())], TypeError),
    ):
        with pytest.raises(error):
            chat.replace_messages(bad)
    assert (chat.status, chat.value.thread) == ("completed", before)
    assert chat.reply("go on").result().text() == "two"


def test_replaced_messages_are_the_ones_that_are_stored(tmp_path):
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", fake(says("one"), says("two"), says("three")))
        for said in ("a", "b", "c"):
            chat.reply(said).result()
        chat.replace_messages([allm.user("d"), *chat.messages[-1:]])
    with allm.Host(store=tmp_path / "s.db") as host:
        assert shape(host.session("s", fake()).value.thread) == ["U d", "A three"]


def test_a_fork_goes_its_own_way(any_host):
    chat = any_host.session("s", fake(says("one"), says("two"), says("three")))
    chat.reply("hi").result()
    other = chat.fork("t")
    assert (other.id, other.value.id, other.messages) == ("t", "t", chat.messages)
    other.reply("left").result()
    chat.reply("right").result()
    assert shape(other.value.thread) == ["U hi", "A one", "U left", "A two"]
    assert shape(chat.value.thread) == ["U hi", "A one", "U right", "A three"]
    assert any_host.session_ids() == ["s", "t"]


def test_a_fork_is_a_session_like_the_one_it_was_made_of(any_host):
    options = {"system": "You are a pirate.", "queue_limit": 1, "when_busy": "reject"}
    other = any_host.session("s", fake(says("Arr")), **options).fork("t")
    assert shape(other.reply("hi").result().thread) == ["S You are a pirate.", "U hi", "A Arr"]
    assert (other._setup.queue_limit, other._setup.when_busy) == (1, "reject")


def test_a_fork_asks_with_the_key_of_the_session_it_was_made_of(any_host):
    class Keyed:
        name = "keyed"

        def stream(self, request, call):
            keys.append(call.api_key)
            yield from stage(says("hi"))

    keys = []
    any_host.session("s", allm.Engine(adapter=Keyed()), api_key="sk-its-own").fork("t").reply("hi").result()
    assert keys == [Secret("sk-its-own")]


@pytest.mark.parametrize("full", [True, False])
def test_a_fork_waits_until_it_is_known_whether_the_message_of_a_turn_is_stored(full):
    class Slow(HeldStore):
        def save(self, batch):
            if batch[0].session.id == "s":
                self.hold.wait()
                if full:
                    raise allm.StoreError("unavailable", message="a full disk")
            super().save(batch)

    store = Slow()
    with allm.Host(store=store) as host:
        chat = host.session("s", fake(says("one")))
        outcome = []

        def reply():
            try:
                outcome.append(chat.reply("hi").result().halted_reason)
            except allm.StoreError as error:
                outcome.append(error.reason)

        replying = threading.Thread(target=reply, daemon=True)
        replying.start()
        assert store.hold.reached.wait(SOON)
        forked = chat.ask(Fork("t"))
        store.hold.open()
        said = [message.content for message in forked.get(timeout=SOON).messages]
        replying.join(SOON)
        assert (outcome, said) == ((["unavailable"], []) if full else (["completed"], ["hi"]))


def test_a_fork_keeps_what_is_pending(host):
    chat = host.session("s", fake(calls(("m1", "approve")), says("yes"), says("no"), tools=[APPROVE]))
    chat.reply("go").result()
    other = chat.fork("t")
    assert [call.id for call in other.pending_tool_calls] == ["m1"]
    other.submit_tool_result("m1", "granted")
    assert other.continue_().result().final_response.output_text == "yes"
    assert chat.status == "awaiting_tools"


# --- what a store brings back -------------------------------------------------------------------------------------


def test_a_conversation_goes_on_in_another_host(tmp_path):
    path = tmp_path / "sessions.db"
    engine = fake(calls(("m1", "approve")), says("done"), tools=[APPROVE])
    with allm.Host(store=path) as host:
        host.session("s", engine).reply("go").result()
        before = host.session("s", engine).value
    with allm.Host(store=path) as host:
        chat = host.session("s", engine)
        assert chat.value == before
        assert [call.id for call in chat.pending_tool_calls] == ["m1"]
        chat.submit_tool_result("m1", "granted")
    with allm.Host(store=str(path)) as host:
        chat = host.session("s", engine)
        assert chat.status == "idle"
        assert chat.continue_().result().final_response.output_text == "done"
        assert host.session_ids() == ["s"]
        after = chat.value
    with allm.Host(store=path) as host:
        assert host.session("s", engine).value == after


def test_a_question_survives_a_restart(tmp_path):
    ask = tool("ask", lambda _: allm.AskUser("which city?"))
    engine = fake(calls(("c0", "ask")), says("sunny"), tools=[ask])
    with allm.Host(store=tmp_path / "s.db") as host:
        host.session("s", engine).reply("weather?").result()
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", engine)
        assert (chat.status, chat.value.pending_question) == ("awaiting_user", "which city?")
        assert chat.reply("A").result().final_response.output_text == "sunny"


def test_errors_and_pictures_come_back_as_they_were(tmp_path):
    picture = allm.Image.from_bytes(b"\x01\x02", "image/png")
    said = allm.user([allm.TextPart(text="see"), allm.ImagePart(image=picture)])
    engine = fake([script.error("rate_limited", retry_after_ms=500)])
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", engine)
        chat.reply(said).result()
        before = chat.value
    with allm.Host(store=tmp_path / "s.db") as host:
        value = host.session("s", engine).value
    assert value == before
    assert value.thread.messages[0] == said
    assert isinstance(value.metadata["error"], allm.AdapterError)


def test_a_session_that_was_stopped_wakes_with_its_state(any_host):
    chat = any_host.session("s", fake(says("one"), says("two")))
    chat.reply("hi").result()
    chat.stop()
    assert any_host.system.whereis(("sessions", "s")) is None
    assert chat.reply("and?").result().final_response.output_text == "two"
    assert len(chat.messages) == 4


def test_the_sessions_context_is_over_the_engines_and_the_calls_over_both():
    seen = []

    @allm.tool
    def look(context) -> str:
        """Look."""
        seen.append((dict(context.context), context.session_id))
        return ""

    store = MemoryStore()
    store.save([Save(allm.Session(id="s", context={"user": "session", "tier": "gold"}))])
    engine = fake(calls(("c0", "look")), says("one"), tools=[look])
    engine = engine.put_context("tenant", "blue").put_context("user", "engine")
    with allm.Host(store=store) as host:
        host.session("s", engine).reply("hi", context={"tier": "call"}).result()
    assert seen == [({"tenant": "blue", "user": "session", "tier": "call"}, "s")]


# --- on the caller's loop -----------------------------------------------------------------------------------------


def test_everything_on_the_callers_loop(tmp_path):
    where = []

    @allm.tool
    async def look() -> str:
        """Look."""
        where.append(asyncio.get_running_loop())
        return "seen"

    engine = fake(calls(("c0", "look"), ("m1", "approve")), says("one"), says("two"), tools=[look, APPROVE])

    async def main():
        async with allm.Host(store=tmp_path / "s.db") as host:
            chat = host.session("s", engine)
            shown = [event async for event in chat.reply("hi")]
            assert isinstance(shown[-1], ChatCompleted)
            assert where == [asyncio.get_running_loop()]
            assert chat.status == "awaiting_tools"
            with pytest.raises(allm.SessionStatusError):
                await chat.reply("no")
            assert (await chat.submit_tool_result("m1", "yes")).status == "idle"
            other = await chat.fork("t")
            assert (await other.continue_()).final_response.output_text == "one"
            assert (await chat.continue_()).final_response.output_text == "two"
            assert await host.session_ids() == ["s", "t"]
            await chat.stop()
            assert shape(chat.value.thread)[0] == "U hi"

    asyncio.run(asyncio.wait_for(main(), SOON))


def test_many_sessions_on_the_callers_loop():
    async def main():
        async with allm.Host() as host:
            engine = fake(*[says("hi")] * 200)
            results = await asyncio.gather(*(host.session(f"s{i}", engine).reply("hi") for i in range(200)))
        assert {result.halted_reason for result in results} == {"completed"}

    asyncio.run(asyncio.wait_for(main(), SOON * 2))


def test_leaving_the_host_interrupts_what_runs():
    async def main():
        async with allm.Host() as host:
            chat = host.session("s", fake([script.text("Hel"), script.delay(60)]))
            turn = chat.reply("hi")
            assert (await anext(turn)).tag == "message_started"
        assert (await turn).halted_reason == "interrupted"

    asyncio.run(asyncio.wait_for(main(), SOON))


def test_a_host_ends_what_it_started():
    before = set(threading.enumerate())
    with allm.Host() as host:
        chat = host.session("s", fake(says("one")))
        chat.reply("hi").result()
        turn = chat.reply("unread")
    assert turn.result().halted_reason == "interrupted"
    assert not host.running
    for thread in set(threading.enumerate()) - before:
        thread.join(SOON)
        assert not thread.is_alive()


class TestManyMonths:
    """What happens seldom, and would stay."""

    def test_threads_that_ask_for_a_session_at_once_see_the_same_value(self):
        engine, seen, interval = fake(), [], sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with allm.Host() as host:
                for number in range(200):
                    together = threading.Barrier(3)

                    def ask(id=f"s{number}", together=together):
                        together.wait(SOON)
                        seen.append(host.session(id, engine))

                    askers = [threading.Thread(target=ask) for _ in range(3)]
                    for each in askers:
                        each.start()
                    for each in askers:
                        each.join(SOON)
                    assert len({id(handle._setup.cell) for handle in seen}) == 1
                    seen.clear()
        finally:
            sys.setswitchinterval(interval)

    def test_a_host_that_could_not_be_entered_belongs_to_no_loop(self, tmp_path):
        store = tmp_path / "a folder"
        store.mkdir()
        host = allm.Host(store)

        async def main():
            with pytest.raises(allm.StoreError):
                await host.__aenter__()

        asyncio.run(main())
        store.rmdir()
        with host:
            assert host.session("s", fake(says("hello"))).reply("hi").result().halted_reason == "completed"

    def test_a_host_may_be_stopped_while_it_starts(self):
        """As a signal's handler does it."""

        class Stops(MemoryStore):
            def open(self):
                if threading.current_thread() is threading.main_thread():
                    host.stop()

        host = allm.Host(store=Stops())
        host.start()
        assert not host.running
        host.stop()

    @pytest.mark.parametrize("used", [False, True])
    def test_a_host_that_is_dropped_while_it_runs_is_told_of(self, used):
        def drop():
            host = allm.Host().start()
            if used:
                host.session("s", fake(says("hello"))).reply("hi").result()
            return host.system

        with pytest.warns(ResourceWarning, match="garbage-collected while it ran"):
            system = (drop(), gc.collect())[0]
        system.stop()

    @pytest.mark.parametrize("again", ["with", "async with"])
    def test_a_host_that_was_left_on_a_closed_loop_can_be_stopped_and_used_again(self, again):
        host = allm.Host()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(host.__aenter__())
        loop.close()
        with pytest.raises(allm.EngineError, match="loop that this host was entered on is closed"):
            host.session("s", fake())
        host.stop()
        assert not host.attached

        async def main():
            async with host:
                return (await host.session("s", fake(says("hello"))).reply("hi")).halted_reason

        if again == "with":
            with host:
                assert (
                    host.session("s", fake(says("hello"))).reply("hi").result().halted_reason == "completed"
                )
        else:
            assert asyncio.run(main()) == "completed"

    def test_a_host_stops_also_when_its_leaving_is_cancelled(self):
        async def main():
            host = allm.Host()
            await host.__aenter__()
            system = host.system
            leaving = asyncio.create_task(host.__aexit__())
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            return host, system

        host, system = asyncio.run(main())
        assert system.stopped
        assert not host.attached

    def test_a_tool_that_stops_its_host_leaves_no_thread_behind(self):
        host = allm.Host()
        before = set(threading.enumerate())
        engine = fake(calls(("c0", "t")), says("done"), tools=[tool("t", lambda _args: host.stop())])
        host.start()
        system = host.system
        assert host.session("s", engine).reply("hi").result().halted_reason == "interrupted"
        for thread in set(threading.enumerate()) - before:
            thread.join(3 * SOON)  # the tool is asked first, and has its time
            assert not thread.is_alive(), thread
        assert system.stopped

    def test_a_tool_whose_loop_is_closed_fails_and_the_turn_goes_on(self):
        async def never(_args):
            pytest.fail("there is no loop to run it")

        engine = fake([script.text("a"), *calls(("c0", "t"))], says("done"), tools=[tool("t", never)])
        stream = allm.aio.stream(engine, [allm.user("hi")])

        async def pull():
            return await anext(stream)

        asyncio.run(pull())
        result = stream.result()
        assert result.halted_reason == "completed"
        assert "closed" in result.thread.messages[2].content


def test_what_a_handle_shows_is_a_snapshot():
    engine = allm.Engine("fake", adapter_opts={"scripts": [[script.text("one"), script.finish("stop")]] * 2})
    with allm.Host() as host:
        chat = host.session("a", engine)
        chat.reply("hi").result()
        for messages in (chat.messages, chat.value.messages, chat.value.thread.messages):
            messages.append(allm.user("EVIL"))
        chat.value.metadata["mine"] = 1
        chat.pending_tool_calls.append("EVIL")
        chat.reply("next").result()
        assert [message.content for message in chat.messages] == ["hi", "one", "next", "one"]
        assert chat.value.metadata == {}
        assert chat.pending_tool_calls == []


class Raises:
    """An adapter that raises an error of ours where its iterator is asked, as a generator does."""

    name = "raises"

    def __init__(self, *first):
        self.first = first

    def requires_structured_finalize(self, _request):
        return False

    def stream(self, _request, _call):
        yield from self.first
        raise allm.AdapterError("rate_limited", status=429, retry_after_ms=1500)


class RaisesLater(Raises):
    async def stream(self, _request, _call):
        for event in self.first:
            yield event
        raise allm.AdapterError("rate_limited", status=429, retry_after_ms=1500)


@pytest.mark.parametrize("adapter", [Raises, RaisesLater])
def test_an_error_of_ours_stays_what_it_is_wherever_an_adapter_raises_it(adapter, caplog):
    with pytest.raises(allm.AdapterError) as refused:
        allm.generate(allm.Engine(adapter()), [allm.user("hi")])
    assert (refused.value.reason, refused.value.status, refused.value.retry_after_ms) == (
        "rate_limited",
        429,
        1500,
    )
    response = allm.generate(allm.Engine(adapter(allm.TextDelta("so"))), [allm.user("hi")])
    error = response.metadata["error"]
    assert (type(error), error.reason, error.retry_after_ms) == (allm.AdapterError, "rate_limited", 1500)
    assert response.text() == "so"
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


# --- when several things happen to a session at once ---------------------------------------------------------------


def held_tool():
    """A tool that is let go by hand: the tool, that it runs, and how to let it go."""
    runs, go_on = threading.Event(), threading.Event()

    def hold(arguments):
        runs.set()
        go_on.wait(SOON)
        return "held"

    return tool("hold", hold), runs, go_on


def test_the_last_of_many_that_interrupt_is_the_one_that_is_answered(any_host):
    hold, runs, go_on = held_tool()
    engine = fake(calls(("c0", "hold")), says("one"), says("two"), says("three"), tools=[hold])
    session = any_host.session("s", engine, when_busy="interrupt")
    first = session.reply("one?")
    reader = threading.Thread(target=first.result)
    reader.start()
    assert runs.wait(SOON)
    second, third = session.reply("two?"), session.reply("three?")
    go_on.set()
    assert third.result().halted_reason == "completed"
    assert [turn.result().halted_reason for turn in (first, second)] == ["cancelled", "cancelled"]
    said = [message.content for message in session.messages if message.role == "user"]
    assert said[0] == "one?"
    assert said[-1] == "three?"
    allm.validate(session.value.thread)


def test_a_turn_that_never_began_has_the_conversation_as_it_was_before(any_host):
    hold, runs, go_on = held_tool()
    session = any_host.session("s", fake(calls(("c0", "hold")), says("done"), tools=[hold]))
    first = session.reply("first")
    reader = threading.Thread(target=first.result)
    reader.start()
    assert runs.wait(SOON)
    second = session.reply("second")
    second.close()
    result = second.result()
    assert result.halted_reason == "cancelled"
    allm.validate(result.thread.add_user("something else"))
    go_on.set()
    assert first.result().halted_reason == "completed"


class NoVerdict:
    def __bool__(self):
        raise ValueError("the truth of this is ambiguous")


def test_a_verdict_without_a_truth_is_an_error_of_the_chat(any_host):
    engine = fake(calls(("c0", "look")), says("done"), tools=[tool("look", lambda _: "seen")])
    session = any_host.session("s", engine)
    result = session.reply("?", halt_when=lambda step: NoVerdict()).result()
    assert result.halted_reason == "error"
    assert "ambiguous" in str(result.metadata["error"])
    assert session.status == "error"  # and its process lives
    assert session.recover().status == "idle"


class Refusing:
    """A store with a thread of its own, which refuses some saves when it is told to go on."""

    def __init__(self):
        self._kept = MemoryStore()
        self.refusals, self.saving, self.go_on = 0, threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._kept, name)

    def save(self, batch):
        if self.refusals:
            self.refusals -= 1
            self.saving.set()
            self.go_on.wait(SOON)
            raise allm.StoreError("locked", message="for a moment")
        return self._kept.save(batch)


def test_what_is_asked_while_a_change_is_stored_waits_for_it():
    store = Refusing()
    engine = fake(calls(("a", "m"), ("b", "m")), says("done"), tools=[tool("m", manual=True)])
    with allm.Host(store=store) as host:
        session = host.session("s", engine)
        session.reply("go").result()
        answers = {}

        def submit(id):
            try:
                answers[id] = [call.id for call in session.submit_tool_result(id, id).pending_tool_calls]
            except allm.StoreError as error:
                answers[id] = error.reason

        store.refusals = 1
        first = threading.Thread(target=submit, args=("a",))
        first.start()
        assert store.saving.wait(SOON)
        second = threading.Thread(target=submit, args=("b",))
        second.start()
        until(lambda: len(host.system.whereis(("sessions", "s")).actor_inbox.owner._actor_stash or ()) == 1)
        store.go_on.set()
        first.join(SOON)
        second.join(SOON)
        assert answers == {"a": "locked", "b": ["a"]}
        assert [call.id for call in session.pending_tool_calls] == ["a"]
        assert [call.id for call in store.load("s").pending_tool_calls] == ["a"]


# --- names -----------------------------------------------------------------------------------------------------------


def test_turns_that_share_a_request_id_are_two_turns(any_host):
    chat, held, first, reader = busy(any_host, request_id="same")
    second = chat.reply("second", request_id="same")
    second.close()
    assert second.result().halted_reason == "cancelled"
    held.released.set()
    assert first.result().halted_reason == "completed"
    assert first.id == second.id == "same"
    reader.join(SOON)


def test_a_killed_session_ends_both_of_the_turns_that_share_a_request_id(any_host):
    chat, held, first, reader = busy(any_host, request_id="same")
    second = chat.reply("second", request_id="same")
    exit_process(any_host.system.whereis(("sessions", "s")), "kill")
    assert [turn.result().halted_reason for turn in (first, second)] == ["error", "error"]
    held.released.set()
    reader.join(SOON)


def test_any_handle_can_cancel_what_runs(any_host):
    chat, held, first, reader = busy(any_host)
    other = any_host.session("s", chat.engine)
    other.cancel()
    assert first.result().halted_reason == "cancelled"
    held.released.set()
    reader.join(SOON)


@pytest.mark.parametrize("options", [{"when_busy": "reject"}, {"queue_limit": 0}], ids=["rejected", "full"])
def test_a_refused_turn_is_not_the_one_that_cancel_ends(any_host, options):
    chat, held, first, reader = busy(any_host, **options)
    with pytest.raises(allm.SessionBusy):
        chat.reply("second")
    chat.cancel()
    assert first.result().halted_reason == "cancelled"
    held.released.set()
    reader.join(SOON)


def test_the_turns_of_a_handle_are_cancelled_from_the_newest_on(any_host):
    chat, held, first, reader = busy(any_host)
    second, third = chat.reply("second"), chat.reply("third")
    for turn in (third, second, first):
        chat.cancel()
        assert turn.result().halted_reason == "cancelled"
    chat.cancel()
    held.released.set()
    reader.join(SOON)
    assert chat.reply("fourth").result().halted_reason == "completed"


def test_a_turn_that_a_tool_may_not_wait_for_is_not_the_one_that_cancel_ends(any_host):
    withdrawn = []

    def ask_itself(_arguments):
        withdrawn.append(chat.reply("second"))
        with pytest.raises(allm.SessionBusy):
            withdrawn[0].result()
        chat.cancel()
        return "asked"

    scripts = [calls(("c0", "ask")), says("one"), says("two")]
    chat = any_host.session("s", fake(*scripts, tools=[tool("ask", ask_itself)]))
    assert chat.reply("first").result().halted_reason == "cancelled"


@pytest.mark.parametrize("how", ["refused", "closed", "dropped"])
def test_on_an_event_loop_cancel_passes_over_turns_that_nobody_waits_for(how):
    async def main():
        async with allm.Host() as host:
            engine = fake([script.text("Hel"), script.delay(60)], says("fine"))
            chat = await host.session("s", engine, when_busy="reject" if how == "refused" else "queue")
            turn = chat.reply("first")
            await anext(turn)
            second = chat.reply("second")
            if how == "refused":
                with pytest.raises(allm.SessionBusy):
                    await second
            else:
                await second.admitted()
                if how == "closed":
                    second.close()
                second = None
            chat.cancel()
            return (await turn).halted_reason

    assert asyncio.run(main()) == "cancelled"


def test_a_turn_is_cancelled_before_its_session_has_heard_of_it():
    async def main():
        async with allm.Host() as host:
            chat = host.session("s", fake(says("one")))
            turn = chat.reply("hi")
            chat.cancel()
            return await turn

    assert asyncio.run(main()).halted_reason == "cancelled"


def test_each_handle_has_its_own_rule_for_a_busy_session(any_host):
    chat, held, _first, reader = busy(any_host)
    strict = any_host.session("s", chat.engine, when_busy="reject")
    with pytest.raises(allm.SessionBusy, match="busy with another turn"):
        strict.reply("second")
    waiting = chat.reply("third")
    held.released.set()
    assert waiting.result().halted_reason == "completed"
    reader.join(SOON)


def test_whether_a_turn_is_admitted_can_be_awaited():
    async def main():
        async with allm.Host() as host:
            engine = fake([script.delay(60)], says("two"))
            chat = host.session("s", engine, when_busy="reject")
            turn = await chat.reply("first").admitted()
            with pytest.raises(allm.SessionBusy):
                await chat.reply("second").admitted()
            await turn.aclose()

    asyncio.run(main())


def test_a_session_is_deleted_with_what_is_stored_of_it(any_host):
    chat, held, first, reader = busy(any_host)
    any_host.delete_session("s")
    held.released.set()
    assert first.result().halted_reason == "interrupted"
    reader.join(SOON)
    assert (any_host.session_ids(), chat.messages) == ([], [])
    any_host.delete_session("s")
    any_host.delete_session("never there")
    assert shape(any_host.session("s", fake(says("new"))).reply("hi").result().thread) == ["U hi", "A new"]


def test_many_may_delete_one_session_at_once():
    async def main():
        async with allm.Host() as host:
            for _ in range(5):
                await host.session("s", fake(says("one"))).reply("hi")
                await asyncio.gather(*(host.delete_session("s") for _ in range(32)))
                assert await host.session_ids() == []

    asyncio.run(main())


def test_a_session_is_deleted_on_the_callers_loop(tmp_path):
    async def main():
        async with allm.Host(store=tmp_path / "s.db") as host:
            await host.session("s", fake(says("one"))).reply("hi")
            assert await host.session_ids() == ["s"]
            await host.delete_session("s")
            return await host.session_ids()

    assert asyncio.run(main()) == []


def test_what_is_done_to_a_result_is_not_done_to_the_session(host):
    chat = host.session("s", fake(says("one"), says("two")))
    chat.reply("hi").result().thread.messages.clear()
    assert shape(chat.value.thread) == ["U hi", "A one"]
    assert shape(chat.reply("again").result().thread) == ["U hi", "A one", "U again", "A two"]


def test_the_tree_is_drawn_at_once_on_the_callers_loop():
    async def main():
        async with allm.Host() as host:
            await host.session("s", fake(says("one"))).reply("hi")
            return host.tree()

    drawn = asyncio.run(main())
    assert "SessionActor" in drawn
    assert "busy" not in drawn


@pytest.mark.parametrize("steps", range(6))
def test_a_host_whose_start_is_cancelled_is_ended(steps):
    host = allm.Host()

    async def cancelled():
        entering = asyncio.ensure_future(host.__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        entering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await entering
            await host.__aexit__()  # it was quicker

    async def used():
        async with host:
            return (await host.session("s", fake(says("one"))).reply("hi")).halted_reason

    asyncio.run(cancelled())
    assert not host.running
    assert asyncio.run(used()) == "completed"
    with host:
        assert host.session("t", fake(says("one"))).reply("hi").result().halted_reason == "completed"


# --- how a conversation begins ---------------------------------------------------------------------------------------


def test_a_new_session_begins_with_its_system_message_and_an_old_one_does_not(any_host):
    chat = any_host.session("s", fake(says("one"), says("two")), system="Be brief.")
    assert chat.messages == []
    chat.reply("hi").result()
    assert shape(chat.value.thread) == ["S Be brief.", "U hi", "A one"]
    again = any_host.session("s", chat.engine, system="Be long.")
    again.reply("more").result()
    assert shape(again.value.thread) == ["S Be brief.", "U hi", "A one", "U more", "A two"]


def test_a_turn_that_is_refused_leaves_no_system_message(host):
    refused = [script.preflight_error("invalid_request")]
    chat = host.session("s", fake(refused, says("one")), system="Be brief.")
    with pytest.raises(allm.AdapterError):
        chat.reply("hi").result()
    assert chat.messages == []
    assert shape(chat.reply("hi").result().thread) == ["S Be brief.", "U hi", "A one"]


def test_a_system_message_is_a_text(host):
    with pytest.raises(TypeError, match="system must be a text, got int"):
        host.session("s", fake(says("one")), system=3)


class Failing:
    """A store of somebody's own, which raises what it should not."""

    def __init__(self):
        self._kept, self.fails = MemoryStore(), False

    def __getattr__(self, name):
        return getattr(self._kept, name)

    def save(self, batch):
        if self.fails:
            raise OSError("the disk is on fire")
        return self._kept.save(batch)


class FailingAt(MemoryStore):
    """Cannot save what it is asked to save as one of these, counted from 1."""

    def __init__(self, *failing):
        super().__init__()
        self.failing, self.saves = failing, 0

    def save(self, batch):
        self.saves += 1
        if self.saves in self.failing:
            raise allm.StoreError("unavailable", message="a full disk")
        super().save(batch)


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_save_that_fails_is_the_error_of_the_turn_and_the_session_says_so(nth):
    store, tools = FailingAt(nth), [tool("t", handler=lambda _: "x")]
    with allm.Host(store=store) as host:
        chat = host.session("s", fake(calls(("c0", "t")), says("one"), says("two"), tools=tools))
        if nth == 1:  # the message itself: nothing has happened
            with pytest.raises(allm.StoreError, match="a full disk"):
                chat.reply("hi")
            assert (chat.status, chat.messages, store.ids()) == ("idle", [], [])
        else:
            result = chat.reply("hi").result()
            # What could be saved the next time needs no error.
            assert result.halted_reason == ("completed" if nth == 4 else "error")
            assert chat.status == result.halted_reason
            assert chat.messages == result.thread.messages
            if nth != 4:
                assert result.metadata["error"].message == "a full disk"
                assert chat.recover().status == "idle"
        before = chat.messages
        assert chat.reply("again").result().halted_reason == "completed"
        assert chat.messages[: len(before)] == before
        assert store.load("s") == chat.value


def test_what_waited_for_a_save_that_fails_is_shown_before_the_turn_ends_with_the_error():
    tools = [tool("t", handler=lambda _: "x")]
    with allm.Host(store=FailingAt(3)) as host:
        chat = host.session("s", fake(calls(("c0", "t")), says("one"), tools=tools))
        shown = list(chat.reply("hi"))
        assert tags(shown)[-4:] == ["tool_result_encoded", "step_completed", "error", "chat_completed"]
        assert shown[-1].result.metadata["error"] == shown[-2].error
        assert shown[-2].error.message == "a full disk"


@pytest.mark.parametrize("operation", ["reply", "step"])
@pytest.mark.parametrize("failing", [{2}, {3}, {4}, {5}, {2, 3}, {3, 4}, {4, 5}, {3, 4, 5, 6}])
def test_a_store_that_fails_is_the_error_that_the_reader_is_shown_once(failing, operation):
    before = 1 if operation == "step" else 0  # a step needs a conversation, which is stored first
    store = FailingAt(*(before + nth for nth in failing))
    tools = [tool("t", handler=lambda _: "x")]
    with allm.Host(store=store) as host:
        session = host.session("s", fake(calls(("c0", "t")), says("one"), tools=tools))
        if operation == "step":
            session.replace_messages([allm.user("hi")])
        turn = session.reply("hi") if operation == "reply" else session.step()
        shown = [event.error for event in turn if isinstance(event, allm.ErrorEvent)]
        result = turn.result()
        told = result.metadata | (result.response.metadata if operation == "step" else {})
        assert shown == ([told["error"]] if "error" in told else [])


def test_what_was_said_is_stored_when_the_turn_is_admitted(any_host):
    chat = any_host.session("s", fake(says("one")))
    turn = chat.reply("hi")
    assert any_host.session_ids() == ["s"]
    turn.close()

    async def main():
        async with allm.Host(store=MemoryStore()) as host:
            turn = await host.session("s", fake(says("one"))).reply("hi").admitted()
            assert [message.content for message in host._store.load("s").thread.messages] == ["hi"]
            await turn.aclose()

    asyncio.run(main())


def test_a_session_that_cannot_be_loaded_again_is_given_up_and_hurts_no_other(tmp_path):
    path = tmp_path / "s.db"
    with allm.Host(store=path) as host:
        _quiet, held, first, reader = busy(host)
        bad = host.session("bad", fake(says("one"), says("two")))
        bad.reply("hi").result()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            kept = db.execute("SELECT body FROM messages WHERE session = 'bad' AND seq = 0").fetchone()
            db.execute("UPDATE messages SET body = x'ff00' WHERE session = 'bad' AND seq = 0")
            exit_process(host.system.whereis(("sessions", "bad")), RuntimeError("a bug"))
            until(lambda: host.system.whereis(("sessions", "bad")) is None)
            with pytest.raises(allm.StoreError, match="cannot be decoded"):
                bad.reply("again")
            db.execute("UPDATE messages SET body = ? WHERE session = 'bad' AND seq = 0", kept)
        held.released.set()
        assert first.result().halted_reason == "completed"
        reader.join(SOON)
        assert bad.reply("again").result().halted_reason == "completed"


def test_who_came_second_is_refused_and_goes_on_from_there(tmp_path):
    path = tmp_path / "s.db"
    with allm.Host(store=path) as one, allm.Host(store=path) as two:
        mine, theirs = one.session("s", fake(says("one"))), two.session("s", fake(says("two")))
        mine.reply("first").result()
        with pytest.raises(allm.StoreError, match="saved by another host") as conflict:
            theirs.reply("second")
        assert conflict.value.reason == "conflict"
        assert shape(theirs.reply("second").result().thread) == ["U first", "A one", "U second", "A two"]
        with pytest.raises(allm.StoreError, match="saved by another host"):
            mine.recover()
        assert shape(mine.recover().thread) == ["U first", "A one", "U second", "A two"]


def test_what_another_host_has_deleted_stays_deleted(tmp_path):
    path = tmp_path / "s.db"
    with allm.Host(store=path) as one, allm.Host(store=path) as two:
        mine = one.session("s", fake(says("one"), says("two"), says("three")))
        mine.reply("secret").result()
        two.delete_session("s")
        with pytest.raises(allm.StoreError, match="saved by another host"):
            mine.reply("again")
        assert shape(mine.reply("again").result().thread) == ["U again", "A two"]
        mine.stop()
        two.delete_session("s")
        assert one.session("s", fake()).messages == []


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_what_another_host_has_begun_anew_under_a_name_is_not_what_was_deleted(tmp_path, turns):
    path = tmp_path / "s.db"
    with allm.Host(store=path) as one, allm.Host(store=path) as two:
        mine = one.session("s", fake(says("one"), says("two"), says("three")))
        mine.reply("mine").result()
        mine.reply("mine, too").result()
        two.delete_session("s")
        theirs = two.session("s", fake(*[says("theirs")] * turns))
        for _ in range(turns):
            theirs.reply("not yours").result()
        with pytest.raises(allm.StoreError, match="saved by another host") as conflict:
            mine.reply("and now?")
        assert conflict.value.reason == "conflict"
        assert shape(two._store.load("s").thread) == ["U not yours", "A theirs"] * turns
        assert shape(mine.reply("and now?").result().thread)[-4:-2] == ["U not yours", "A theirs"]


def test_a_fork_onto_a_name_that_is_taken_hides_no_conflict(tmp_path):
    path = tmp_path / "s.db"
    with allm.Host(store=path) as one, allm.Host(store=path) as two:
        mine, source = one.session("t", fake(says("one"), says("two"))), one.session("s", fake())
        mine.reply("first").result()
        theirs = two.session("t", fake(says("theirs")))
        theirs.reply("second").result()
        with pytest.raises(allm.SessionError, match="session 't' already exists"):
            source.fork("t")
        with pytest.raises(allm.StoreError, match="saved by another host"):
            mine.reply("third")
        assert shape(mine.reply("third").result().thread)[2:4] == ["U second", "A theirs"]


def test_turns_that_wait_behind_a_conflict_go_on_from_what_was_saved(tmp_path):
    path, gate = tmp_path / "s.db", threading.Event()
    wait = tool("wait", handler=lambda _: gate.wait(SOON))
    with allm.Host(store=path) as one, allm.Host(store=path) as two:
        mine = one.session("s", fake(calls(("c0", "wait")), says("one"), says("two"), tools=[wait]))
        first = mine.reply("first")
        reader = reading(first)
        waiting = mine.reply("waits")
        until(lambda: one.stats().tool_calls == 1)
        theirs = two.session("s", fake(says("theirs")))  # it has the first message, and the call
        theirs.reply("second").result()
        gate.set()
        assert first.result().metadata["error"].reason == "conflict"
        assert "U second" in shape(waiting.result().thread)
        assert waiting.result().halted_reason == "completed"
        reader.join(SOON)


def test_very_many_turns_may_be_refused_one_after_another():
    with allm.Host() as host:
        held = threading.Event()
        fails = tool("fails", handler=lambda _: held.wait(SOON))
        engine = fake(calls(("c0", "fails")), [script.error("unknown")], tools=[fails])
        chat = host.session("s", engine, queue_limit=2000)
        first = chat.reply("first")
        reader = reading(first)
        turns = [chat.reply(str(number)) for number in range(1500)]
        held.set()
        assert first.result().halted_reason == "error"
        for turn in turns:
            with pytest.raises(allm.SessionError):
                turn.result()
        reader.join(SOON)


def test_what_a_store_knows_of_a_session_ends_with_it(tmp_path):
    store = SQLiteStore(tmp_path / "s.db")
    with allm.Host(store=store) as host:
        for n in range(20):
            chat = host.session(f"s{n}", fake(says("one"), says("two")))
            chat.reply("hi").result()
            assert store._seen.keys() == {f"s{n}"}
            chat.stop()
            host.session_ids()  # the store has heard of the end
            assert not store._seen
        assert chat.reply("again").result().halted_reason == "completed"


def test_nobody_is_told_that_something_is_stored_in_a_file_that_was_removed(tmp_path):
    path, away = tmp_path / "sessions.db", tmp_path / "away.db"
    with allm.Host(store=path) as host:
        chat = host.session("s", fake(says("one"), says("two")))
        chat.reply("hi").result()
        path.rename(away)
        with pytest.raises(allm.StoreError, match="was removed or replaced"):
            chat.reply("are you there?")
        with pytest.raises(allm.StoreError, match="was removed or replaced"):
            host.session_ids()
        away.rename(path)
        assert chat.reply("and now?").result().final_response.text() == "two"
        assert [m.content for m in chat.messages] == ["hi", "one", "and now?", "two"]
    with allm.Host(store=path) as host:
        assert len(host.session("s", fake(says("x"))).messages) == 4


def test_a_store_that_raises_anything_is_an_error_of_the_one_turn_that_needed_it():
    store = Failing()
    with allm.Host(store=store) as host:
        quiet, held, first, reader = busy(host)
        other = host.session("other", fake(says("one"), says("two")))
        store.fails = True
        with pytest.raises(
            allm.StoreError, match=r"the store's save\(\) failed: OSError: the disk is on fire"
        ):
            unstored(other.reply("hi"))
        store.fails = False
        other.recover()
        assert other.reply("again").result().halted_reason == "completed"
        held.released.set()
        assert first.result().halted_reason == "completed"  # it was in the middle of its turn
        assert quiet.status == "completed"
        reader.join(SOON)


async def a_session():
    return allm.Session()


@pytest.mark.parametrize("kind", ["dict", "coroutine"])
def test_a_store_that_loads_something_else_is_told_what_it_must_return(kind):
    class Odd(MemoryStore):
        def load(self, id):
            return {"messages": []} if kind == "dict" else a_session()

    with allm.Host(store=Odd()) as host:
        said = rf"the store's load\(\) returned a {kind}; it must return a Session, or None"
        with pytest.raises(allm.StoreError, match=said) as caught:
            host.session("s", fake(says("one"))).reply("hi").result()
        assert caught.value.reason == "unavailable"


def unstored(turn):
    result = turn.result()
    raise result.metadata["error"]


def test_what_is_told_of_a_turn_names_its_session(host):
    told = []
    telemetry.attach("sessions", lambda event: told.append((event.name, event.metadata.get("session_id"))))
    try:
        engine = fake(calls(("c0", "f")), says("done"), tools=[tool("f", lambda _: 1)])
        host.session("user-7", engine).reply("hi").result()
        of_session, told[:] = set(told), []
        allm.chat(fake(says("hi")), [allm.user("hi")])
    finally:
        telemetry.detach("sessions")
    assert {name for _, name in of_session} == {"user-7"}
    assert {f"allm.{span}.start" for span in ("chat", "step", "generate", "stream", "tool")} <= {
        n for n, _ in of_session
    }
    assert {name for _, name in told} == {None}


# --- a tool that asks its own session ------------------------------------------------------------------------------


def test_a_tool_that_waits_for_its_own_session_is_told_so(any_host):
    said = []

    def ask_again(arguments):
        turn = any_host.session("s", engine).reply("from inside")
        try:
            return turn.result().halted_reason
        except allm.SessionBusy as error:
            said.append((error.reason, str(error)))  # the error itself would keep the turn
            return "refused"

    engine = fake(calls(("c0", "again")), says("one"), says("two"), tools=[tool("again", ask_again)])
    chat = any_host.session("s", engine)
    assert chat.reply("hi").result().halted_reason == "completed"
    assert said[0][0] == "busy"
    assert "begin it after this code has returned" in said[0][1]
    # What was refused does not happen.
    assert shape(chat.reply("more").result().thread)[2:] == ["T(c0) refused", "A one", "U more", "A two"]


def test_a_tool_that_nobody_waits_for_any_more_may_wait_for_its_session(any_host):
    over, ended = threading.Event(), []

    def ask_later(arguments):
        assert over.wait(SOON)  # it has been given up, and its turn is over
        ended.append(any_host.session("s", engine).reply("from inside").result().halted_reason)

    engine = fake(
        calls(("c0", "later")), says("one"), says("two"), tools=[tool("later", ask_later, timeout=0.05)]
    )
    chat = any_host.session("s", engine)
    assert chat.reply("hi").result().halted_reason == "completed"
    over.set()
    until(lambda: ended)
    assert ended == ["completed"]
    assert shape(chat.value.thread)[-2:] == ["U from inside", "A two"]


def test_an_asynchronous_tool_that_waits_for_its_own_session_is_told_so():
    async def main():
        async with allm.Host() as host:

            async def ask_again(arguments):
                return (await host.session("s", engine).reply("from inside")).halted_reason

            engine = fake(calls(("c0", "again")), says("one"), says("two"), tools=[tool("again", ask_again)])
            return await host.session("s", engine).reply("hi")

    result = asyncio.run(main())
    assert result.halted_reason == "completed"
    assert "waits for a turn that can begin only after it" in result.thread.messages[2].content


def test_what_a_tool_leaves_behind_may_ask_its_session():
    async def main():
        async with allm.Host() as host:
            later = []

            async def follow_up():
                return (await host.session("s", engine).reply("later")).halted_reason

            async def remind(arguments):
                later.append(asyncio.create_task(follow_up()))
                await asyncio.sleep(0)
                return "will do"

            engine = fake(calls(("c0", "remind")), says("one"), says("two"), tools=[tool("remind", remind)])
            await host.session("s", engine).reply("hi")
            return await later[0], shape(host.session("s", engine).value.thread)[2:]

    assert asyncio.run(main()) == ("completed", ["T(c0) will do", "A one", "U later", "A two"])


def test_a_tool_may_wait_for_another_session(any_host):
    def ask_other(arguments):
        other = any_host.session("other", fake(says("from the other")))
        return other.reply("?").result().final_response.output_text

    engine = fake(calls(("c0", "ask")), says("one"), tools=[tool("ask", ask_other)])
    assert shape(any_host.session("s", engine).reply("hi").result().thread)[2] == "T(c0) from the other"


def talking(*texts):
    return allm.Engine(
        "fake", adapter_opts={"scripts": [[script.text(t), script.finish("stop")] for t in texts]}
    )


@pytest.mark.parametrize("calls", [[{"id": "c"}], [allm.ToolCall(id="c", name="t", arguments={})], 5])
def test_what_a_user_keeps_beside_a_message_makes_no_calls(tmp_path, calls):
    said = allm.Message(role="user", content="x", metadata={"tool_calls": calls})
    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", talking("one", "two"))
        assert session.reply(said).result().text() == "one"
        assert session.reply("y").result().text() == "two"
    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", talking("three"))
        assert session.messages[0].metadata["tool_calls"] == calls
        assert session.reply("z").result().text() == "three"


@pytest.mark.parametrize("dispatcher", ["pool", "threads"])
def test_a_log_that_blocks_the_event_loop_stops_no_deadline_of_a_host_on_threads(dispatcher):
    held, go = threading.Event(), threading.Event()

    class Blocks(logging.Handler):
        def emit(self, record):
            if record.name == "app":
                held.set()
                go.wait(SOON)

    async def hangs(_args):
        await asyncio.sleep(60)

    handler = Blocks()
    logging.getLogger().addHandler(handler)  # the library's own lines wait for its lock
    try:
        with allm.Host(dispatcher=dispatcher) as host:
            loop = host.system.dispatcher("loop").loop
            loop.call_soon_threadsafe(logging.getLogger("app").error, "to a pipe that nobody reads")
            assert held.wait(SOON)
            for name, seconds in (("a", 0.05), ("b", 1.5)):  # the loop is looked at a second after the first
                engine = fake(calls(("c0", "hangs")), says("done"), tools=[tool("hangs", hangs)])
                assert host.session(name, engine).reply("hi", tool_timeout=seconds).result().text() == "done"
                assert not go.is_set()
            go.set()
    finally:
        go.set()
        logging.getLogger().removeHandler(handler)


# --- what is stored -----------------------------------------------------------------------------------------------


def test_a_host_tells_what_is_stored_and_what_was_left_in_the_middle(tmp_path):
    began = time.time()
    with allm.Host(store=tmp_path / "s.db") as host:
        host.session("done", fake(says("fine"))).reply("hi").result()
        slowly = fake([script.text("fi"), script.delay(60), script.finish("stop")])
        left = host.session("left", slowly).reply("hi")
        assert [(each.id, each.unanswered) for each in host.stored_sessions()] == [
            ("done", False),
            ("left", True),
        ]
        next(event for event in left if event.tag == "text_delta")
        left.close()
        assert host.session("left", slowly).messages[-1].metadata["partial"] is True
    with allm.Host(store=tmp_path / "s.db") as host:
        stored = {each.id: each for each in host.stored_sessions()}
        assert all(began <= each.saved_at <= time.time() for each in stored.values())
        (name,) = [each.id for each in stored.values() if each.unanswered]
        host.session(name, fake(says("fine"))).continue_().result()
        assert not any(each.unanswered for each in host.stored_sessions())


@pytest.fixture(params=["memory", "file"])
def stored_host(request, tmp_path):
    with allm.Host(store=tmp_path / "s.db" if request.param == "file" else None) as running:
        yield running


def stored(host):
    """What the store says of the session `s`: its status, and why its last turn ended."""
    (line,) = [each for each in host.stored_sessions() if each.id == "s"]
    return line.status, line.halted_reason


SLOWLY = [script.text("fi"), script.delay(60), script.finish("stop")]
ENDINGS = {
    "completed": ("completed", says("fine")),
    "awaiting_user": ("ask_user", calls(("c0", "ask"))),
    "awaiting_tools": ("manual_tool_calls", calls(("c0", "approve"))),
    "error": ("error", [script.error("server_error")]),
}


@pytest.mark.parametrize("status", ENDINGS)
def test_a_store_tells_why_a_turn_ended(stored_host, status):
    reason, answer = ENDINGS[status]
    ask = tool("ask", lambda _arguments: allm.AskUser("which?"))
    chat = stored_host.session("s", fake(answer, tools=[APPROVE, ask]))
    turn = chat.reply("hi")
    assert stored(stored_host) == ("idle", None)
    assert turn.result().halted_reason == reason
    assert stored(stored_host) == (chat.status, reason) == (status, reason)


STEPS = {
    "completed": ("completed", "completed", says("fine")),
    "going on": (None, "idle", calls(("c0", "look"))),
    "manual": ("manual_tool_calls", "awaiting_tools", calls(("c0", "approve"))),
    "asking": ("ask_user", "awaiting_user", calls(("c0", "ask"))),
    "failed": ("error", "error", [script.error("server_error")]),
    "cancelled": ("cancelled", "idle", SLOWLY),
}


@pytest.mark.parametrize("how", STEPS)
def test_a_store_tells_why_a_step_ended(stored_host, how):
    reason, status, answer = STEPS[how]
    tools = [APPROVE, tool("ask", lambda _: allm.AskUser("which?")), tool("look", lambda _: "seen")]
    chat = stored_host.session("s", fake(answer, tools=tools))
    chat.replace_messages([allm.user("hi")])
    turn = chat.step()
    if how == "cancelled":
        next(turn)
        turn.close()
    else:
        turn.result()
    assert stored(stored_host) == (status, reason)


def test_a_store_tells_whose_turn_somebody_cancelled_and_whose_was_cut_off(tmp_path):
    with allm.Host(store=tmp_path / "s.db") as host:
        turns = {name: host.session(name, fake(SLOWLY)).reply("hi") for name in ("stopped", "cut off")}
        for turn in turns.values():
            next(event for event in turn if event.tag == "text_delta")
        host.session("stopped", fake()).cancel()
        assert turns["stopped"].result().halted_reason == "cancelled"
    with allm.Host(store=tmp_path / "s.db") as host:
        lines = {each.id: each for each in host.stored_sessions()}
        assert all(each.unanswered and each.status == "idle" for each in lines.values())
        reasons = {name: each.halted_reason for name, each in lines.items()}
        assert reasons == {"stopped": "cancelled", "cut off": "interrupted"}


def test_what_changes_a_session_between_its_turns_ended_no_turn(stored_host):
    chat = stored_host.session("s", fake(calls(("c0", "approve")), says("done"), tools=[APPROVE]))
    chat.reply("hi").result()
    chat.submit_tool_result("c0", "yes")
    assert stored(stored_host) == ("idle", None)
    chat.continue_().result()
    assert stored(stored_host) == ("completed", "completed")
    chat.replace_messages(chat.messages[:1])
    assert stored(stored_host) == ("idle", None)


def test_a_turn_that_was_refused_leaves_why_the_one_before_ended(stored_host):
    turn = stored_host.session("s", fake(SLOWLY)).reply("hi")
    next(turn)
    turn.close()
    assert stored(stored_host) == ("idle", "cancelled")
    unkeyed = allm.Engine(adapter="openai:gpt-4.1-mini", adapter_opts={"base_url": "http://127.0.0.1:9"})
    refused = stored_host.session("s", unkeyed).reply("and?", api_key=lambda: None)
    assert stored(stored_host) == ("idle", None)
    with pytest.raises(allm.AllmError, match="key"):
        refused.result()
    assert stored(stored_host) == ("idle", "cancelled")


def cancelled(host):
    """A session `s` whose turn somebody has cancelled."""
    chat = host.session("s", fake(SLOWLY))
    turn = chat.reply("hi")
    next(turn)
    turn.close()
    return chat


UNKEYED = allm.Engine(adapter="openai:gpt-4.1-mini", adapter_opts={"base_url": "http://127.0.0.1:9"})


def refused(chat):
    """A turn that is refused by its first model call."""
    chat.engine = UNKEYED
    with pytest.raises(allm.AllmError, match="key"):
        chat.reply("and?", api_key=lambda: None).result()


@pytest.mark.parametrize(
    "nothing",
    [
        lambda chat: chat.recover(),
        lambda chat: chat.submit_tool_results([]),
        refused,
        lambda chat: (chat.stop(), refused(chat)),
    ],
    ids=["recover", "no results", "a refused turn", "a refused turn after a reload"],
)
def test_what_changes_nothing_leaves_why_the_last_turn_ended(stored_host, nothing):
    nothing(cancelled(stored_host))
    assert stored(stored_host) == ("idle", "cancelled")


@pytest.mark.parametrize(
    ("end", "why"), [(lambda chat: chat.stop(), "interrupted"), (lambda chat: chat.cancel(), "cancelled")]
)
@pytest.mark.parametrize("begin", ["reply", "step"])
def test_a_stop_interrupts_and_a_cancel_cancels_whatever_runs(stored_host, begin, end, why):
    chat = stored_host.session("s", fake(says("fine"), SLOWLY, SLOWLY))
    chat.reply("hi").result()
    turn = chat.reply("and?") if begin == "reply" else chat.step()
    next(turn)
    end(chat)
    turn.result()
    assert stored(stored_host) == ("idle", why)


def test_why_the_last_turn_ended_is_read_again_after_a_conflict(tmp_path):
    with allm.Host(store=tmp_path / "s.db") as one, allm.Host(store=tmp_path / "s.db") as two:
        mine = one.session("s", fake(says("fine")))
        mine.reply("hi").result()
        cancelled(two)
        with pytest.raises(allm.StoreError, match="saved by another host"):
            mine.reply("and?")
        refused(mine)
        assert stored(one) == ("idle", "cancelled")


def test_a_fork_has_ended_for_the_same_reason(stored_host):
    cancelled(stored_host).fork("t")
    lines = {each.id: (each.status, each.halted_reason) for each in stored_host.stored_sessions()}
    assert lines == dict.fromkeys("st", ("idle", "cancelled"))


def test_a_fork_is_given_no_prompt_that_it_will_not_take(host, caplog):
    chat = host.session("s", fake(*[says("fine")] * 3), system="Be brief.")
    chat.reply("hi").result()
    chat.replace_messages([allm.system("Be polite.")])
    chat.reply("hi").result()
    chat.fork("t").reply("hi").result()
    assert not caplog.records


def test_a_refused_change_is_no_use_of_a_session():
    with SimHost(1, idle_timeout=60) as host:
        chat = host.session("s", fake(says("fine"), says("fine")))
        host.session("t", chat.engine).reply("hi").result()
        chat.reply("hi").result()
        host.advance(40)
        with pytest.raises(allm.ValidationError):
            chat.replace_messages([allm.Message(role="tool", content="x", tool_call_id="c9")])
        with pytest.raises(allm.SessionError, match="already exists"):
            chat.fork("t")
        host.advance(40)
        assert not host.living("session")


def test_what_equals_an_earlier_message_is_stored_all_the_same(tmp_path):
    def asked(argument):
        call = allm.ToolCall(id="c0", name="look", arguments={"n": argument})
        return [
            allm.user("hi"),
            allm.Message(role="assistant", content="", metadata={"tool_calls": [call]}),
            allm.Message(role="tool", content="x", tool_call_id="c0"),
        ]

    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", fake())
        chat.replace_messages(asked(1))
        chat.replace_messages(asked(True))
    with allm.Host(store=tmp_path / "s.db") as host:
        (call,) = host.session("s", fake()).messages[1].tool_calls
        assert call.arguments["n"] is True


def test_a_step_whose_end_could_not_be_stored_ended_as_it_did():
    class Full(MemoryStore):
        saves = 0

        def save(self, batch):
            self.saves += 1
            if self.saves == 4:  # after the message, the beginning of the step, and its answer: its end
                raise OSError("no space left on device")
            super().save(batch)

    with allm.Host(store=Full()) as host:
        chat = host.session("s", fake(says("fine"), says("fine")))
        chat.replace_messages([allm.user("hi")])
        chat.step().result()
        assert stored(host)[0] == "idle"  # what could be stored last
        chat.recover()
        assert stored(host) == ("completed", "completed")


def test_a_store_of_ones_own_need_not_tell_what_it_has():
    class Own:
        def __init__(self):
            memory = MemoryStore()
            self.open, self.load, self.save = memory.open, memory.load, memory.save
            self.delete, self.ids, self.close = memory.delete, memory.ids, memory.close

    with allm.Host(store=Own()) as host:
        with pytest.raises(
            allm.StoreError, match=r"does not tell when its sessions were saved: Own has no stored\(\)"
        ):
            host.stored_sessions()
        assert host.session_ids() == []


# --- a refusal ----------------------------------------------------------------------------------------------------


def with_for(turn):
    with turn:
        for _ in turn:
            pass


def with_result(turn):
    with turn:
        turn.result()


async def with_async_for(turn):
    async with turn:
        async for _ in turn:
            pass


async def with_await(turn):
    async with turn:
        await turn


async def with_admitted(turn):
    async with turn:
        await turn.admitted()


@pytest.mark.parametrize("use", [with_for, with_result, with_async_for, with_await, with_admitted])
def test_the_traceback_of_a_refused_turn_names_the_code_that_used_it(monkeypatch, use):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    keyless = allm.Engine(adapter="openai:m")

    async def awaits():
        async with allm.Host() as host:
            session = await host.session("s", keyless, when_busy="reject")
            _first = session.reply("hi") if use is with_admitted else None
            await use(session.reply("hi"))

    def waits():
        with allm.Host() as host:
            use(host.session("s", keyless).reply("hi"))

    with pytest.raises(allm.AllmError) as refused:
        asyncio.run(awaits()) if inspect.iscoroutinefunction(use) else waits()
    assert use.__name__ in [frame.name for frame in traceback.extract_tb(refused.tb)]
