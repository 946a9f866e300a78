"""The production host on the simulator: virtual time, one seed one run, crashes, and what it refuses."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors.store import MemoryStore, Save, SQLiteStore
from allm_actors.data import Message, MessageCompleted, MessageStarted, Session, TextDelta, Thread
from allm_actors.testing import ScenarioFailed, SimHost, crashes, explore_chat, run_chat, script
from supervisors import KILLED, Faults, Future, SimulationError, Stuck

DAY = 86400.0
SAYS = [script.text("Hello."), script.finish("stop")]


@allm.tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def engine(*scripts: list[Any], **fields: Any) -> allm.Engine:
    """Plays these scripts."""
    return allm.Engine(adapter="fake", adapter_opts={"scripts": list(scripts)}, **{"tools": [add], **fields})


def adding() -> allm.Engine:
    """Calls the tool, takes its time, and answers."""
    calls = [script.delay(2.0), script.tool_call("add", {"a": 1, "b": 2}), script.finish("tool_calls")]
    return engine(calls, [script.text("3"), script.delay(3.0), script.finish("stop")])


def talk(host: SimHost) -> tuple[Any, ...]:
    """A conversation, and everything that can be seen of it."""
    try:
        turn = host.session("s", adding()).reply("1 + 2?")
        events = list(turn)
    except allm.AllmError as error:
        return (repr(error),)
    host.run_until_idle()
    return events, turn.result(), turn.id, host.now, [str(choice) for choice in host.sim.trace]


# --- time ---------------------------------------------------------------------------------------------------------


def test_delays_are_virtual() -> None:
    began = time.monotonic()
    with SimHost() as host:
        chat = host.session("s", engine([script.text("a"), script.delay(DAY), script.finish("stop")]))
        turn = chat.reply("hi")
        assert next(turn) == MessageStarted()
        host.advance(DAY - 1.0)
        assert chat.status == "idle"
        assert turn.result().halted_reason == "completed"
        assert host.now == DAY
    assert time.monotonic() - began < 10


def test_a_tool_sleeps_and_is_timed_out_in_virtual_time() -> None:
    heard = []

    with SimHost() as host:

        def slow(_: Any, context: Any) -> str:
            heard.append(context.cancelled.wait(DAY))
            host.sleep(1.0)
            return "late"

        tool = allm.tool(name="slow", description="", schema={}, handler=slow)
        chat = host.session(
            "s", engine([script.tool_call("slow"), script.finish("tool_calls")], SAYS, tools=[tool])
        )
        result = chat.reply("hi", tool_timeout=20.0).result()
        assert (
            "timeout" in result.steps[0].tool_results[0].content
            or "20" in result.steps[0].tool_results[0].content
        )
        assert (host.now, heard) == (20.0, [True])
        host.run_until_idle()
        assert (host.now, host.living("tool")) == (21.0, [])


def test_as_many_tools_run_at_once_as_on_no_machine() -> None:
    running: set[int] = set()
    most = 0

    with SimHost() as host:

        def work(arguments: dict[str, Any]) -> str:
            nonlocal most
            running.add(arguments["n"])
            most = max(most, len(running))
            host.sleep(1.0)
            running.remove(arguments["n"])
            return ""

        tool = allm.Tool(name="work", description="", schema={}, handler=work)
        asks = [script.tool_call("work", {"n": n}) for n in range(20)]
        scripts = [[*asks, script.finish("tool_calls")], [script.text("done"), script.finish("stop")]]
        engine = allm.Engine(adapter="fake", tools=[tool], adapter_opts={"scripts": scripts})
        began = host.now
        assert host.session("s", engine).reply("hi").result().halted_reason == "completed"
        assert host.now - began == pytest.approx(3.0, abs=0.1)
    assert most == 8


@pytest.mark.parametrize("reader", ["stays", "leaves"])
def test_tools_that_the_reader_has_not_let_through_were_not_started(reader: str) -> None:
    ran: list[int] = []
    tool = allm.tool(name="send", description="", schema={}, handler=ran.append)
    calls = [script.tool_call("send", {"n": 1}), script.tool_call("send", {"n": 2})]
    with SimHost() as host:
        chat = host.session("s", engine([*calls, script.finish("tool_calls")], SAYS, tools=[tool]))
        turn = chat.reply("hi")
        assert next(turn) == MessageStarted()
        host.run_until_idle()
        if reader == "stays":
            chat.cancel()
            tags = [event.tag for event in turn]
            assert tags[-4:] == [
                "tool_result_encoded",
                "tool_result_encoded",
                "step_completed",
                "chat_completed",
            ]
            assert not {"tool_execution_started", "tool_execution_completed"} & {*tags}
        else:
            turn.close()
        host.run_until_idle()
        told = [message.content for message in chat.messages if message.role == "tool"]
        assert told == ['{"error":"cancelled: the call was not started"}'] * 2
        assert ran == []
        assert chat.reply("again").result().halted_reason == "completed"


def test_a_reader_who_lets_the_first_tool_through_lets_the_others_too() -> None:
    ran: list[int] = []
    tool = allm.Tool(name="work", description="", schema={}, handler=lambda given: ran.append(given["n"]))
    asks = [script.tool_call("work", {"n": n}) for n in range(3)]
    with SimHost() as host:
        chat = host.session("s", engine([*asks, script.finish("tool_calls")], SAYS, tools=[tool]))
        turn = chat.reply("hi", max_concurrency=1)
        assert any(isinstance(event, allm.ToolExecutionStarted) for event in turn)
        host.run_until_idle()
        assert ran == [0, 1, 2]


class Silent:
    """Says a word, then nothing; known to a host by its `stream` only."""

    name = "silent"

    def __init__(self, sleep: Any, pause: float, words: int) -> None:
        self.sleep, self.pause, self.words = sleep, pause, words
        self.closed = 0

    def requires_structured_finalize(self, _request: Any) -> bool:
        return False

    def stream(self, _request: Any, _call: Any) -> Iterator[Any]:
        try:
            yield MessageStarted()
            for _ in range(self.words):
                self.sleep(self.pause)
                yield TextDelta("word ")
            yield MessageCompleted(allm.assistant(""), "stop")
        finally:
            self.closed += 1


@pytest.mark.parametrize("form", ["play", "stream"])
def test_a_silent_model_ends_with_a_timeout(form: str) -> None:
    with SimHost() as host:
        quiet = [script.text("word "), script.delay(DAY), script.finish("stop")]
        adapter = engine(quiet) if form == "play" else allm.Engine(adapter=Silent(host.sleep, DAY, 1))
        result = host.session("s", adapter).reply("hi", stream_timeout=5.0).result()
        error = result.metadata["error"]
        assert (result.halted_reason, error.reason, error.metadata["phase"]) == (
            "error",
            "timeout",
            "idle",
        )
        assert "stream_timeout" in error.message
        assert host.now == 5.0


@pytest.mark.parametrize(("limit", "words", "reason"), [(100.0, 25, "error"), (200.0, 25, "completed")])
def test_a_model_that_trickles_ends_with_its_whole_time(limit: float, words: int, reason: str) -> None:
    with SimHost() as host:
        chat = host.session("s", allm.Engine(adapter=Silent(host.sleep, 4.9, words)))
        result = chat.reply("hi", stream_timeout=5.0, request_timeout=limit).result()
        assert result.halted_reason == reason
        if reason == "error":
            assert (result.metadata["error"].metadata["phase"], host.now) == ("total", limit)


def test_a_reader_who_is_behind_is_not_the_models_silence() -> None:
    words = [entry for _ in range(600) for entry in (script.text("w"), script.delay(0.0))]
    with SimHost() as host:
        chat = host.session("s", engine([*words, script.finish("stop")]))
        turn = chat.reply("hi", stream_timeout=5.0)
        next(turn)
        host.advance(DAY)
        assert turn.result().halted_reason == "completed"


def test_a_model_that_goes_silent_while_its_reader_is_behind_ends_when_that_one_has_caught_up() -> None:
    words = [entry for _ in range(260) for entry in (script.text("w"), script.delay(0.0))]
    with SimHost() as host:
        chat = host.session("s", engine([*words, script.delay(DAY), script.finish("stop")]))
        turn = chat.reply("hi", stream_timeout=5.0)
        next(turn)
        host.advance(100.0)
        error = turn.result().metadata["error"]
        assert (error.metadata["phase"], host.now) == ("idle", 105.0)


def test_nothing_waits_for_the_deadlines_of_a_reply_that_is_over() -> None:
    with SimHost() as host:
        chat = host.session("s", adding())
        result = chat.reply("1 + 2?", tool_timeout=DAY, request_timeout=DAY).result()
        assert (result.halted_reason, host.now) == ("completed", 5.0)
        host.run_until_idle()
        assert host.now == 5.0


def test_a_short_deadline_is_not_held_up_by_a_long_one_that_was_set_before() -> None:
    def hangs(_: Any, context: Any) -> None:
        context.cancelled.wait(DAY)

    tools = [
        allm.tool(name=name, description="", schema={}, handler=hangs, timeout=seconds)
        for name, seconds in (("long", 100.0), ("short", 1.0))
    ]
    asks = [script.tool_call("long"), script.tool_call("short"), script.finish("tool_calls")]
    with SimHost() as host:
        turn = host.session("s", engine(asks, SAYS, tools=tools)).reply("hi")
        ended = [(event.name, host.now) for event in turn if isinstance(event, allm.ToolExecutionCompleted)]
        assert ended == [("short", 1.0), ("long", 100.0)]


def test_a_real_host_ends_a_silent_model_too() -> None:
    with allm.Host() as host:
        chat = host.session("s", engine([script.text("a"), script.delay(30), script.finish("stop")]))
        result = chat.reply("hi", stream_timeout=0.05).result()
        assert result.metadata["error"].reason == "timeout"


# --- one seed, one run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [None, crashes(chance=0.1)], ids=["calm", "crashes"])
def test_one_seed_is_one_run(faults: Faults | None) -> None:
    runs = [[run_chat(talk, seed=seed, faults=faults) for seed in range(25)] for _ in range(2)]
    assert runs[0] == runs[1]
    assert len({str(run[-1]) for run in runs[0]}) > 5, "seeds make no difference"


def test_choices_replay_a_run() -> None:
    with SimHost(11, faults=crashes(chance=0.1)) as host:
        seen = talk(host)
        choices = host.choices
    assert run_chat(talk, seed=11, replay=choices, faults=crashes(chance=0.1)) == seen


def test_exploring_finds_a_race_and_says_how_to_see_it_again() -> None:
    def two_replies(host: SimHost) -> None:
        chat = host.session("s", engine(SAYS, SAYS))
        said = [host.client(lambda text=text: chat.reply(text).result()) for text in ("first", "second")]
        for each in said:
            each.get()
        assert [m.content for m in chat.messages if m.role == "user"] == ["first", "second"]

    with pytest.raises(ScenarioFailed) as failure:
        explore_chat(two_replies, seeds=range(200))
    assert isinstance(failure.value.__cause__, AssertionError)
    again = f"run_chat(scenario, seed={failure.value.seed}, replay={failure.value.choices})"
    assert str(failure.value).splitlines()[-1] == f"again: {again}"
    assert "run_in_sim" not in str(failure.value)
    with pytest.raises(AssertionError):
        run_chat(two_replies, seed=failure.value.seed, replay=failure.value.choices)


# --- forgetting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("file", [True, False])
def test_who_talks_while_a_session_is_deleted_begins_a_new_one_or_is_interrupted(
    alive: bool, file: bool, tmp_path: Path
) -> None:
    names = count()

    def scenario(host: SimHost) -> None:
        chat = host.session("s", engine(*[SAYS] * 9))
        chat.reply("old").result()
        if not alive:
            chat.stop()
        work: list[Callable[[], Any]] = [lambda: host.delete_session("s"), lambda: host.delete_session("s")]
        work += [lambda: chat.reply("new").result().halted_reason, lambda: chat.fork("t")]
        deleted, again, reason, *_ = [host.client(each) for each in work]
        assert deleted.get() is again.get() is None
        assert reason.get() in ("completed", "interrupted")
        host.run_until_idle()
        for seen in (chat.messages, stored(host)):
            assert [message.content for message in seen] in ([], ["new", "Hello."])

    def stored(host: SimHost) -> list[Any]:
        session = host.stored("s")
        return [] if session is None else session.thread.messages

    explore_chat(scenario, seeds=range(150), store=(lambda: tmp_path / f"{next(names)}.db") if file else None)


def test_what_was_not_said_to_be_deleted_is_there() -> None:
    class Refuses(MemoryStore):
        refusals = 1

        def delete(self, id: str) -> None:
            self.refusals -= 1
            if self.refusals >= 0:
                raise allm.StoreError("unavailable", message="a full disk")
            super().delete(id)

    def scenario(host: SimHost) -> None:
        chat = host.session("s", engine(SAYS, SAYS))
        chat.reply("hi").result()

        def delete() -> bool:
            try:
                host.delete_session("s")
            except allm.StoreError:
                return False
            return True

        deleted, *stopped = [host.client(each) for each in (delete, chat.stop, chat.stop)]
        for each in stopped:
            each.get()
        host.run_until_idle()
        assert deleted.get() == (host.stored("s") is None)

    explore_chat(scenario, seeds=range(200), store=Refuses)


def test_one_host_is_never_in_its_own_way(tmp_path: Path) -> None:
    """What a session that has ended tells the store comes late: its successor may have loaded it already."""
    names = count()

    def scenario(host: SimHost) -> None:
        chat = host.session("s", engine(*[SAYS] * 9))
        work = [chat.stop, *[lambda text=text: chat.reply(text).result() for text in ("a", "b")], chat.stop]
        for done in [host.client(each) for each in work]:
            done.get()
        host.run_until_idle()
        assert chat.reply("c").result().halted_reason == "completed"
        # A stop may come before one of them has begun.
        said = [str(m.content) for m in chat.messages if m.role == "user"]
        assert sorted(said) == sorted({*said, "c"})

    explore_chat(scenario, seeds=range(200), store=lambda: tmp_path / f"{next(names)}.db")


@pytest.mark.parametrize("file", [True, False])
def test_of_two_forks_to_one_name_one_is_refused(file: bool, tmp_path: Path) -> None:
    names = count()

    def scenario(host: SimHost) -> None:
        chats = [host.session(name, engine(SAYS)) for name in "ab"]
        for chat in chats:
            chat.reply(chat.id).result()

        def fork(chat: Any) -> str | None:
            try:
                return str(chat.fork("t").messages[0].content)
            except allm.SessionError:
                return None

        told = [each.get() for each in [host.client(lambda chat=chat: fork(chat)) for chat in chats]]
        assert told.count(None) == 1
        stored = host.stored("t")
        assert stored is not None
        assert [stored.thread.messages[0].content] == [each for each in told if each]

    explore_chat(scenario, seeds=range(100), store=(lambda: tmp_path / f"{next(names)}.db") if file else None)


def test_a_fork_copies_what_is_stored_or_is_told_that_it_has_changed(tmp_path: Path) -> None:
    names = count()

    def scenario(host: SimHost) -> None:
        chat = host.session("s", engine(SAYS))
        chat.reply("hi").result()
        elsewhere = SQLiteStore(tmp_path / f"{next(names) - 1}.db")

        def delete() -> None:
            elsewhere.open()
            elsewhere.delete("s")
            elsewhere.close()

        def fork() -> list[Any] | None:
            try:
                return chat.fork("t").messages
            except allm.StoreError:
                return None

        forked, deleted = host.client(fork), host.client(delete)
        deleted.get()
        copied = forked.get()
        if copied is None:
            assert (host.session_ids(), chat.messages) == ([], [])
        else:
            assert [message.content for message in copied] == ["hi", "Hello."]
            assert host.session_ids() == ["t"]

    explore_chat(scenario, seeds=range(100), store=lambda: tmp_path / f"{next(names)}.db")


@pytest.mark.parametrize("full", [True, False])
def test_a_fork_has_the_message_of_a_turn_only_if_that_is_stored(full: bool) -> None:
    class Full(MemoryStore):
        """Has no room for the message."""

        def save(self, saves: Any) -> None:
            if full and any(
                save.session.id == "s" and allm.user("hi") in save.session.messages for save in saves
            ):
                raise allm.StoreError("unavailable", message="a full disk")
            super().save(saves)

    def scenario(host: SimHost) -> None:
        chat = host.session("s", engine(SAYS))
        chat.replace_messages([allm.user("before")])

        def reply() -> bool:
            try:
                chat.reply("hi").close()
            except allm.StoreError:
                return False
            return True

        replied, forked = host.client(reply), host.client(lambda: chat.fork("t").messages)
        assert replied.get() is not full
        said = ["before"] if full else ["before", "hi"]
        assert [message.content for message in forked.get()] in (["before"], said)
        assert [message.content for message in chat.messages] == said

    explore_chat(scenario, seeds=range(200), store=Full)


@pytest.mark.parametrize("change", ["fork", "submit", "recover"])
def test_a_stop_lets_a_change_be_stored(change: str) -> None:
    asks = [script.tool_call("approve", {}, id="m1"), script.finish("tool_calls")]
    changes: dict[str, Callable[[Any], Any]] = {
        "fork": lambda chat: chat.fork("t").id,
        "submit": lambda chat: chat.submit_tool_result("m1", "yes").status,
        "recover": lambda chat: chat.recover().status,
    }

    def scenario(host: SimHost) -> None:
        chat = host.session("s", engine(asks, tools=[APPROVE]))
        chat.reply("go").result()
        changed, stopped = host.client(lambda: changes[change](chat)), host.client(chat.stop)
        stopped.get()
        assert changed.get() in ("t", "idle", "awaiting_tools")

    explore_chat(scenario, seeds=range(100))


@pytest.mark.parametrize("ends", ["idle", "stop"])
def test_what_could_not_be_stored_is_stored_before_the_session_ends(ends: str) -> None:
    store = FullFor(2, 3)
    with SimHost(idle_timeout=10.0, store=store) as host:
        chat = host.session("s", engine(SAYS, SAYS))
        assert chat.reply("hi").result().halted_reason == "error"
        assert [m.content for m in chat.messages] == ["hi", "Hello."]
        if ends == "stop":
            chat.stop()
        else:
            host.advance(30.0)
        assert host.living("session") == []
        assert host.stored("s") == chat.value
        assert chat.recover().status == "idle"
        assert [m.content for m in chat.messages] == ["hi", "Hello."]


class FullFor(MemoryStore):
    """Has no room for what it is asked to save as the nth."""

    def __init__(self, *nth: int) -> None:
        super().__init__()
        self.nth, self.saves = nth, 0

    def save(self, saves: Any) -> None:
        """Or refuse."""
        self.saves += 1
        if self.saves in self.nth:
            raise allm.StoreError("unavailable", message="a full disk")
        super().save(saves)


def test_what_was_never_stored_is_gone_with_its_session() -> None:
    with SimHost(store=FullFor(1, 2)) as host:
        chat = host.session("s", engine(SAYS, SAYS))
        for _ in "12":
            with pytest.raises(allm.StoreError):
                chat.reply("lost")
        chat.stop()
        assert chat.reply("kept").result().halted_reason == "completed"
        assert [m.content for m in chat.messages] == ["kept", "Hello."]


def test_what_was_stored_before_a_turn_that_could_not_be_is_not_stored_again() -> None:
    store = FullFor()
    with SimHost(store=store) as host:
        chat = host.session("s", engine(SAYS, SAYS))
        chat.reply("kept").result()
        store.nth = (store.saves + 1,)
        with pytest.raises(allm.StoreError):
            chat.reply("lost")
        chat.stop()
        assert (store.saves, host.stored("s")) == (store.nth[0], chat.value)


def test_a_session_whose_first_message_was_refused_leaves_nothing_in_the_store() -> None:
    with SimHost(store=FullFor(1)) as host:
        chat = host.session("s", engine(SAYS))
        with pytest.raises(allm.StoreError, match="full disk"):
            chat.reply("lost")
        chat.stop()
        assert host.session_ids() == []


def test_a_session_that_cannot_be_loaded_anew_is_not_loaded_over_and_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Elsewhere(FullFor):
        """Somebody else has changed the session, and for a while it cannot be read."""

        unreadable = 0

        def save(self, saves: Any) -> None:
            try:
                super().save(saves)
            except allm.StoreError:
                self.unreadable = 3
                raise allm.StoreError("conflict", message="saved elsewhere") from None

        def load(self, id: str) -> Any:
            self.unreadable -= 1
            if self.unreadable >= 0:
                raise allm.StoreError("unavailable", message="no such disk")
            return super().load(id)

    with SimHost(store=Elsewhere(1)) as host:
        chat = host.session("s", engine(SAYS))
        with pytest.raises(allm.StoreError, match="saved elsewhere"):
            chat.reply("hi")
        host.run_until_idle()
        told = [each for each in caplog.records if "could not be reloaded" in each.getMessage()]
        assert len(told) == 1


def test_an_answer_in_the_middle_of_what_a_crash_left_open_is_stored_in_its_place(tmp_path: Path) -> None:
    call = allm.ToolCall(id="c1", name="add", arguments={})
    asked = Message(role="assistant", content="", metadata={"tool_calls": [call]})
    left = Thread(messages=[allm.user("hi"), asked, allm.user("there?")])
    with SimHost(store=tmp_path / "s.db") as host:
        host.delete_session("s")  # so that the store is open
        host._store.save([Save(Session(id="s", thread=left))])
        chat = host.session("s", engine(SAYS))
        assert [message.role for message in chat.messages] == ["user", "assistant", "tool", "user"]
        assert chat.reply("go on").result().halted_reason == "completed"
        assert host.stored("s") == chat.value


def test_what_cannot_be_read_can_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with SimHost(store=path) as host:
        host.session("s", engine(SAYS)).reply("hi").result()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE sessions SET header = ?", (b"no session",))
    with SimHost(store=path) as host:
        with pytest.raises(allm.StoreError):
            host.session("s", engine(SAYS))
        host.delete_session("s")
        assert host.session_ids() == []
        assert host.session("s", engine(SAYS)).reply("new").result().halted_reason == "completed"


def test_a_session_whose_store_fails_is_not_said_to_be_deleted() -> None:
    class Keeps(MemoryStore):
        def delete(self, id: str) -> None:
            raise allm.StoreError("unavailable", message="a full disk")

    for stops in (False, True):
        with SimHost(store=Keeps()) as host:
            chat = host.session("s", engine(SAYS, SAYS))
            chat.reply("hi").result()
            if stops:
                chat.stop()
            with pytest.raises(allm.StoreError, match="full disk"):
                host.delete_session("s")
            assert len(chat.reply("still there").result().thread.messages) == 4


# --- crashes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "nth"), [("adapter", 1), ("session", 4), ("store", 3)])
def test_who_crashes_ends_the_turn_and_not_the_session(role: str, nth: int) -> None:
    died = []

    def scenario(host: SimHost) -> None:
        host.system.reports.subscribe(lambda report: died.append(report.kind))
        chat = host.session("s", adding())
        result = chat.reply("hi").result()
        assert result.halted_reason in ("completed", "error")
        host.run_until_idle()
        if host.session("s", engine(SAYS)).status == "error":
            chat.recover()
        assert host.session("s", engine(SAYS)).reply("again").result().halted_reason == "completed"

    explore_chat(scenario, seeds=range(30), faults=crashes(role, chance=1.0, at_most=1, nth=nth))
    assert "process_ended" in died


def test_a_killed_tool_is_an_answer() -> None:
    with SimHost() as host:

        def hangs(_: Any) -> None:
            host.sleep(DAY)

        tool = allm.tool(name="hangs", description="", schema={}, handler=hangs)
        chat = host.session(
            "s", engine([script.tool_call("hangs"), script.finish("tool_calls")], SAYS, tools=[tool])
        )
        turn = chat.reply("hi", tool_timeout=600.0)
        host.client(lambda: [host.sleep(5.0), host.kill("tool")])
        result = turn.result()
        assert (result.halted_reason, host.now) == ("completed", 5.0)
        assert "error" in result.steps[0].tool_results[0].content


@pytest.mark.parametrize("place", ["memory", "sqlite"])
def test_the_store_outlives_whoever_is_killed(place: str, tmp_path: Path) -> None:
    with SimHost(store=None if place == "memory" else tmp_path / "sessions.db") as host:
        chat = host.session("s", engine(SAYS, SAYS))
        chat.reply("hi").result()
        stored = host.stored("s")
        assert stored == chat.value
        for role in ("session", "store"):
            assert host.kill(role)
            host.sim.settle()
            assert host.session("s", engine(SAYS)).value == stored


def test_nobody_is_killed_where_there_is_nobody() -> None:
    with SimHost() as host:
        assert not host.kill("adapter")
        assert [ref.actor_class.__name__ for ref in host.living("store")] == ["MemoryStoreActor"]


# --- what it refuses ----------------------------------------------------------------------------------------------


@allm.tool
async def fetch(url: str) -> str:
    """Fetch."""
    return url


class Networked:
    """Reads a network."""

    name = "networked"

    def requires_structured_finalize(self, _request: Any) -> bool:
        return False

    def stream(self, _request: Any, _call: Any) -> Any:
        async def events() -> Any:
            yield MessageStarted()

        return events()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: engine(SAYS, tools=[fetch]), "tool 'fetch' is a coroutine function"),
        (
            lambda: allm.Engine(adapter="openai", model="m", adapter_opts={"base_url": "http://localhost:1"}),
            "adapter 'openai' uses the network",
        ),
        (lambda: allm.Engine(adapter=Networked()), "adapter 'networked' needs an event loop"),
    ],
    ids=["asynchronous tool", "remote adapter", "asynchronous stream"],
)
def test_what_needs_an_event_loop_is_refused_by_name(make: Any, words: str) -> None:
    with SimHost() as host:
        chat = host.session("s", make(), api_key="k")
        with pytest.raises(allm.EngineError, match=words):
            chat.reply("hi").result()
        assert chat.status == "idle"


def test_it_cannot_be_entered_on_an_event_loop() -> None:
    async def enter() -> None:
        async with SimHost():
            pass

    with pytest.raises(TypeError, match="with SimHost"):
        asyncio.run(enter())


async def _iterates(host: SimHost) -> None:
    async for _ in host.session("s", engine(SAYS)).reply("hi"):
        pass


@pytest.mark.parametrize(
    "wait",
    [
        lambda host: host.session("s", engine(SAYS)).reply("hi").aresult(),
        lambda host: host.session("s", engine(SAYS)),
        lambda host: host.client(host.sleep, 1.0),
        _iterates,
    ],
    ids=["a turn", "a session", "a client", "events"],
)
def test_what_is_awaited_in_a_simulation_is_refused(wait: Any) -> None:
    async def waits() -> None:
        with SimHost() as host:
            await asyncio.wait_for(wait(host), 10)

    with pytest.raises(SimulationError, match=r"nothing happens while an event loop waits.*result\(\)"):
        asyncio.run(waits())


def test_a_session_of_a_simulation_may_be_used_on_an_event_loop_without_awaiting_it() -> None:
    async def asks() -> str | None:
        with SimHost() as host:
            chat = host.session("s", engine(SAYS))
            return str(chat.reply("hi").result().text())

    assert asyncio.run(asks()) == "Hello."


def test_a_role_that_nobody_has_is_refused() -> None:
    with SimHost() as host:
        for ask in (crashes, host.kill, host.living):
            with pytest.raises(ValueError, match=r"'modem'.*adapter, tool, session, store, supervisor"):
                ask("modem")


def test_a_tool_may_die_between_two_jobs() -> None:
    asked = [
        [script.tool_call("add", {"a": 1, "b": n}, id=f"c{n}"), script.finish("tool_calls")] for n in (1, 2)
    ]
    killed = []

    def scenario(host: SimHost) -> Any:
        host.system.reports.subscribe(lambda report: killed.append(report.reason))
        return host.session("s", engine(*asked, SAYS)).reply("hi").result()

    result = run_chat(scenario, faults=crashes("tool", chance=1.0, at_most=1))
    assert result.halted_reason == "completed"
    assert "crashed" in result.steps[1].tool_results[0].content
    assert KILLED in killed


def test_a_turn_that_nothing_ends_is_said_to_be_stuck() -> None:
    def scenario(host: SimHost) -> None:
        tool = allm.tool(name="hangs", description="", schema={}, handler=lambda _: Future[None]().get())
        calls = [script.tool_call("hangs"), script.finish("tool_calls")]
        host.session("s", engine(calls, tools=[tool])).reply("hi", tool_timeout=float("inf")).result()

    with pytest.raises(Stuck):
        run_chat(scenario)


def test_a_host_ends_with_its_block_and_can_be_looked_at_meanwhile() -> None:
    with SimHost() as host:
        assert "store" in host.tree()
        assert host.session_ids() == []
    assert not host.running


# --- sessions that have nothing to do -------------------------------------------------------------------------------


def test_a_session_that_has_nothing_to_do_ends_and_comes_back_as_it_was() -> None:
    slow = [script.delay(60.0), script.text("one"), script.finish("stop")]
    with SimHost(idle_timeout=10.0) as host:
        chat = host.session("s", engine(slow, [script.text("two"), script.finish("stop")]))
        turn = chat.reply("first")
        assert turn.result().final_response.text() == "one"  # a turn is not nothing, however long it takes
        host.advance(9.0)
        assert len(host.living("session")) == 1
        host.advance(2.0)
        assert host.living("session") == []
        assert [message.content for message in chat.messages] == ["first", "one"]
        assert chat.reply("second").result().final_response.text() == "two"
        assert [message.content for message in chat.messages] == ["first", "one", "second", "two"]
        host.run_until_idle()
        assert host.living("session") == []


def test_a_session_that_nobody_ever_asked_ends_too() -> None:
    with SimHost(idle_timeout=10.0) as host:
        host.session("s", engine(SAYS))
        host.advance(11.0)
        assert host.living("session") == []


APPROVE = allm.tool(name="approve", description="", schema={"type": "object"}, manual=True)


def test_who_comes_when_a_session_is_about_to_end_does_not_notice() -> None:
    """The timer and the client are due at the same moment; who is first is the seed's."""
    asks = [script.tool_call("approve", {}, id="m1"), script.finish("tool_calls")]
    for seed in range(60):
        with SimHost(seed, idle_timeout=1.0) as host:
            chat = host.session("s", engine(asks, SAYS, SAYS, SAYS, tools=[APPROVE]))
            chat.reply("go").result()

            def later(work: Any, seconds: float = 1.0, host: SimHost = host) -> Future[Any]:
                return host.client(lambda: (host.sleep(seconds), work())[1])

            forks = [later(lambda chat=chat, id=id: chat.fork(id)) for id in ("t", "u")]
            said = later(lambda chat=chat: chat.submit_tool_result("m1", "yes"))
            host.run_until_idle()
            assert said.get().status == "idle"
            assert [fork.get().id for fork in forks] == ["t", "u"]
            assert host.session_ids() == ["s", "t", "u"]
            assert chat.continue_().result().halted_reason == "completed"
            host.advance(2.0)  # and what was done counts: it ends again, when that is over
            assert host.living("session") == []


