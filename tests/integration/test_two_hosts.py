"""One session that two hosts have open, each as a process of its own would: what the one has done, the other is told of
before it is refused anything for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors.protocol import SubmitToolResults
from allm_actors.actors.store import MemoryStore, SQLiteStore
from allm_actors.execution.sessions import submit_tool_result
from allm_actors.testing import script
from allm_actors.testing.simhost import SimHost
from supervisors import exit as exit_process

from .stage import Hold

SOON = 5.0
SAYS = [script.text("Hello."), script.finish("stop")]
ASKS = [script.tool_call("refund", {"order": "A-17"}, id="c1"), script.finish("tool_calls")]
FAILS = [script.text("Hel"), script.error("network_error")]
CALLED = [allm.ToolCall(id="c1", name="refund", arguments={})]
REFUND = allm.tool(name="refund", description="", schema={"type": "object"}, manual=True)


def fake(*scripts: Any) -> allm.Engine:
    return allm.Engine(adapter="fake", tools=[REFUND], adapter_opts={"scripts": list(scripts)})


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[allm.Host, allm.Host]]:
    """Two hosts over one file."""
    with allm.Host(store=tmp_path / "s.db") as one, allm.Host(store=tmp_path / "s.db") as two:
        yield one, two


def approve(host: allm.Host) -> None:
    """What somebody does elsewhere with a session that waits for him."""
    chat = host.session("s", fake(SAYS))
    chat.submit_tool_result("c1", "refunded")
    chat.continue_().result()


# --- what is refused by a status that is an old one ------------------------------------------------------------------


REFUSED: dict[str, Callable[[Any], Any]] = {
    "reply": lambda chat: chat.reply("hello?"),
    "continue": lambda chat: chat.continue_(),
    "continue with a message": lambda chat: chat.continue_("hello?"),
    "step": lambda chat: chat.step(),
    "an answer to what nobody asked": lambda chat: chat.submit_tool_result("c2", "x"),
}


@pytest.mark.parametrize("ask", REFUSED.values(), ids=REFUSED)
def test_who_waits_for_what_was_answered_elsewhere_is_told_so(
    hosts: tuple[allm.Host, allm.Host], ask: Callable[[Any], Any]
) -> None:
    one, two = hosts
    chat = one.session("s", fake(ASKS, SAYS))
    chat.reply("It came broken.").result()
    assert chat.status == "awaiting_tools"
    approve(two)
    with pytest.raises(allm.StoreError, match="saved by another host") as conflict:
        ask(chat)
    assert conflict.value.reason == "conflict"
    assert (chat.status, chat.pending_tool_calls, len(chat.messages)) == ("completed", [], 4)
    assert chat.reply("hello?").result().halted_reason == "completed"
    assert len(chat.messages) == 6


def test_an_answer_reaches_a_session_that_waits_for_it_since_it_was_opened_here(
    hosts: tuple[allm.Host, allm.Host],
) -> None:
    one, two = hosts
    open_here = two.session("s", fake(SAYS))
    one.session("s", fake(ASKS)).reply("It came broken.").result()
    with pytest.raises(allm.StoreError, match="saved by another host"):
        open_here.submit_tool_result("c1", "refunded")
    assert [call.id for call in open_here.pending_tool_calls] == ["c1"]
    assert open_here.submit_tool_result("c1", "refunded").status == "idle"


def test_a_session_that_recovered_elsewhere_is_no_error_here(hosts: tuple[allm.Host, allm.Host]) -> None:
    one, two = hosts
    chat = one.session("s", fake(FAILS, SAYS))
    chat.reply("hi").result()
    assert chat.status == "error"
    other = two.session("s", fake(SAYS))
    other.recover()
    other.reply("there?").result()
    with pytest.raises(allm.StoreError, match="saved by another host"):
        chat.reply("hi")
    assert chat.status == "completed"
    assert chat.reply("hi").result().halted_reason == "completed"


def test_messages_that_were_said_elsewhere_are_not_replaced(hosts: tuple[allm.Host, allm.Host]) -> None:
    one, two = hosts
    chat = one.session("s", fake(SAYS, SAYS))
    chat.reply("hi").result()
    two.session("s", fake(SAYS)).reply("there?").result()
    with pytest.raises(allm.StoreError, match="saved by another host"):
        chat.replace_messages(chat.messages[:-1])
    assert len(chat.messages) == 4
    assert chat.replace_messages(chat.messages[:-1]).status == "idle"


def test_a_session_that_was_deleted_elsewhere_waits_for_nobody(hosts: tuple[allm.Host, allm.Host]) -> None:
    one, two = hosts
    chat = one.session("s", fake(ASKS, SAYS))
    chat.reply("It came broken.").result()
    two.delete_session("s")
    with pytest.raises(allm.StoreError, match="saved by another host"):
        chat.reply("hello?")
    assert (chat.status, chat.messages) == ("idle", [])
    assert chat.reply("hello?").result().halted_reason == "completed"


def test_what_was_answered_elsewhere_is_not_forked_as_it_was(hosts: tuple[allm.Host, allm.Host]) -> None:
    one, two = hosts
    chat = one.session("s", fake(ASKS))
    chat.reply("It came broken.").result()
    approve(two)
    with pytest.raises(allm.StoreError, match="saved by another host") as conflict:
        chat.fork("t")
    assert conflict.value.reason == "conflict"
    assert one.session_ids() == ["s"]
    assert chat.status == "completed"
    assert chat.fork("t").value.thread == two.session("s", fake()).value.thread


def test_a_fork_does_not_bring_back_what_was_deleted_elsewhere(hosts: tuple[allm.Host, allm.Host]) -> None:
    one, two = hosts
    chat = one.session("s", fake(SAYS))
    chat.reply("a secret").result()
    two.delete_session("s")
    with pytest.raises(allm.StoreError, match="another host") as conflict:
        chat.fork("t")
    assert conflict.value.reason == "conflict"
    assert (one.session_ids(), chat.messages) == ([], [])
    assert chat.fork("t").messages == []


def test_a_fork_in_a_turn_is_told_of_a_conflict_before_the_turn_meets_with_it(
    hosts: tuple[allm.Host, allm.Host],
) -> None:
    one, two = hosts
    hold = Hold()
    chat, turn, reader = at_work(one, hold)
    two.delete_session("s")
    with pytest.raises(allm.StoreError, match="another host"):
        chat.fork("t")
    assert chat.busy
    hold.open()
    reader.join(SOON)
    result = turn.result()
    assert (result.halted_reason, result.metadata["error"].reason) == ("error", "conflict")
    assert one.session_ids() == []
    assert chat.reply("hello?").result().halted_reason == "completed"
    assert [message.content for message in chat.messages] == ["hello?", "Hello."]


def test_a_session_that_was_never_stored_can_be_forked(hosts: tuple[allm.Host, allm.Host]) -> None:
    assert hosts[0].session("s", fake(SAYS)).fork("t").reply("hi").result().halted_reason == "completed"


def test_of_two_hosts_that_fork_to_one_name_the_second_is_told_that_it_is_taken(tmp_path: Path) -> None:
    class Overtaken(SQLiteStore):
        """Another host takes the name of the fork just before it is stored."""

        def save(self, batch: Any) -> None:
            if batch[0].session.id == "t":
                other.session("t", fake(SAYS)).reply("first").result()
            super().save(batch)

    with allm.Host(store=tmp_path / "s.db") as other, allm.Host(store=Overtaken(tmp_path / "s.db")) as host:
        chat = host.session("s", fake(SAYS, SAYS))
        chat.reply("hi").result()
        with pytest.raises(allm.SessionError, match="already exists"):
            chat.fork("t")
        assert [message.content for message in other.session("t", fake()).messages] == ["first", "Hello."]
        assert chat.reply("go on").result().halted_reason == "completed"


def test_what_the_status_refuses_is_refused_where_nobody_else_was(hosts: tuple[allm.Host, allm.Host]) -> None:
    one, _ = hosts
    chat = one.session("s", fake(ASKS, SAYS))
    chat.reply("It came broken.").result()
    for ask in (chat.reply, chat.continue_):
        with pytest.raises(allm.SessionStatusError, match="submit the results of c1 first"):
            ask("hello?")
    with pytest.raises(allm.SessionError, match="'c2' not in pending_tool_calls") as unknown:
        chat.submit_tool_result("c2", "x")
    assert unknown.value.reason == "unknown_tool_call_id"
    assert chat.submit_tool_result("c1", "refunded").status == "idle"


def test_a_conflict_is_told_of_when_what_is_stored_can_be_seen(hosts: tuple[allm.Host, allm.Host]) -> None:
    one, two = hosts
    chat, other = one.session("s", fake(SAYS)), two.session("s", fake(SAYS, SAYS))
    other.reply("first").result()
    with pytest.raises(allm.StoreError, match="saved by another host"):
        chat.reply("second")
    assert [message.content for message in chat.messages] == ["first", "Hello."]
    other.reply("third").result()
    with pytest.raises(allm.StoreError, match="saved by another host"):
        chat.recover()
    assert len(chat.messages) == 4


def test_on_an_event_loop_it_is_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with allm.Host(store=tmp_path / "s.db") as one, allm.Host(store=tmp_path / "s.db") as two:
            chat = one.session("s", fake(ASKS, SAYS))
            await chat.reply("It came broken.")
            other = two.session("s", fake(SAYS))
            await other.submit_tool_result("c1", "refunded")
            await other.continue_()
            with pytest.raises(allm.StoreError, match="saved by another host"):
                await chat.reply("hello?")
            await other.reply("more", adapter_opts={"scripts": [SAYS] * 4})
            with pytest.raises(allm.StoreError, match="saved by another host"):
                await chat.submit_tool_result("c1", "refunded")
            assert (chat.status, len(chat.messages)) == ("completed", 6)
            with pytest.raises(allm.SessionStatusError, match="no tool call is pending"):
                await chat.submit_tool_result("c1", "refunded")

    asyncio.run(asyncio.wait_for(main(), SOON))


# --- while the store looks -------------------------------------------------------------------------------------------


class Looked(SQLiteStore):
    """A file at which a look takes as long as the test likes, and comes to what it likes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.hold, self.error = Hold(), None

    def check(self, id: str) -> None:
        self.hold.wait()
        if self.error is not None:
            raise self.error
        super().check(id)


