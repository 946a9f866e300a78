"""Moments that are rare: somebody dies, starts, forks or leaves between two steps that seem to be one."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import allm_actors as allm
from allm_actors.actors import default_host, stateless
from allm_actors.actors.calls.caller import CallActor
from allm_actors.actors.ports import Ports
from allm_actors.actors.protocol import ToolJob
from allm_actors.actors.sessions.ledger import Ledger
from allm_actors.actors.sessions.session import SessionActor
from allm_actors.actors.store import MemoryStore, Save, SQLiteStore
from allm_actors.actors.turns.assignment import WorkerSlot
from allm_actors.actors.turns.crew import Crew
from allm_actors.actors.turns.spec import Begin
from allm_actors.actors.workers.adapter import AdapterActor
from allm_actors.actors.workers.tools import ToolActor
from allm_actors.data import (
    Message,
    MessageCompleted,
    Session,
    StoreError,
    Thread,
    ToolCallCompleted,
    ToolCallStarted,
)
from allm_actors.engine.script import stage
from allm_actors.testing import SimHost, script
from supervisors import ProcessRef
from supervisors import exit as exit_process
from tests.integration.stage import SOON, Hold, until

WORKERS = (AdapterActor, ToolActor)
SAYS = [script.text("Hello."), script.finish("stop")]


def fake(*scripts: list[Any], **fields: Any) -> allm.Engine:
    return allm.Engine(adapter="fake", adapter_opts={"scripts": list(scripts)}, **fields)


def test_a_cancel_that_could_not_be_told_is_told_with_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(turn_id: str) -> None:
        raise MemoryError

    with allm.Host() as host:
        session = host.session("s", fake(SAYS))
        turn = session.reply("one")
        with monkeypatch.context() as patch:
            patch.setattr("allm_actors.actors.sessions.session.Cancel", out_of_memory)
            with pytest.raises(MemoryError):
                turn.close()
        assert session.reply("two").result().halted_reason == "completed"
        assert turn.result().halted_reason == "cancelled"


class Says:
    """An adapter that is asked on a thread, and says many things at once."""

    name = "says"

    def __init__(self, words: int = 1) -> None:
        self.words = words

    def requires_structured_finalize(self, request: Any) -> bool:
        return False

    def stream(self, request: Any, call: Any) -> Iterator[Any]:
        yield from stage([*[script.text("x") for _ in range(self.words)], script.finish("stop")])


def in_time(work: Callable[[], Any]) -> Any:
    """What `work` gives, on a thread of its own; it must not hang."""
    gave: list[Any] = []
    thread = threading.Thread(target=lambda: gave.append(work()), daemon=True)
    thread.start()
    thread.join(SOON)
    assert gave, "it hangs"
    return gave[0]


def exit_of(child: int) -> int:
    """How a forked child ended; it must, in time."""
    ended: list[int] = []

    def has_ended() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        ended.extend([status] if pid else [])
        return bool(ended)

    until(has_ended)
    return ended[0]


# --- a turn's own end ---------------------------------------------------------------------------------------------


def test_a_chat_in_a_tool_that_is_killed_is_called_off() -> None:
    held, killed = Hold(), threading.Event()

    class Held(Says):
        def stream(self, request: Any, call: Any) -> Iterator[Any]:
            held.wait()
            yield from stage([script.tool_call("look"), script.finish("tool_calls")])

    look = allm.Tool(name="look", description="", schema={}, handler=lambda _: 1)

    def agent(_arguments: Any) -> str:
        try:
            return str(allm.chat(allm.Engine(adapter=Held(), tools=[look]), [allm.user("inner")]))
        finally:
            killed.set()

    tool = allm.Tool(name="agent", description="", schema={}, handler=agent, timeout=0.3)
    calls = [script.tool_call("agent"), script.finish("tool_calls")]
    outer = allm.chat(fake(calls, SAYS, tools=[tool]), [allm.user("outer")])
    assert "did not answer" in outer.thread.messages[2].content
    assert killed.wait(SOON)
    held.open()
    until(lambda: default_host().stats().turns == 0)


@pytest.mark.parametrize("dispatcher", ["loop", "threads", "pool"])
@pytest.mark.parametrize(
    "moment", [(WorkerSlot, "give"), (Crew, "dismiss"), (Crew, "hire")], ids=lambda m: m[1]
)
def test_a_session_that_is_killed_as_it_hands_out_work_or_lets_go_leaves_nobody_behind(
    moment: tuple[type, str], dispatcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, dies = getattr(*moment), [True]
    tool = allm.Tool(name="look", description="", schema={}, handler=lambda _: 1)
    calls = [*[script.tool_call("look") for _ in range(3)], script.finish("tool_calls")]
    with allm.Host(dispatcher=dispatcher) as host:

        def killed_first(self: Any, *args: Any) -> Any:
            if dies:
                dies.clear()
                exit_process(host.system.whereis(("sessions", "s")), "kill")
            return honest(self, *args)

        monkeypatch.setattr(*moment, killed_first)
        turn = host.session("s", fake(calls, calls, SAYS, tools=[tool])).reply("hi")
        assert in_time(turn.result).halted_reason == "error"
        assert not dies
        until(lambda: not any(issubclass(each.actor_class, WORKERS) for each in host.system.processes()))


def test_a_call_that_is_killed_as_it_lets_go_leaves_no_attempt_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended, dismiss, dies = threading.Event(), Ports.dismiss, [True]

    class Silent:
        name = "silent"

        async def embed(self, request: Any, call: Any) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    def killed_first(self: Ports, worker: ProcessRef[Any], reason: Any) -> None:
        if dies:
            dies.clear()
            caller = next(each for each in self.system.processes() if each.actor_class is CallActor)
            exit_process(caller, "kill")
        dismiss(self, worker, reason)

    monkeypatch.setattr(Ports, "dismiss", killed_first)
    engine = allm.Engine(embed_adapter=Silent())
    with pytest.raises(allm.AllmError):
        allm.embed(engine, ["a"], request_timeout=0.05)
    assert not dies
    assert ended.wait(SOON)


@pytest.mark.parametrize("dispatcher", ["loop", "threads", "pool"])
def test_a_model_that_reads_ahead_while_its_supervisor_restarts_is_woken(
    dispatcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hire, dies = Crew.hire, [True]
    with allm.Host(dispatcher=dispatcher) as host:

        def hire_from_the_dead(self: Crew, job: Any) -> Any:
            if dies:
                dies.clear()
                exit_process(host.system.whereis("adapters"), "kill")
            return hire(self, job)

        monkeypatch.setattr(Crew, "hire", hire_from_the_dead)
        turn = host.session("s", allm.Engine(adapter=Says(30))).reply("hi")
        assert in_time(turn.result).final_response.text() == "x" * 30


@pytest.mark.parametrize(("role", "halted"), [("tools", "completed"), ("adapters", "error")])
def test_nobody_waits_for_a_supervisor_that_somebody_has_stopped(role: str, halted: str) -> None:
    tool = allm.Tool(name="look", description="", schema={}, handler=lambda _: 1)
    calls = [script.tool_call("look"), script.finish("tool_calls")]
    with allm.Host() as host:
        work: Any = host.system.whereis("work")
        work.terminate_child(role)
        result = in_time(host.session("s", fake(calls, SAYS, tools=[tool])).reply("hi").result)
    assert result.halted_reason == halted
    assert "not found" in str(result.metadata.get("error") or result.steps[0].tool_results[0].content)


@pytest.mark.parametrize("role", ["tools", "adapters"])
@pytest.mark.parametrize("reason", ["cancelled", "error"])
def test_nobody_is_hired_again_for_a_turn_that_is_over(
    reason: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would wait for what such a worker does, which may be a coroutine that cleans up."""
    hire, spawn, when_whole = Crew.hire, Ports._spawn, Ports.when_whole
    wanted: list[Any] = []
    hired: list[Any] = []
    waits, goes_on, over = threading.Event(), threading.Event(), threading.Event()

    async def look(_arguments: Any) -> int:
        return 1

    def hire_from_the_dead(self: Crew, job: Any) -> Any:
        if not wanted and isinstance(job, ToolJob) == (role == "tools"):
            wanted.append(job)
            exit_process(host.system.whereis(role), "kill")
        return hire(self, job)

    def spawn_and_note(self: Ports, job: Any, lost: Any) -> Any:
        hired.append(job)
        return spawn(self, job, lost)

    def when_told(self: Ports, done: Any) -> None:
        def wait() -> None:
            goes_on.wait(SOON)
            when_whole(self, lambda gone: (done(gone), over.set()))

        waits.set()
        threading.Thread(target=wait).start()

    tool = allm.Tool(name="look", description="", schema={}, handler=look)
    calls = [script.tool_call("look"), script.finish("tool_calls")]
    with allm.Host() as host:
        monkeypatch.setattr(Crew, "hire", hire_from_the_dead)
        monkeypatch.setattr(Ports, "_spawn", spawn_and_note)
        monkeypatch.setattr(Ports, "when_whole", when_told)
        session = host.session("s", fake(calls, SAYS, SAYS, tools=[tool]))
        turn = session.reply("hi")
        result = threading.Thread(target=turn.result)
        result.start()
        assert waits.wait(SOON)
        hired.clear()  # the attempt that failed
        if reason == "cancelled":
            turn.close()
        else:
            exit_process(host.system.whereis(("sessions", "s")), "kill")
        result.join(SOON)
        assert turn.result().halted_reason == reason
        goes_on.set()
        assert over.wait(SOON)
        assert in_time(session.reply("again").result).halted_reason == "completed"
        assert hired
        assert not any(job is wanted[0] for job in hired)