class SlowStore(MemoryStore):
    """Takes its time to save, once it is told to."""

    def __init__(self, host: Any) -> None:
        super().__init__()
        self.host, self.seconds = host, 0.0

    def save(self, saves: Any) -> None:
        """As if to a busy disk."""
        self.host().sleep(self.seconds)
        super().save(saves)


@pytest.mark.parametrize("change", ["fork", "submit"])
def test_a_session_that_is_being_stored_does_not_end(change: str) -> None:
    asks = [script.tool_call("approve", {}, id="m1"), script.finish("tool_calls")]
    host: SimHost
    store = SlowStore(lambda: host)
    with SimHost(idle_timeout=10.0, store=store) as host:
        chat = host.session("s", engine(asks, tools=[APPROVE]))
        chat.reply("go").result()
        store.seconds = 20.0
        if change == "fork":
            assert chat.fork("t").id == "t"
        else:
            assert chat.submit_tool_result("m1", "yes").status == "idle"
        assert host.living("session")
        host.advance(11.0)
        assert host.living("session") == []


def test_who_comes_while_a_session_ends_is_answered_by_the_next_one() -> None:
    host: SimHost
    store = SlowStore(lambda: host)
    slow = [script.text("Hel"), script.delay(5.0), script.finish("stop")]
    with SimHost(store=store) as host:
        chat = host.session("s", engine(slow, SAYS))
        next(chat.reply("first"))
        store.seconds = 20.0
        stopped = host.client(chat.stop)
        host.advance(1.0)
        assert host.living("session")  # it stores what came of the interruption
        assert host.client(lambda: chat.reply("second").result().halted_reason).get() == "completed"
        assert stopped.get() is True