def waiting_session(host: allm.Host) -> Any:
    chat = host.session("s", fake(ASKS, SAYS))
    chat.reply("It came broken.").result()
    return chat


def on_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Somebody who calls this, and what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except allm.AllmError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def test_a_store_that_cannot_look_does_not_hide_the_refusal(tmp_path: Path) -> None:
    store = Looked(tmp_path / "s.db")
    store.hold.open()
    with allm.Host(store=store) as host:
        chat = waiting_session(host)
        store.error = allm.StoreError("locked", message="in use")
        with pytest.raises(allm.SessionStatusError, match="submit the results of c1 first"):
            chat.reply("hello?")


def test_what_is_asked_meanwhile_waits(tmp_path: Path) -> None:
    store = Looked(tmp_path / "s.db")
    with allm.Host(store=store) as host:
        chat = waiting_session(host)
        refused, why = on_thread(lambda: chat.reply("hello?"))
        assert store.hold.reached.wait(SOON)
        submitted = chat.ask(SubmitToolResults([("c1", "refunded")]))
        store.hold.open()
        assert submitted.get(timeout=SOON).status == "idle"
        refused.join(SOON)
        assert [type(error) for error in why] == [allm.SessionStatusError]


@pytest.mark.parametrize("end", ["stop", "delete", "kill"])
@pytest.mark.parametrize("ask", ["reply", "submit"])
def test_who_is_about_to_be_refused_is_told_something_when_the_session_ends(
    tmp_path: Path, ask: str, end: str
) -> None:
    store = Looked(tmp_path / "s.db")
    with allm.Host(store=store) as host:
        chat = waiting_session(host)
        calls = {"reply": lambda: chat.reply("hello?"), "submit": lambda: chat.submit_tool_result("c2", "x")}
        asker, why = on_thread(calls[ask])
        assert store.hold.reached.wait(SOON)
        actor: Any = host.system.whereis(("sessions", "s"))
        if end == "kill":
            exit_process(actor, "kill")
            ender = threading.Thread(target=lambda: None)
        else:
            ender = threading.Thread(
                target=chat.stop if end == "stop" else lambda: host.delete_session("s"), name="ends it"
            )
        ender.start()
        store.hold.open()
        for thread in (asker, ender):
            thread.join(SOON)
            assert not thread.is_alive()
        if ask == "submit" or end != "kill":
            assert [type(error) for error in why] in ([allm.SessionStatusError], [allm.SessionError])


