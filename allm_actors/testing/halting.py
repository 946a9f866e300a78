"""That an agent halts: whatever its model says, whatever its tools do, whoever crashes.

    proof = prove_halting(engine, schedules=500)
    assert proof.turns > 500

Rule of this file: the engine's tools, names, bounds and options are the user's; the model is replaced by one that does
anything (`wild`), and so are the handlers, unless the user wants the own ones to be run. A schedule is a conversation
with a few turns on a host of its own: seeded, with crashes, in virtual time; after each turn all of `laws` must hold.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar


from allm_actors.actors.handle import SessionHandle
from allm_actors.actors.ports import SESSIONS
from allm_actors.data import AllmError, ChatResult, Session, SessionError, SessionStatusError, StoreError, Tool
from allm_actors.data.validate import validate
from allm_actors.engine.engine import Engine
from supervisors import KILLED, Faults

from .exploring import explore_chat
from .laws import Observed, answered, check_turn
from .simhost import SimHost, crashes, role_of
from .wild import PATIENCE, Wild, WildModel, WildStream, wild_options, wild_tools

__all__ = ["Proof", "prove_halting"]

T = TypeVar("T")

_TRIES = 20
_MOST_CALLS = 6
_THINKING = 500.0  # seconds that the caller, and whoever kills, take for themselves


@dataclass
class Proof:
    """What was seen while nothing failed: a proof that has seen little proves little."""

    schedules: int = 0
    turns: int = 0
    model_calls: int = 0
    tool_runs: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    """Processes that were killed, by what they do."""
    halted: Counter[str] = field(default_factory=Counter)
    """How the turns ended."""
    seen: Counter[str] = field(default_factory=Counter)
    """What the model and the tools did."""
    longest: float = 0.0
    """The longest turn, in virtual seconds."""

    def __str__(self) -> str:
        ends = ", ".join(f"{reason} {count}" for reason, count in self.halted.most_common())
        deaths = ", ".join(f"{role} {count}" for role, count in self.deaths.most_common()) or "none"
        return (
            f"{self.schedules} schedules, {self.turns} turns, {self.model_calls} model calls, "
            f"{self.tool_runs} tool runs; the longest turn took {self.longest:g} virtual seconds\n"
            f"ended: {ends}\nkilled: {deaths}"
        )


def prove_halting(
    engine: Engine,
    *,
    schedules: int = 200,
    seed: int = 0,
    crash: bool = True,
    handlers: Literal["wild", "own"] = "wild",
    store: Callable[[], Any] | None = None,
    shrinks: int = 100,
    **options: Any,
) -> Proof:
    """Run that many schedules, the first with `seed`; what was seen in them.

    `options` are those of `reply`, over those that a schedule draws (give `max_turns=3` and it is 3 in all of them);
    `handlers="own"` runs the engine's own handlers, which must not wait for anything but the simulation.
    Raises: `ScenarioFailed` for the first schedule that breaks a law, made small.
    """
    proof = Proof()

    def schedule(host: SimHost) -> None:
        Schedule(host, engine, options, proof, crash=crash, own=handlers == "own").run()
        proof.schedules += 1

    half = schedules // 2 if crash else schedules
    common: dict[str, Any] = {"store": store, "shrinks": shrinks}
    explore_chat(schedule, seeds=range(seed, seed + half), **common)
    explore_chat(schedule, seeds=range(seed + half, seed + schedules), faults=_faults(), **common)
    return proof


def _faults() -> Faults:
    return crashes("adapter", "session", "store", "supervisor", chance=0.02, at_most=2)


class Schedule:
    """One conversation on one host."""

    def __init__(
        self, host: SimHost, engine: Engine, options: dict[str, Any], proof: Proof, *, crash: bool, own: bool
    ) -> None:
        self.host, self.proof = host, proof
        self.wild = Wild(host.seed)
        self.dice = self.wild.dice("user")
        self.deaths = 0
        self.options = {**wild_options(self.wild), **options}
        tools: list[Tool] = list(engine.tools)
        lonely = self.dice.random() < 0.6  # nobody is there whom calls could be left to
        names = [tool.name for tool in tools if not (lonely and tool.manual)]
        model: Any = WildModel(self.wild, names)
        if self.dice.random() < 0.25:
            model = WildStream(model, host.sleep)
        engine = engine.merge(adapter=model)
        self.engine = engine if own else engine.merge(tools=wild_tools(self.wild, tools, host.sleep))
        self.slowest = max([self.options["tool_timeout"] or 0.0, *(tool.timeout or 0.0 for tool in tools)])
        self._crash = crash
        host.system.reports.subscribe(self._reported)

    def run(self) -> None:
        """Talk, and look at what comes of it."""
        chat = self._insist(lambda: self.host.session("s", self.engine))
        if self._crash and self.dice.random() < 0.4:
            self.host.client(self._kill_somebody, name="the killer")
        for number in range(self.dice.randint(1, 3)):
            self._turn(chat, f"message {number}")
            self._settle(chat)
        self.host.run_until_idle()
        assert not self.host.living("adapter"), "a model call outlives its turn"
        assert not self.host.living("tool"), "a tool outlives its turn"
        self._look_at(self._woken())
        self._count()

    # A turn.

    def _turn(self, chat: SessionHandle, text: str | None) -> None:
        before, began, deaths = chat.value.thread, self.host.now, self.deaths
        say = (
            (lambda: chat.continue_(**self.options))
            if text is None
            else (lambda: chat.reply(text, **self.options))
        )
        events: list[Any] | None = []
        act = self.dice.choice(["read", "read", "read", "result", "leave", "cancel"])
        turn = None
        try:
            turn = self._insist(say)
            self._meddle(act, chat)
            if act == "result":
                events = None
            elif act == "leave":
                for event, _ in zip(turn, range(self.dice.randint(0, 6)), strict=False):
                    events = None if event is None else events
                events = None
                turn.close()
            else:
                events = list(turn)
            result = turn.result()
        except AllmError as error:
            self._refused(error, deaths, disturbed=act in ("leave", "cancel"))
            return
        except ValueError as error:  # what an adapter may refuse its first call with
            assert self.wild.failed and not isinstance(error, SessionStatusError), repr(error)
            self.proof.halted["refused"] += 1
            return
        assert isinstance(result, ChatResult), repr(result)
        took = self.host.now - began
        self.proof.longest = max(self.proof.longest, took)
        assert took <= self._bound(), f"the turn took {took} virtual seconds of {self._bound()}"
        self.proof.turns += 1
        self.proof.halted[str(result.halted_reason)] += 1
        check_turn(
            Observed(
                before=before,
                said=text,
                events=events,
                result=result,
                limit=self._limit,
                passes=2 if self.options.get("structured_finalize") else 1,
                asked=self.wild.asked.count(turn.id),
                failed=self.wild.failed.count(turn.id),
                undisturbed=self.deaths == deaths and act not in ("leave", "cancel"),
            )
        )
        if self.deaths == deaths:
            assert chat.value.thread == result.thread or act in ("leave", "cancel"), "the session is not the result"

    def _meddle(self, act: str, chat: SessionHandle) -> None:
        if act == "cancel":
            after = self.dice.choice([0.0, 0.5, 10.0, 25.0])

            def cancel() -> None:
                self.host.sleep(after)
                chat.cancel()

            self.host.client(cancel, name="somebody who cancels")

    def _refused(self, error: AllmError, deaths: int, *, disturbed: bool) -> None:
        # A turn may be refused by its first model call, or by what a crash has left of its session.
        crashed = self.deaths > deaths and isinstance(error, SessionError | StoreError)
        first = bool(self.wild.failed) and not isinstance(error, SessionError | SessionStatusError | StoreError)
        assert crashed or first or disturbed, f"refused for no reason: {error!r}"
        self.proof.halted["refused"] += 1

    @property
    def _limit(self) -> int:
        return int(self.options.get("max_turns") or 8)

    def _bound(self) -> float:
        step = PATIENCE["request_timeout"] + _MOST_CALLS * 2 * self.slowest
        return (self._limit + 1) * step + _THINKING

    # Between turns.

    def _settle(self, chat: SessionHandle) -> None:
        for _ in range(_TRIES):
            session = self._woken()
            self._look_at(session)
            if session.status == "error":
                self._try(chat.recover)
            elif session.pending_tool_calls:
                calls = [(call.id, {"by": "the caller"}) for call in session.pending_tool_calls]
                self._try(lambda calls=calls: chat.submit_tool_results(calls))
            elif session.status == "awaiting_tools":
                self._turn(chat, None)
            else:
                return
        raise AssertionError(f"the session cannot be used again: {chat.value.status}")

    def _woken(self) -> Session:
        """The session's value, once whoever died has a successor that has loaded it."""
        for _ in range(_TRIES):
            chat = self._insist(lambda: self.host.session("s", self.engine))
            self.host.sim.settle()
            if self.host.system.whereis((SESSIONS, "s")) is not None:
                return chat.value
        raise AssertionError("a session that is started so often must live some day")

    def _look_at(self, session: Session) -> None:
        validate(session.thread)
        answered(session.thread.messages, session.pending_tool_calls)
        if session.status in ("idle", "completed"):
            assert not session.pending_tool_calls, f"{session.status} with calls pending"

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            self._insist(call)
        except (SessionError, SessionStatusError):  # what its successor has is older than what was seen of it
            assert self.deaths, "refused, and nobody died"

    def _insist(self, call: Callable[[], T]) -> T:
        """What `call` gives, tried again while crashes are in its way."""
        for _ in range(_TRIES):
            try:
                return call()
            except (SessionError, StoreError):
                if not self.deaths:
                    raise
                self.host.sleep(1.0)
        raise AssertionError("a session that cannot be reached for so long will never be")

    # Crashes.

    def _kill_somebody(self) -> None:
        dice: random.Random = self.wild.dice("killer")
        self.host.sleep(dice.choice([0.0, 0.0, 1.0, 5.0, 20.0]))
        roles = dice.choice([("adapter",), ("tool",), ("session",), ("store",), ("adapter", "tool", "session")])
        for _ in range(dice.randint(0, 12)):
            self.host.sim.sleep(0.0)
        self.host.kill(*roles)

    def _reported(self, report: Any) -> None:
        if report.kind == "process_ended" and report.reason is KILLED:
            self.deaths += 1
            self.proof.deaths[role_of(report.ref) or "stranger"] += 1

    def _count(self) -> None:
        self.proof.model_calls += len(self.wild.asked)
        self.proof.tool_runs += len(self.wild.ran)
        self.proof.seen.update(self.wild.seen)