@pytest.mark.parametrize("ask", ["reply", "submit"])
def test_who_meets_with_a_conflict_is_told_of_it_also_when_the_session_is_about_to_end(ask: str) -> None:
    asks = [script.tool_call("approve", {}, id="m1"), script.finish("tool_calls")]

    class Elsewhere(SlowStore):
        """Somebody else changes the session while we save it."""

        def save(self, saves: Any) -> None:
            super().save(saves)
            if self.seconds:
                raise allm.StoreError("conflict", message="saved elsewhere")

    host: SimHost
    store = Elsewhere(lambda: host)
    with SimHost(store=store) as host:
        chat = host.session("s", engine(asks, SAYS, tools=[APPROVE]))
        if ask == "submit":
            chat.reply("go").result()

        def say() -> str:
            try:
                chat.reply("hi") if ask == "reply" else chat.submit_tool_result("m1", "yes")
            except (allm.StoreError, allm.SessionError) as error:
                return error.reason
            return "done"

        store.seconds = 20.0
        said = host.client(say)
        host.advance(1.0)
        stopped = host.client(chat.stop)
        assert said.get() == "conflict"
        assert stopped.get() is True


@pytest.mark.parametrize("change", ["fork", "submit"])
def test_what_a_session_may_have_done_as_it_died_is_asked_of_no_other(change: str) -> None:
    asks = [script.tool_call("approve", {}, id="m1"), script.finish("tool_calls")]
    host: SimHost
    store = SlowStore(lambda: host)
    with SimHost(store=store) as host:
        chat = host.session("s", engine(asks, tools=[APPROVE]))
        chat.reply("go").result()

        def ask() -> str:
            try:
                chat.fork("t") if change == "fork" else chat.submit_tool_result("m1", "yes")
            except allm.SessionError as error:
                return error.reason
            return "done"

        store.seconds = 20.0
        asked = host.client(ask)
        host.advance(1.0)
        assert host.kill("session")
        assert asked.get() == "closed"
        host.run_until_idle()
        assert host.stored("t" if change == "fork" else "s") is not None
        assert chat.status == ("awaiting_tools" if change == "fork" else "idle")