def test_what_a_session_was_about_to_refuse_as_it_died_the_next_one_refuses(tmp_path: Path) -> None:
    store = Looked(tmp_path / "s.db")
    with allm.Host(store=store) as host:
        chat = waiting_session(host)
        asker, why = on_thread(lambda: chat.submit_tool_result("c2", "x"))
        assert store.hold.reached.wait(SOON)
        exit_process(host.system.whereis(("sessions", "s")), "kill")
        store.hold.open()
        asker.join(SOON)
        assert [getattr(error, "reason", None) for error in why] == ["unknown_tool_call_id"]


def test_a_result_that_a_session_crashes_on_is_not_given_to_the_next_one(tmp_path: Path) -> None:
    tried = []

    class Unspeakable:
        def __str__(self) -> str:
            tried.append(1)
            raise RuntimeError("a bug")

        __repr__ = __str__

    with pytest.raises(RuntimeError):
        submit_tool_result(allm.Session(pending_tool_calls=CALLED), "c1", Unspeakable())
    once = len(tried)
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = waiting_session(host)
        with pytest.raises(allm.SessionError, match="cannot be reached"):
            chat.submit_tool_result("c1", Unspeakable())
        assert len(tried) == 2 * once
        assert chat.submit_tool_result("c1", "x").status == "idle"


