"""Hypothesis drives sessions of the library with the machine that it ships; and the machine finds planted bugs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import allm_actors as allm
from allm_actors.actors.sessions import changes, ledger
from allm_actors.execution import sessions
from allm_actors.testing import script
from allm_actors.testing.machine import SessionMachine

FEW = settings(max_examples=60, stateful_step_count=12, deadline=None, database=None)
TO_A_BUG = settings(FEW, max_examples=2000, phases=[Phase.generate], print_blob=False)


@allm.tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@allm.tool(manual=True)
def approve(what: str) -> str:
    """Ask a person."""
    raise AssertionError("never called")


class Wild(SessionMachine):
    """A model and tools that do anything."""

    def engine(self) -> allm.Engine:
        return self.wild(allm.Engine(adapter="fake", tools=[add, approve]))


class Scripted(SessionMachine):
    """A script of the user's own, that repeats itself."""

    options: ClassVar[dict[str, Any]] = {"max_turns": 3}

    def engine(self) -> allm.Engine:
        adds = [script.tool_call("add", {"a": 1, "b": 2}), script.delay(1.0), script.finish("tool_calls")]
        asks = [script.tool_call("approve", {"what": "it"}), script.finish("tool_calls")]
        says = [script.text("Done."), script.finish("stop")]
        return allm.Engine(
            adapter="fake", tools=[add, approve], adapter_opts={"scripts": [adds, says, asks, says] * 40}
        )


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Wild, Scripted], ids=lambda machine: machine.__name__)
def test_sessions_keep_their_promises(machine: type[SessionMachine]) -> None:
    run_state_machine_as_test(machine, settings=FEW)


def test_the_machine_finds_a_session_that_forgets_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = sessions._submitted

    def forgets(session: Any, call_id: str, content: Any) -> Any:
        changed = honest(session, call_id, content)
        return type(changed)(
            **{**{f: getattr(changed, f) for f in changed.__struct_fields__}, "thread": session.thread}
        )

    monkeypatch.setattr(sessions, "_submitted", forgets)
    with pytest.raises((AssertionError, allm.ValidationError)):
        run_state_machine_as_test(Scripted, settings=TO_A_BUG)


def test_the_machine_finds_a_restart_that_leaves_calls_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "repair", lambda thread, keep=(): thread)
    with pytest.raises((AssertionError, allm.ValidationError)):
        run_state_machine_as_test(Wild, settings=TO_A_BUG)


def test_the_machine_lets_as_many_processes_die_as_it_likes() -> None:
    machine: Any = Scripted()
    machine._begin(seed=0, mortal=True)
    for _ in range(50):
        machine.kill(role="store")
        machine.providers_accept_the_thread()
        machine.the_store_has_it()
    machine.teardown()


def changed(session: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(session, **fields)


def without_last(session: allm.Session) -> allm.Session:
    messages = session.thread.messages[:-1]
    return changed(session, thread=allm.Thread.from_messages(messages))


def submits_nothing(session: allm.Session, results: Any) -> Any:
    return SUBMITTED(session, [(id, "lost") for id, _ in results])


def says_it_twice(session: Any, operation: Any, messages: Any = ()) -> Any:
    return BEGUN(session, operation, [*messages, *messages])


SUBMITTED, BEGUN = sessions.submit_tool_results, sessions.begin
OPERATIONS = {
    "recover": sessions.recover,
    "replace_messages": sessions.replace_messages,
    "apply": sessions.apply,
    "settled": ledger.settled,
}


def spoils(name: str, spoil: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """That operation, with `spoil(before, after)` in place of what it gives."""
    return lambda session, *given: spoil(session, OPERATIONS[name](session, *given))


def only(status: str, spoil: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda before, after: spoil(after) if before.status == status else after


def is_reset(before: allm.Session, after: allm.Session) -> allm.Session:
    return changed(after, status="idle") if after.status == "completed" else after


def is_done(before: allm.Session, after: allm.Session) -> allm.Session:
    return changed(after, status="completed") if after.status == "idle" else after


@pytest.mark.parametrize(
    ("where", "name", "planted"),
    [
        (sessions, "recover", spoils("recover", only("error", without_last))),
        (sessions, "recover", spoils("recover", only("error", lambda _: allm.Session(id="s")))),
        (sessions, "replace_messages", spoils("replace_messages", lambda before, _: before)),
        (sessions, "submit_tool_results", submits_nothing),
        (sessions, "begin", says_it_twice),
        (sessions, "apply", spoils("apply", is_reset)),
        (sessions, "apply", spoils("apply", is_done)),
        (sessions, "apply", spoils("apply", lambda before, after: changed(after, metadata=before.metadata))),
        (changes, "settled", spoils("settled", lambda _, after: changed(after, metadata={}))),
        (ledger.Ledger, "roll_back", lambda self: setattr(self, "_before", None)),
    ],
    ids=[
        *("forgets at a recovery", "forgets all at a recovery", "does not rewind", "forgets a result"),
        *("is told twice", "is not completed", "is completed by a cancel"),
        *("forgets why it ended", "is forked without metadata", "keeps a refused message"),
    ],
)
def test_the_machine_finds_a_session_that(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, planted: Any
) -> None:
    monkeypatch.setattr(where, name, planted)
    with pytest.raises(AssertionError, match=r" should | has "):
        run_state_machine_as_test(Wild, settings=TO_A_BUG)


async def waits(a: int) -> int:
    """An asynchronous handler, which no simulation can run."""
    return a


class Asynchronous(SessionMachine):
    def engine(self) -> allm.Engine:
        return self.wild(allm.Engine(adapter="fake", tools=[allm.tool(waits)]), own_handlers=True)


class Remote(SessionMachine):
    def engine(self) -> allm.Engine:
        return allm.Engine(adapter="openai:gpt-4.1-mini")


class Misspelt(SessionMachine):
    def engine(self) -> allm.Engine:
        return allm.Engine(adapter="fake", adapter_opts={"scripts": [[("tekst", "hi")]] * 99})


@pytest.mark.parametrize("machine", [Asynchronous, Remote, Misspelt], ids=lambda machine: machine.__name__)
def test_an_agent_that_cannot_be_asked_keeps_no_promise(machine: type[SessionMachine]) -> None:
    with pytest.raises(AssertionError, match="refused without a reason"):
        run_state_machine_as_test(machine, settings=settings(TO_A_BUG, max_examples=30))