def test_a_turn_whose_session_dies_has_the_steps_that_were_shown() -> None:
    calls = [
        script.text("I add."),
        script.tool_call("add", {"a": 1, "b": 2}),
        script.usage(input_tokens=100, output_tokens=10),
        script.finish("tool_calls"),
    ]
    for steps in range(3):
        with SimHost() as host:
            last = [script.text("so"), script.delay(9.0), script.finish("stop")]
            chat = host.session("s", engine(*[calls] * steps, last))
            turn, seen = chat.reply("first"), list[Any]()
            for event in turn:
                seen.append(event)
                if event == TextDelta("so"):
                    assert host.kill("session")
            result = turn.result()
            folded = allm.fold(seen[:-1], thread=Thread.from_messages([allm.user("first")])).chat_result()
            assert result.halted_reason == "error"
            assert result.steps == folded.steps
            assert (len(result.steps), result.usage().total() or 0) == (steps, steps * 110)
            assert result.text() == ("I add." if steps else None)
            assert result.thread == chat.value.thread


def test_a_turn_that_is_called_off_while_it_waits_has_nothing_of_the_one_that_runs() -> None:
    calls = [script.tool_call("add", {"a": 1, "b": 2}), script.finish("tool_calls")]
    with SimHost() as host:
        chat = host.session("s", engine(calls, SAYS, SAYS))
        first = chat.reply("first")
        next(first)
        second = chat.reply("second")
        second.close()
        assert second.result().thread.messages == []
        assert first.result().halted_reason == "completed"