class Plain:
    """A store of somebody's own, with nothing but what a store must have."""

    def __init__(self, file: SQLiteStore) -> None:
        for name in ("open", "load", "save", "delete", "ids", "close"):
            setattr(self, name, getattr(file, name))


@pytest.mark.parametrize("plain", [False, True])
def test_a_store_that_cannot_be_asked_is_not(tmp_path: Path, plain: bool) -> None:
    store: Any = Plain(SQLiteStore(tmp_path / "s.db")) if plain else MemoryStore()
    refused = pytest.raises(allm.SessionStatusError, match="submit the results of c1 first")
    with allm.Host(store=store) as host, refused:
        waiting_session(host).reply("hello?")


# --- what is refused is no use ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["reply", "submit"])
def test_calls_that_are_refused_keep_no_session_in_memory(ask: str) -> None:
    with SimHost(idle_timeout=10.0) as host:
        chat = host.session("s", fake(ASKS))
        chat.reply("It came broken.").result()
        for _ in range(3):
            host.advance(3.0)
            with pytest.raises((allm.SessionStatusError, allm.SessionError)):
                chat.reply("hello?") if ask == "reply" else chat.submit_tool_result("c2", "x")
        assert host.living("session")
        host.advance(1.5)
        assert host.living("session") == []
        assert chat.status == "awaiting_tools"


