"""One schedule of a proof: a conversation on a host of its own, and what must hold of it.

Rule of this file: the caller's behaviour is drawn from the seed too: reading, leaving, cancelling, answering
pending calls, using the session again. The killer of processes is one more client of the host.

Units: virtual seconds.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from allm_actors.actors.ports import SESSIONS
from allm_actors.actors.sessions.handle import SessionHandle
from allm_actors.actors.streams.stream import Turn
from allm_actors.actors.turns.spec import WhenBusy
from allm_actors.data import (
    AllmError,
    ChatCompleted,
    ChatResult,
    Event,
    Session,
    SessionError,
    SessionStatusError,
    StoreError,
)
from allm_actors.data.rules.validate import validate
from allm_actors.engine.engine import Engine
from allm_actors.execution.options import DEFAULT_MAX_TURNS, DEFAULT_TOOL_TIMEOUT
from supervisors import KILLED, is_clean

from .drawn import PATIENCE, drawn_options, option_of, passes_of, retries_of
from .laws import Observed, answered, check_turn
from .simhost import SimHost, role_of
from .wild import Wild, wild_engine

__all__ = ["Proof", "Schedule"]

T = TypeVar("T")

_TRIES = 20
_MOST_CALLS = 6
_SOON = 1.0
_THINKING = 500.0  # seconds that the caller, and whoever kills, take for themselves


@dataclass
class Proof:
    """Statistics of the schedules that ran without a failure: the fewer they are, the less is proved."""

    schedules: int = 0
    turns: int = 0
    model_calls: int = 0
    tool_runs: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    """How often each tool's handler was run, by name; with `handlers="own"`, those that never ran too."""
    failures: Counter[str] = field(default_factory=Counter)
    """How many of those runs failed, with `handlers="own"`: the handler raised, exited, or returned an `Err`."""
    deaths: Counter[str] = field(default_factory=Counter)
    """Killed processes, by their role."""
    crashed: int = 0
    """How many schedules had a killed process."""
    halted: Counter[str] = field(default_factory=Counter)
    """How the turns ended."""
    seen: Counter[str] = field(default_factory=Counter)
    """What the model and the tools did."""
    longest: float = 0.0
    """The longest turn, in virtual seconds."""

    def __str__(self) -> str:
        ends = ", ".join(f"{reason} {count}" for reason, count in self.halted.most_common())
        deaths = ", ".join(f"{role} {count}" for role, count in self.deaths.most_common()) or "none"
        never = f"\nnever run: {', '.join(self.never_run)}" if self.never_run else ""
        runs = [f"{name} {count} of {self.runs[name]}" for name, count in self.failures.items() if count]
        failed = f"\nfailed: {', '.join(runs)}" if runs else ""
        return (
            f"{self.schedules} schedules, {self.turns} turns, {self.model_calls} model calls, "
            f"{self.tool_runs} tool runs; the longest turn took {self.longest:g} virtual seconds\n"
            f"ended: {ends}\nkilled, in {self.crashed} of them: {deaths}{failed}{never}"
        )

    @property
    def never_run(self) -> list[str]:
        """The tools whose own handlers should have run, and never did: nothing is proved of them."""
        return sorted(name for name, count in self.runs.items() if not count)