def test_a_handle_whose_turn_is_over_and_dropped_ends_nobody_elses() -> None:
    slow = [script.text("Hel"), script.delay(5.0), script.finish("stop")]
    with SimHost() as host:
        chat, other = host.session("s", engine(SAYS)), host.session("s", engine(slow))
        chat.reply("first").result()
        host.run_until_idle()
        gc.collect()
        assert list(chat._turns) == []
        turn = other.reply("second")
        next(turn)
        chat.cancel()
        assert turn.result().halted_reason == "completed"


@pytest.mark.parametrize("refusing", [{"when_busy": "reject"}, {"queue_limit": 0}], ids=["rejected", "full"])
def test_cancel_ends_the_running_turn_after_another_one_was_refused(refusing: Any) -> None:
    slow = [script.text("Hel"), script.delay(DAY), script.finish("stop")]

    def scenario(host: SimHost) -> None:
        chat = host.session("s", engine(slow), **refusing)
        turn = chat.reply("first")
        result = host.client(turn.result)

        def stop() -> None:
            with pytest.raises(allm.SessionBusy):
                chat.reply("second")
            chat.cancel()

        host.client(stop).get()
        assert result.get().halted_reason == "cancelled"
        assert host.now < DAY

    explore_chat(scenario, seeds=range(100))