def test_a_session_keeps_nothing_of_a_worker_that_came_late_and_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hire, late = Ports.hire, []

    def hire_from_the_dead(self: Ports, *job: Any) -> Any:
        if not late:
            exit_process(host.system.whereis("adapters"), "kill")
        worker = hire(self, *job)
        late.append(worker is None)
        return worker

    with allm.Host() as host:
        session = host.session("s", allm.Engine(adapter=Says()))
        session.reply("hi").result()
        ref: Any = host.system.whereis(("sessions", "s"))
        before = len(ref.ties.watchers)
        with monkeypatch.context() as patch:
            patch.setattr(Ports, "hire", hire_from_the_dead)
            assert in_time(session.reply("hi").result).halted_reason == "completed"
        assert late == [True, False]
        until(lambda: len(ref.ties.watchers) == before)


def test_a_dropped_turn_ends_although_its_session_died_as_it_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask, held = ProcessRef.ask, Hold()

    def ask_the_dying(self: Any, message: Any, **options: Any) -> Any:
        if isinstance(message, Begin):
            monkeypatch.setattr(ProcessRef, "ask", ask)
            exit_process(self, "kill")
        return ask(self, message, **options)

    class Held(Says):
        def stream(self, request: Any, call: Any) -> Iterator[Any]:
            held.wait()
            yield from stage(SAYS)

    with allm.Host() as host:
        chat = host.session("s", allm.Engine(adapter=Held()))
        monkeypatch.setattr(ProcessRef, "ask", ask_the_dying)
        gc.collect()
        gc.disable()
        try:
            turn = chat.reply("hi")
            assert host.stats().turns == 1
            del turn
            held.open()
            until(lambda: host.stats().turns == 0)
        finally:
            gc.enable()


