"""Hypothesis drives sessions of the library with the machine that it ships; and the machine finds planted bugs."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import allm_actors as allm
from allm_actors.actors.sessions import ledger
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