def test_what_is_done_keeps_a_session_in_memory() -> None:
    with SimHost(idle_timeout=10.0) as host:
        chat = host.session("s", fake(ASKS, SAYS))
        chat.reply("It came broken.").result()
        actor = host.system.whereis(("sessions", "s"))
        for use in (lambda: chat.fork("t"), lambda: chat.submit_tool_result("c1", "x"), chat.recover):
            host.advance(9.0)
            use()
            assert host.system.whereis(("sessions", "s")) is actor
        host.advance(9.0)
        assert [ref.name[1] for ref in host.living("session") if ref.name] == ["s"]
        host.advance(1.5)
        assert host.living("session") == []


# --- what the log says -----------------------------------------------------------------------------------------------


LEFT_OPEN = (
    "tool calls that were left open are answered with an error: whether their tools took effect is unknown "
    "session_id='s'"
)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of what the library has said."""
    return [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "allm_actors"]


def at_work(host: allm.Host, hold: Hold) -> Any:
    """A session whose tool runs, and waits for the hold."""
    works = allm.tool(name="works", description="", schema={}, handler=lambda _: hold.wait())
    asks = [script.tool_call("works", {}, id="c0"), script.finish("tool_calls")]
    engine = allm.Engine(adapter="fake", tools=[works], adapter_opts={"scripts": [asks, SAYS, SAYS, SAYS]})
    chat = host.session("s", engine)
    turn = chat.reply("hi")
    reader, _ = on_thread(turn.result)
    assert hold.reached.wait(SOON)
    return chat, turn, reader


def test_a_conflict_is_no_error_of_the_stores(
    hosts: tuple[allm.Host, allm.Host], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = hosts
    chat, other = one.session("s", fake(SAYS)), two.session("s", fake(SAYS, SAYS))
    other.reply("first").result()
    with pytest.raises(allm.StoreError):
        chat.reply("second")
    other.reply("third").result()
    with pytest.raises(allm.StoreError):
        chat.submit_tool_result("c1", "x")
    said = lines(caplog)
    assert {level for level, _ in said} == {"WARNING"}
    assert all(text.startswith("another host has changed a session that is open here") for _, text in said)
    assert len(said) == 2


def test_who_looks_at_a_session_at_work_elsewhere_says_nothing_of_a_crash(
    hosts: tuple[allm.Host, allm.Host], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = hosts
    hold = Hold()
    _chat, turn, reader = at_work(one, hold)
    looked = two.session("s", fake(SAYS))
    assert [message.role for message in looked.messages] == ["user", "assistant", "tool"]
    hold.open()
    reader.join(SOON)
    assert turn.result().halted_reason == "completed"
    looked.stop()
    assert lines(caplog) == []


def test_a_fork_from_inside_a_tool_has_answers_and_no_trouble(
    hosts: tuple[allm.Host, allm.Host], caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = hosts
    hold = Hold()
    chat, _turn, reader = at_work(one, hold)
    branch = chat.fork("t")
    assert [message.role for message in one._store.load("t").thread.messages] == ["user", "assistant", "tool"]  # type: ignore[union-attr]
    assert branch.reply("and?").result().halted_reason == "completed"
    hold.open()
    reader.join(SOON)
    assert lines(caplog) == []


def test_what_a_crash_left_open_is_told_when_its_answer_is_stored(
    hosts: tuple[allm.Host, allm.Host], caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = hosts
    hold = Hold()
    chat, turn, reader = at_work(one, hold)
    exit_process(one.system.whereis(("sessions", "s")), "kill")
    reader.join(SOON)
    assert turn.result().halted_reason == "error"
    hold.open()
    assert (chat.status, lines(caplog)) == ("idle", [])
    for _ in range(2):
        assert chat.continue_("and?").result().halted_reason == "completed"
        assert lines(caplog) == [("WARNING", LEFT_OPEN)]