# --- a session's value --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before its session is there", "before its first message"])
def test_a_run_that_cannot_start_keeps_the_conversation(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake(SAYS, SAYS)
    session, _ = allm.session.start(engine, [allm.user("one")])
    supervisor: Any = default_host().system.whereis("sessions")
    if moment == "before its first message":
        monkeypatch.setattr(SessionActor, "handle_continue", lambda self, _: exit_process(self.ref, "kill"))
    else:
        start = type(supervisor).spawn_child

        def start_from_the_dead(self: Any, *args: Any, **kwargs: Any) -> Any:
            exit_process(self, "kill")
            return start(self, *args, **kwargs)

        monkeypatch.setattr(type(supervisor), "spawn_child", start_from_the_dead)
    stream = allm.session.stream_reply(engine, session, "two")
    after, result = stream.finish()
    assert (after.status, result.halted_reason) == ("error", "error")
    assert [message.content for message in after.thread.messages] == ["one", "Hello.", "two"]


class SlowStore(MemoryStore):
    """Takes its time to load."""

    def __init__(self, error: StoreError | None = None) -> None:
        super().__init__()
        self.hold, self.error = Hold(), error
        self.save([Save(Session(id="s", thread=Thread.from_messages([allm.user("a"), allm.user("b")])))])

    def load(self, id: str) -> Session | None:
        self.hold.wait()
        if self.error is not None:
            raise self.error
        return super().load(id)


class Slow:
    """No `MemoryStore` by type, so that it has a thread of its own."""

    def __init__(self, store: SlowStore) -> None:
        for name in ("open", "load", "save", "delete", "ids", "close"):
            setattr(self, name, getattr(store, name))


@pytest.mark.parametrize("error", [None, StoreError("corrupt", message="unreadable")])
def test_whoever_asks_for_a_session_that_somebody_loads_waits_for_it_too(error: StoreError | None) -> None:
    store, seen = SlowStore(error), []

    def look() -> None:
        try:
            seen.append(len(host.session("s", fake(SAYS)).messages))
        except StoreError as failure:
            seen.append(failure)

    with allm.Host(store=Slow(store)) as host:
        threads = [threading.Thread(target=look) for _ in range(2)]
        threads[0].start()
        assert store.hold.reached.wait(SOON)
        threads[1].start()
        actor: Any = host.system.whereis(("sessions", "s"))
        until(lambda: seen or actor.load().waiting)  # it has asked, or was answered too early
        assert not seen
        store.hold.open()
        for thread in threads:
            thread.join(SOON)
    assert seen == [2, 2] if error is None else all(isinstance(each, StoreError) for each in seen)


def test_a_call_that_waits_for_its_caller_waits_in_a_turn_that_never_began(tmp_path: Path) -> None:
    asked, held = Hold(), Hold()

    class Asked(SQLiteStore):
        def check(self, id: str) -> None:
            asked.wait()

    class Held(Says):
        def stream(self, request: Any, call: Any) -> Iterator[Any]:
            held.wait()
            yield from stage([script.tool_call("approve", id="m1"), script.finish("tool_calls")])

    approve = allm.Tool(name="approve", description="", schema={}, manual=True)
    engine = allm.Engine(Held(), tools=[approve])
    with allm.Host(store=Asked(tmp_path / "s.db")) as host:
        session = host.session("s", engine)
        turns = [session.reply(text) for text in ("one", "two", "three")]
        held.open()
        assert turns[0].result().halted_reason == "manual_tool_calls"
        assert asked.reached.wait(SOON)  # is the second one refused by what another host has stored?
        stopping = threading.Thread(target=session.stop)
        stopping.start()
        last = in_time(turns[2].result)
        asked.open()
        stopping.join(SOON)
        assert last.halted_reason == "interrupted"
        assert [message.role for message in last.thread.messages] == ["user", "assistant"]
        stored = host.session("s", engine)
        assert (stored.status, [call.id for call in stored.pending_tool_calls]) == ("awaiting_tools", ["m1"])


def test_what_cannot_be_stored_does_not_stay(tmp_path: Path) -> None:
    class Odd(Says):
        asked = 0

        def stream(self, request: Any, call: Any) -> Iterator[Any]:
            self.asked += 1
            for event in stage(SAYS):
                if isinstance(event, MessageCompleted) and self.asked == 1:
                    said = Message(role="assistant", content="x", metadata={"raw": object()})
                    yield msgspec.structs.replace(event, message=said)
                else:
                    yield event

    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", allm.Engine(adapter=Odd()))
        result = chat.reply("hi").result()
        assert result.metadata["error"].reason == "unencodable"
        assert chat.reply("again").result().halted_reason == "completed"
        assert [message.content for message in chat.messages] == ["hi", "again", "Hello."]


@pytest.mark.parametrize("levels", [63, 64, 900])
def test_arguments_of_any_depth_are_answered_and_stored(tmp_path: Path, levels: int) -> None:
    class Deep(Says):
        def stream(self, request: Any, call: Any) -> Iterator[Any]:
            it: Any = None
            for _ in range(levels):
                it = {"a": it}
            called = [
                ToolCallStarted("c1", "look"),
                ToolCallCompleted("c1", "look", {"it": it}),
                MessageCompleted(Message(role="assistant", content=""), "tool_calls"),
            ]
            yield from stage(SAYS) if request.messages[-1].role == "tool" else called

    @allm.tool
    def look(it: Any) -> str:
        """Look at it."""
        return "seen"

    with allm.Host(store=tmp_path / "s.db") as host:
        result = host.session("s", allm.Engine(adapter=Deep(), tools=[look])).reply("hi").result()
        assert result.halted_reason == "completed"
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", fake(SAYS))
        answer = chat.messages[2].content
        assert answer == "seen" if levels < 64 else "nested more than 64 levels deep" in answer
        assert len(chat.messages) == 4


@pytest.mark.parametrize("how", [lambda it: it, lambda it: allm.Halt("enough", it)], ids=["answer", "halt"])
@pytest.mark.parametrize("levels", [64, 300, 100_000])
def test_what_a_tool_gives_may_be_of_any_depth(
    tmp_path: Path, levels: int, how: Callable[[Any], Any]
) -> None:
    @allm.tool
    def look() -> Any:
        """Look at it."""
        it: Any = None
        for _ in range(levels):
            it = [it]
        return how(it)

    calls = [script.tool_call("look", id="c1"), script.finish("tool_calls")]
    with allm.Host(store=tmp_path / "s.db") as host:
        result = host.session("s", fake(calls, SAYS, tools=[look])).reply("hi").result()
        said = list(result.thread.messages)
        assert result.halted_reason in ("completed", "enough")
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", fake(SAYS))
        assert chat.messages == said
        assert chat.reply("again").result().halted_reason == "completed"


def test_what_a_session_answers_is_a_snapshot() -> None:
    manual = allm.Tool(name="pay", description="", schema={}, manual=True)
    calls = [script.tool_call("pay", id="c1"), script.tool_call("pay", id="c2"), script.finish("tool_calls")]
    with allm.Host() as host:
        chat = host.session("s", fake(calls, SAYS, tools=[manual]))
        chat.reply("hi").result()
        chat.submit_tool_result("c1", "x").pending_tool_calls.clear()
        assert [call.id for call in chat.pending_tool_calls] == ["c2"]
        chat.submit_tool_result("c2", "y")
        chat.recover().thread.messages.clear()
        assert len(chat.messages) == 4


def test_a_session_that_dies_before_it_hears_what_it_is_gives_its_name_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = SessionActor._loaded

    def die_first(self: Any, session: Any, error: Any) -> None:
        if self._setup.id == "b":
            exit_process(self.ref, "kill")
        loaded(self, session, error)

    with SimHost(3) as host:
        chat = host.session("a", fake(SAYS))
        monkeypatch.setattr(SessionActor, "_loaded", die_first)
        with pytest.raises(allm.SessionError):
            host.session("b", fake(SAYS))
        monkeypatch.setattr(SessionActor, "_loaded", loaded)
        host.run_until_idle()
        assert chat.fork("b").messages == []


def test_a_turn_whose_end_was_told_when_its_session_died_is_not_begun_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, dies = Ledger.save, [True]

    def killed_first(self: Any, done: Any) -> None:
        if dies:
            dies.clear()
            exit_process(self.ref, "kill")
        save(self, done)

    monkeypatch.setattr(Ledger, "save", killed_first)
    with allm.Host() as host:
        chat = host.session("s", fake(SAYS, SAYS))
        with pytest.raises(StoreError, match="is not known") as refused:
            chat.reply("lost")
        assert (refused.value.reason, dies) == ("unconfirmed", [])
        assert in_time(chat.reply("said").result).halted_reason == "completed"
        assert [message.content for message in chat.messages] == ["said", "Hello."]


def test_what_a_session_crashes_on_before_it_has_answered_is_not_given_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def crash(self: Any, message: Any) -> None:
        tried.append(message)
        raise RuntimeError("a bug")

    with allm.Host() as host:
        chat = host.session("s", fake(SAYS))
        with monkeypatch.context() as patch:
            patch.setattr(SessionActor, "_store_answered", crash)
            with pytest.raises(allm.SessionError, match="cannot be reached"):
                chat.recover()
        assert len(tried) == 1
        assert in_time(chat.reply("hi").result).halted_reason == "completed"


def test_a_session_that_ends_leaves_no_timer() -> None:
    with allm.Host(idle_timeout=3600.0) as host:
        for number in range(20):
            host.session(f"s{number}", fake(SAYS)).stop()
        until(lambda: host.stats().sessions == 0)
        timers: Any = host.system.timers
        until(lambda: not any(timer.pending for timer in timers._heap))


# --- a host's own life --------------------------------------------------------------------------------------------


def test_a_stop_in_a_start_that_fails_does_not_stop_the_next() -> None:
    class Locked(MemoryStore):
        first = True

        def open(self) -> None:
            if self.first:
                self.first = False
                host.stop()
                raise StoreError("locked", message="locked")

    host = allm.Host(store=Locked())
    with pytest.raises(StoreError, match="locked"):
        host.start()
    with host:
        assert host.running


def test_a_call_may_be_made_by_whoever_interrupts_the_making_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[allm.Host] = []
    monkeypatch.setattr(stateless, "_default", [])
    host = stateless.Host

    def interrupted() -> allm.Host:
        monkeypatch.setattr(stateless, "Host", host)
        made.append(default_host())  # what a signal's handler may do
        return host()

    monkeypatch.setattr(stateless, "Host", interrupted)
    assert in_time(default_host) is made[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_does_not_wait_for_its_parents_host(monkeypatch: pytest.MonkeyPatch) -> None:
    held, host = Hold(), stateless.Host
    monkeypatch.setattr(stateless, "_default", [])

    def slowly() -> allm.Host:
        held.wait()
        return host()

    monkeypatch.setattr(stateless, "Host", slowly)
    making = threading.Thread(target=default_host)
    making.start()
    assert held.reached.wait(SOON)
    child = os.fork()
    if child == 0:
        try:
            stateless.Host = host  # type: ignore[misc]
            default_host()
        except BaseException:  # noqa: BLE001 - a child that raises would go on as a second pytest
            os._exit(1)
        os._exit(0)
    held.open()
    making.join(SOON)
    assert exit_of(child) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_in_a_forked_child_nothing_waits_for_what_stayed_behind() -> None:
    held = Hold()

    class Held(Says):
        def stream(self, request: Any, call: Any) -> Iterator[Any]:
            held.wait()
            yield from stage(SAYS)

    with allm.Host() as host:
        chat = host.session("s", allm.Engine(adapter=Held()))
        turn = chat.reply("hi")
        child = os.fork()
        if child == 0:
            wrong = 0
            try:
                wrong += host.running or host.stats() != allm.HostStats()
                uses = (turn.result, lambda: list(turn), chat.stop, chat.cancel, lambda: host.start().tree())
                for use in uses:
                    try:
                        use()
                        wrong += 1
                    except allm.EngineError as error:
                        wrong += "fork" not in error.message
            except BaseException:  # noqa: BLE001 - a child that raises would go on as a second pytest
                os._exit(9)
            os._exit(wrong)
        status = exit_of(child)
        held.open()
        assert status == 0
        assert turn.result().halted_reason == "completed"


def test_a_host_whose_loop_was_closed_lets_go_of_its_store(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    host = allm.Host(store=path)
    loop = asyncio.new_event_loop()

    async def enter() -> None:
        await host.__aenter__()
        await host.session("s", fake(SAYS)).reply("hi")

    loop.run_until_complete(enter())
    loop.close()
    host.stop()
    until(lambda: not any(thread.name.startswith("supervisors-pinned") for thread in threading.enumerate()))
    assert not list(tmp_path.glob("s.db-*")), "the write-ahead log is folded into the file"
    with allm.Host(store=path) as again:
        assert len(again.session("s", fake(SAYS)).messages) == 2


def test_an_attached_host_whose_tree_has_died_is_not_started_on_its_loop() -> None:
    async def scenario() -> None:
        async with allm.Host() as host:
            exit_process(host.system.whereis("host"), "kill")
            await asyncio.to_thread(until, lambda: not host.running)
            with pytest.raises(allm.EngineError, match="enter a new one, which goes on from the store"):
                host.session("s", fake(SAYS))
            began = time.monotonic()
            with pytest.raises(RuntimeError, match="leave the `async with` block and enter a new one"):
                host.start()
            assert time.monotonic() - began < SOON

    asyncio.run(scenario())


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_store_that_dies_is_no_answer_to_who_asks_for_names(when: str) -> None:
    hold = Hold()

    class Asked(MemoryStore):
        def ids(self) -> list[str]:
            hold.wait()
            return []

    class Own:
        """Has a thread of its own."""

    store: Any = Own()
    for name in ("open", "load", "save", "delete", "close", "ids"):
        setattr(store, name, getattr(Asked(), name))
    with allm.Host(store=store) as host:
        actor = host.system.whereis("store")
        assert actor is not None
        if when == "before":
            with SimHost(1) as simulated:
                simulated.session("s", fake(SAYS))
                simulated.kill("store")
                with pytest.raises(StoreError, match="being restarted"):
                    simulated.session_ids()
            hold.open()
            return

        def kill() -> None:
            assert hold.reached.wait(SOON)
            exit_process(actor, "kill")
            hold.open()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(StoreError, match="did not answer"):
            host.session_ids()
        killer.join(SOON)