def test_without_an_idle_timeout_a_session_waits() -> None:
    with SimHost() as host:
        host.session("s", engine(SAYS)).reply("hi").result()
        host.advance(30 * DAY)
        assert len(host.living("session")) == 1


@pytest.mark.parametrize("seconds", [0, -1.0, "10", True])
def test_an_idle_timeout_is_a_time(seconds: Any) -> None:
    for wrong in ("loops", ["loop"], None):
        with pytest.raises(ValueError, match="dispatcher must be one of 'loop', "):
            allm.Host(dispatcher=wrong)
    with pytest.raises(ValueError, match="idle_timeout must be a positive number of seconds, or None"):
        allm.Host(idle_timeout=seconds)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_what_needs_the_real_world_is_refused_in_a_scenario(warm: bool) -> None:
    said = [script.text("Hello."), script.finish("stop")]

    def asked() -> allm.Engine:
        return allm.Engine(adapter="fake", adapter_opts={"scripts": [said] * 3})

    def no_session(host: SimHost) -> Any:
        return allm.chat(asked(), [allm.user("hi")])

    def in_a_client(host: SimHost) -> Any:
        return host.client(lambda: allm.generate(asked(), [allm.user("hi")])).get()

    def another_host(host: SimHost) -> Any:
        with allm.Host() as other:
            return other.session("s", asked())

    if warm:
        assert allm.chat(asked(), [allm.user("hi")]).text() == "Hello."
    for scenario in (no_session, in_a_client, another_host):
        with pytest.raises(
            allm.EngineError, match=r"in a scenario, use only its own host, with host\.session"
        ):
            run_chat(scenario)
    assert allm.chat(asked(), [allm.user("hi")]).text() == "Hello."
    assert run_chat(lambda host: host.session("s", asked()).reply("hi").result().text()) == "Hello."