class Schedule:
    """One conversation on one host."""

    def __init__(
        self, host: SimHost, engine: Engine, options: dict[str, Any], proof: Proof, *, crash: bool, own: bool
    ) -> None:
        self.host: SimHost = host
        self.proof: Proof = proof
        self.wild: Wild = Wild(host.seed)
        self.dice: random.Random = self.wild.dice("user")
        self.deaths: int = 0
        self.crashed: list[str] = []
        self.options: dict[str, Any] = drawn_options(self.wild, engine, options, host.sleep, own_handlers=own)
        self.engine: Engine = wild_engine(self.wild, engine, host.sleep, own_handlers=own)
        self.slowest: float = max(
            _limits(
                [*(tool.timeout for tool in engine.tools), self._said("tool_timeout", DEFAULT_TOOL_TIMEOUT)]
            )
        )
        self.when_busy: WhenBusy = self.dice.choice(["queue", "queue", "reject", "interrupt"])
        host._idle_timeout = self.dice.choice([None, None, 0.5])  # noqa: SLF001 - no session was asked for yet
        self._crash = crash
        host.system.reports.subscribe(self._reported)

    def run(self) -> None:
        """Talk, and look at what comes of it."""
        chat = self._insist(self._session)
        if self._crash and self.dice.random() < 0.5:
            self.host.client(self._kill_somebody, name="the killer")
        for number in range(self.dice.randint(1, 3)):
            if self.dice.random() < 0.15:
                self._two_at_once(chat)
            else:
                self._turn(chat, f"message {number}")
            self._settle(chat)
        self.host.run_until_idle()
        assert not self.host.living("adapter"), "a model call outlives its turn"
        assert not self.host.living("tool"), "a tool outlives its turn"
        session = self._woken()
        self._look_at(session)
        assert self.deaths or self.host.stored("s") == session, "the stored session differs from the session"
        assert self.deaths or not self.crashed, f"no process was killed, but {self.crashed} crashed"
        assert not self.wild.misled, "a handler was called with broken arguments"
        self._count()

    def _session(self) -> SessionHandle:
        return self.host.session("s", self.engine, when_busy=self.when_busy)

    # A turn.

    def _turn(self, chat: SessionHandle, text: str | None) -> None:
        before, began, deaths = chat.value.thread, self.host.now, self.deaths
        # By earlier turns, whose id may be the same.
        asked, failed, ran = len(self.wild.asked), len(self.wild.failed), len(self.wild.ran)
        act = self.dice.choice(["read", "read", "read", "result", "leave", "cancel"])
        undisturbed = act in ("read", "result")
        try:
            turn = self._insist(lambda: self._say(chat, text))
            if act == "cancel":
                self._cancel_some_time(chat)
            events = self._read(act, turn)
            result = turn.result()
        except (AllmError, ValueError) as error:  # an adapter may refuse its first call with a ValueError
            self.host.sim.settle()
            self._refused(error, deaths, expected=not undisturbed)
            return
        assert isinstance(result, ChatResult), repr(result)
        self._took(self.host.now - began)
        self.host.sim.settle()  # a kill is reported when it is over
        self.proof.halted[str(result.halted_reason)] += 1
        check_turn(
            Observed(
                before=before,
                said=text,
                events=events,
                result=result,
                limit=self._limit,
                passes=passes_of(self.engine, self.options),
                retries=self._retries,
                asked=self.wild.asked[asked:].count(turn.id),
                failed=self.wild.failed[failed:].count(turn.id),
                concurrency=self._concurrency,
                ran=Counter(call for asker, call in self.wild.ran[ran:] if asker == turn.id),
                undisturbed=undisturbed and self.deaths == deaths,
            )
        )
        if undisturbed and self.deaths == deaths:
            assert chat.value.thread == result.thread, "the session differs from the result"

    def _say(self, chat: SessionHandle, text: str | None) -> Turn:
        # A first attempt that a crash left unconfirmed may have stored the text all the same.
        if text is None or self._heard(text):
            return chat.continue_(**self.options)
        return chat.reply(text, **self.options)

    def _heard(self, text: str) -> bool:
        messages = self._woken().thread.messages if self.deaths else []
        return any(message.role == "user" and message.content == text for message in messages)

    def _two_at_once(self, chat: SessionHandle) -> None:
        """Two turns of one session, read in either order: each ends once, or is refused with an error of ours."""
        turns = []
        for text in ("one", "the other"):
            with suppress(SessionError, SessionStatusError, StoreError):
                turns.append(chat.reply(text, **self.options))
        if self.dice.random() < 0.5:
            turns.reverse()
        for turn in turns:
            try:
                events = self._whole(turn)
                result = turn.result()
            except (AllmError, ValueError) as error:
                ours = isinstance(error, SessionError | SessionStatusError | StoreError)
                self._refused(error, self.deaths, expected=ours)
                continue
            ends = [event for event in events if isinstance(event, ChatCompleted)]
            assert events[-1:] == ends, f"{len(ends)} ends of one of two turns"
            assert ends[0].result == result, "the last event differs from the result"
            self.proof.turns += 1
            self.proof.halted[str(result.halted_reason)] += 1

    def _cancel_some_time(self, chat: SessionHandle) -> None:
        after = self.dice.choice([0.0, 0.5, 10.0, 25.0])

        def cancel() -> None:
            self.host.sleep(after)
            chat.cancel()

        self.host.client(cancel, name="somebody who cancels")

    def _read(self, act: str, turn: Turn) -> list[Event] | None:
        if act == "result":
            return None
        if act != "leave":
            return self._whole(turn)
        for _ in itertools.islice(turn, self.dice.randint(0, 6)):
            pass
        left, deaths = self.host.now, self.deaths
        turn.close()
        assert self.host.now - left <= _SOON or self.deaths > deaths, (
            "closing the turn took too long after its reader left"
        )
        return None

    def _whole(self, turn: Turn) -> list[Event]:
        events, began = [], self.host.now
        for event in turn:
            events.append(event)
            self._in_time(self.host.now - began)  # a stream without end would be read without end
        return events

    def _took(self, seconds: float) -> None:
        self.proof.turns += 1
        self.proof.longest = max(self.proof.longest, seconds)
        self._in_time(seconds)

    def _in_time(self, seconds: float) -> None:
        # Of a step: the handler and the policy of each call, a predicate, a type.
        functions = 2 * _MOST_CALLS + 2
        step = max(_limits([self._said("request_timeout")])) + functions * self.slowest
        bound = (self._limit + 1 + self._retries) * step + _THINKING
        assert seconds <= bound, f"the turn took {seconds} virtual seconds of {bound}"

    def _refused(self, error: Exception, deaths: int, *, expected: bool) -> None:
        # A turn may be refused by its first model call, or by what a crash has left of its session.
        of_session = isinstance(error, SessionError | SessionStatusError | StoreError)
        crashed = of_session and self.deaths > deaths
        by_model = not of_session and bool(self.wild.failed)
        assert expected or crashed or by_model, f"refused without a reason: {error!r}"
        self.proof.halted["refused"] += 1

    @property
    def _limit(self) -> int:
        return int(self._said("max_turns", DEFAULT_MAX_TURNS))

    @property
    def _retries(self) -> int:
        return retries_of(self.engine, self.options)

    @property
    def _concurrency(self) -> int | None:
        limit: int | None = self._said("max_concurrency")
        return limit

    def _said(self, name: str, default: Any = None) -> Any:
        return option_of(self.engine, self.options, name, default)

    # Between turns.

    def _settle(self, chat: SessionHandle) -> None:
        for _ in range(_TRIES):
            session = self._woken()
            self._look_at(session)
            if session.status == "error":
                self._try(chat.recover)
            elif session.pending_tool_calls:
                self._try(partial(chat.submit_tool_results, _answers(session)))
            elif session.status == "awaiting_tools":
                self._turn(chat, None)
            else:
                return
        raise AssertionError(f"the session cannot be used again: {chat.value.status}")

    def _woken(self) -> Session:
        """The session's value, once whoever died has a successor that has loaded it."""
        for _ in range(_TRIES):
            chat = self._insist(self._session)
            self.host.sim.settle()
            if self.host.system.whereis((SESSIONS, "s")) is not None:
                return chat.value
        raise AssertionError("the session was restarted many times, but never stayed alive")

    def _look_at(self, session: Session) -> None:
        validate(session.thread)
        answered(session.thread.messages, session.pending_tool_calls)
        if session.status in ("idle", "completed"):
            assert not session.pending_tool_calls, f"the status is {session.status}, but calls are pending"

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            self._insist(call)
        except (SessionError, SessionStatusError):  # what its successor has is older than what was seen of it
            assert self.deaths, "refused, although no process died"

    def _insist(self, call: Callable[[], T]) -> T:
        """What `call` gives, tried again while crashes are in its way."""
        for _ in range(_TRIES):
            try:
                return call()
            except (SessionError, StoreError):
                if not self.deaths:
                    raise
                self.host.sleep(1.0)
        raise AssertionError("the session could not be reached for too long")

    # Crashes.

    def _kill_somebody(self) -> None:
        dice: random.Random = self.wild.dice("killer")
        self.host.sleep(dice.choice([0.0, 0.0, 1.0, 5.0, 20.0]))
        roles = dice.choice(
            [("adapter",), ("tool",), ("tool",), ("session",), ("store",), ("adapter", "tool")]
        )
        for _ in range(_TRIES):
            if self.host.living(*roles) and dice.random() < 0.7:
                break
            self.host.sleep(dice.choice([0.0, 0.0, 0.3]))
        self.host.kill(*roles)

    def _reported(self, report: Any) -> None:
        role = role_of(report.ref) if report.ref is not None else None
        if report.kind == "process_ended" and role in ("session", "store", "supervisor"):
            self.crashed += [] if is_clean(report.reason) else [f"{role} ({report.reason})"]
        if report.kind == "process_ended" and report.reason is KILLED:
            self.deaths += 1
            self.proof.deaths[role or "stranger"] += 1

    def _count(self) -> None:
        self.proof.model_calls += len(self.wild.asked)
        self.proof.tool_runs += len(self.wild.ran)
        for name, count in self.wild.runs.items():
            self.proof.runs[name] += count
        self.proof.failures.update(self.wild.failures)
        self.proof.seen.update(self.wild.seen)


def _limits(seconds: Sequence[float | None]) -> list[float]:
    """Those of them that are limits, and what a wild run is given: nothing of it may take longer."""
    return [*PATIENCE.values(), *(each for each in seconds if each is not None and each != math.inf)]


def _answers(session: Session) -> list[tuple[str, Any]]:
    return [(call.id, {"by": "the caller"}) for call in session.pending_tool_calls]
