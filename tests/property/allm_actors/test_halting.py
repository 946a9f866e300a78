"""A session halts, whatever its model and its tools do and whoever crashes; and the proof of that catches bugs.

`ALLM_SCHEDULES` is how many schedules `make soak` runs (default 100 000).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pykka import Timeout

import allm_actors as allm
from allm_actors.actors.protocol import ANSWERED, StoreAnswered
from allm_actors.actors.sessions import ledger, session, setup
from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.turns import assignment, crew, model_calls, run
from allm_actors.actors.turns import ending as endings
from allm_actors.actors.workers.adapter import AdapterActor
from allm_actors.actors.workers.tools import ToolActor
from allm_actors.data import MessageCompleted, Thread
from allm_actors.execution import batch, fold, gates, loop
from allm_actors.execution.effects import Emit
from allm_actors.execution.inputs import ModelEvents
from allm_actors.execution.options import Options
from allm_actors.execution.tools import answer_message
from allm_actors.testing import halting
from allm_actors.testing.halting import Proof, prove_halting
from allm_actors.testing.wild import _TOOL_ACTS, _WILD
from supervisors import Future, ScenarioFailed, SimulationError, Stuck

SOON = 10.0
SCHEDULES, CRASHED = 550, 250  # of each part; at least so many of them have somebody killed
ENOUGH = 400
"""Schedules in which a planted bug must be found."""
RARE: dict[str, dict[str, Any]] = {
    "a death is told for the job before": {"schedules": 2000, "seed": 150},
    # A worker that takes no message is killed after a second, and its second job ends with it: that takes long turns.
    # The first 1,500 seeds have none.
    "a worker gets the next job before it is done": {
        "schedules": 4000,
        "seed": 1300,
        "crash": False,
        "max_turns": 6,
        "mode": "auto",
        "on_tool_error": "continue",
        "halt_when": lambda _step: False,
    },
}
"""More of them, or others, for a bug that needs two things at once: a worker's second job, and its death in it."""


FORMAT = allm.json_schema("cat", {"type": "object"})


@dataclasses.dataclass
class Cat:
    """What an answer may have to be."""

    name: str


def engine() -> allm.Engine:
    """Tools of every kind; what they do is drawn."""
    tools = [allm.Tool(name=name, description="", schema={}) for name in ("search", "book", "pay")]
    quick = allm.Tool(name="quick", description="", schema={}, timeout=2.0)
    small = allm.Tool(name="small", description="", schema={"required": ["city"]}, compact=True)
    manual = msgspec.structs.replace(tools[0], name="manual", manual=True)
    return allm.Engine(adapter="fake", tools=[*tools, quick, small, manual])


def saw_everything(proof: Proof) -> None:
    """A proof that has not seen something proves nothing of it."""
    wanted = {f"model: {act}" for act in _WILD} | {f"tool: {act}" for act in _TOOL_ACTS}
    assert wanted <= set(proof.seen)
    halted = {"completed", "error", "max_turns", "halt_when", "ask_user", "tool_error", "manual_tool_calls"}
    assert halted | {"cancelled", "plan_submitted", "refused"} <= set(proof.halted)
    assert {"adapter", "tool", "session", "store", "supervisor"} <= set(proof.deaths)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_every_session_halts(part: int) -> None:
    proof = prove_halting(engine(), schedules=SCHEDULES, seed=part * SCHEDULES)
    print(proof)  # noqa: T201 - shown with -rP
    assert proof.schedules == SCHEDULES
    assert proof.crashed >= CRASHED
    assert proof.turns > SCHEDULES
    saw_everything(proof)


@pytest.mark.slow
def test_every_session_halts_over_sqlite(tmp_path: Path) -> None:
    numbers = iter(range(10_000))
    proof = prove_halting(engine(), schedules=60, store=lambda: tmp_path / f"{next(numbers)}.db")
    assert proof.schedules == 60


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_every_session_halts_for_long() -> None:
    schedules = int(os.environ.get("ALLM_SCHEDULES", "100000"))
    proof = prove_halting(engine(), schedules=schedules, seed=1_000_000)
    print(proof)  # noqa: T201 - shown with -rP
    assert proof.schedules == schedules


# --- with handlers of one's own ---------------------------------------------------------------------------------


def test_own_handlers_are_run_with_what_fits_them_and_counted() -> None:
    ran: list[tuple[str, int]] = []

    @allm.tool
    def search(query: str, page: int) -> str:
        ran.append((query, page))
        return "found"

    @allm.tool(isolation="process")
    def book(days: list[str], context: Any) -> str:
        assert context.tool_call.name == "book"
        raise LookupError("full")

    manual = msgspec.structs.replace(search, name="manual", manual=True)
    own = allm.Engine(adapter="fake", tools=[search, book, manual])
    proof = prove_halting(own, schedules=60, handlers="own")
    assert proof.runs["search"] == len(ran) > 10
    assert proof.runs["book"] > 10
    assert proof.tool_runs == proof.runs.total()
    assert set(proof.runs) == {"search", "book"}
    assert proof.failures == {"search": 0, "book": proof.runs["book"]}
    assert f"failed: book {proof.runs['book']} of {proof.runs['book']}" in str(proof)
    assert proof.never_run == []
    assert proof.seen["tool: refuses its arguments"] > 0  # a model does not always read the schema


@pytest.mark.parametrize(
    "leaving", [SystemExit, KeyboardInterrupt, GeneratorExit], ids=lambda each: each.__name__
)
def test_an_own_handler_that_exits_has_failed(leaving: type[BaseException]) -> None:
    @allm.tool
    def leaves(query: str) -> str:
        raise leaving

    proof = prove_halting(allm.Engine(adapter="fake", tools=[leaves]), schedules=20, handlers="own")
    assert 0 < proof.runs["leaves"] == proof.failures["leaves"]


def test_an_own_handler_that_is_killed_has_not_failed() -> None:
    @allm.tool
    def waits(query: str) -> str:
        with contextlib.suppress(Timeout):
            Future().get(timeout=20.0)
        return "found"

    proof = prove_halting(allm.Engine(adapter="fake", tools=[waits]), schedules=60, handlers="own")
    assert proof.deaths["tool"] > 0
    assert proof.failures["waits"] == 0


def test_the_proof_says_which_handler_never_ran() -> None:
    tool = allm.Tool(
        name="odd", description="", schema={"type": "object", "required": ["x"]}, handler=_refuses
    )
    with pytest.warns(UserWarning, match="in 5 schedules these handlers never ran: odd; run more") as warned:
        proof = prove_halting(allm.Engine(adapter="fake", tools=[tool]), schedules=5, handlers="own")
    assert warned[0].filename == __file__
    assert proof.never_run == ["odd"]
    assert str(proof).endswith("never run: odd")
    assert proof.tool_runs == 0


class RunsNothing:
    """An executor that answers without running the tool."""

    def execute(self, tool: allm.Tool, arguments: dict[str, Any], context: allm.ToolContext) -> Any:
        return None


def test_the_proof_says_that_an_executor_runs_no_handler() -> None:
    @allm.tool
    def search(query: str) -> str:
        """Search."""
        return "found"

    said = r"never ran: search; check that RunsNothing.execute\(\) calls tool.run\(arguments, context\)"
    engine = allm.Engine(adapter="fake", tools=[search])
    for given, options in (
        (engine.merge(tool_executor=RunsNothing()), {}),
        (engine, {"tool_executor": RunsNothing()}),
    ):
        with pytest.warns(UserWarning, match=said):
            prove_halting(given, schedules=5, handlers="own", **options)


def _refuses(arguments: Any) -> Any:
    raise allm.ToolError("invalid_arguments", tool_name="odd", message="no")


@pytest.mark.parametrize("crash", [True, False])
@pytest.mark.parametrize("schedules", [1, 2, 3])
def test_a_proof_of_few_schedules_is_one(schedules: int, crash: bool) -> None:
    proof = prove_halting(engine(), schedules=schedules, crash=crash)
    assert proof.schedules == schedules
    assert crash or not proof.crashed


def waits_to_be_stopped(tool: Any, arguments: Any, context: Any) -> Any:
    """As an executor does that leaves the time to whoever calls it."""
    context.cancelled.wait()
    return None


class Waits:
    execute = staticmethod(waits_to_be_stopped)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (allm.Engine(adapter="fake"), {}),
        (allm.Engine(adapter="fake"), {"handlers": "own"}),
        (allm.Engine(adapter="fake"), {"request_id": "mine"}),
    ],
    ids=["no tools", "no tools of its own", "one id for all"],
)
def test_what_is_not_the_agents_fault_is_no_failure(asked: allm.Engine, options: dict[str, Any]) -> None:
    assert prove_halting(asked, schedules=60, **options).schedules == 60


def test_an_executor_that_waits_as_long_as_it_may_has_the_time_that_calls_have() -> None:
    asked = engine().merge(tool_executor=Waits())
    assert prove_halting(asked, schedules=40).schedules == 40


def test_tools_of_the_call_and_compact_ones_are_run_too() -> None:
    ran: list[str] = []

    @allm.tool
    def mine(a: int) -> int:
        """Add."""
        ran.append("mine")
        return a

    @allm.tool(compact=True)
    def small(a: int, b: str) -> int:
        """Add."""
        ran.append("small")
        return a

    proof = prove_halting(engine(), schedules=60, handlers="own", tools=[mine])
    assert (proof.runs["mine"], "mine" in ran) == (ran.count("mine"), True)
    assert prove_halting(allm.Engine("fake", tools=[small]), schedules=60).tool_runs > 0
    assert prove_halting(allm.Engine("fake", tools=[small]), schedules=60, handlers="own").runs["small"] > 0


def test_a_store_of_each_runs_own_is_made_by_a_function() -> None:
    with pytest.raises(
        TypeError, match="store must be a function that returns a new store for each run, not a str"
    ):
        prove_halting(engine(), schedules=5, store="x.db")


def test_a_proof_of_nothing_is_none() -> None:
    for none in (0, "5", 2.5, True):
        with pytest.raises(ValueError, match=f"schedules must be 1 or more, got: {none!r}"):
            prove_halting(engine(), schedules=none)


@pytest.mark.parametrize(
    ("params", "holds"),
    [
        ({"halt_when": lambda _step: False}, lambda proof: proof.halted["halt_when"] == 0),
        (
            {"request_timeout": 4.0, "stream_timeout": 2.0, "tool_timeout": 3.0, "max_turns": 2},
            lambda proof: 0 < proof.longest < 30,
        ),
        ({"mode": "manual"}, lambda proof: proof.tool_runs == 0),
        ({"on_tool_error": "continue"}, lambda proof: proof.halted["tool_error"] == 0),
        ({"max_turns": 1, "mode": "auto"}, lambda proof: proof.model_calls <= 4 * proof.turns),
    ],
)
def test_what_an_engine_says_stands(params: dict[str, Any], holds: Callable[[Proof], bool]) -> None:
    searching = allm.Engine(
        adapter="fake", tools=[allm.Tool(name="t", description="", schema={})], params=params
    )
    assert holds(prove_halting(searching, schedules=150))


@pytest.mark.parametrize(
    "form",
    [
        {"response_model": Cat},
        {"response_format": FORMAT},
        {"response_model": Cat, "structured_finalize": True},
    ],
)
@pytest.mark.parametrize("place", ["engine", "call"])
def test_an_answer_has_the_one_form_that_is_asked_for(form: dict[str, Any], place: str) -> None:
    own = engine() if place == "call" else engine().merge(params=form)
    assert prove_halting(own, schedules=60, **(form if place == "call" else {})).schedules == 60


def test_an_own_handler_may_wait_as_long_as_its_time() -> None:
    waits = allm.Tool(
        name="waits", description="", schema={}, handler=lambda _, context: context.cancelled.wait()
    )
    proof = prove_halting(allm.Engine(adapter="fake", tools=[waits]), schedules=60, handlers="own")
    assert proof.longest >= 30.0


def test_a_handler_that_waits_for_the_real_world_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = threading.Event()

    def dig(_arguments: Any) -> int:
        waits.wait(SOON)
        return 1

    write = sys.stderr.write

    def seen(text: str) -> int:
        waits.set()
        return write(text)

    monkeypatch.setattr(halting, "watched", functools.partial(halting.watched, patience=0.2))
    monkeypatch.setattr(sys.stderr, "write", seen)
    own = allm.Engine(adapter="fake", tools=[allm.Tool(name="dig", description="", schema={}, handler=dig)])
    prove_halting(own, schedules=20, handlers="own", crash=False)
    assert waits.is_set(), "nobody has said that it hangs"
    said = capsys.readouterr().err
    assert "a schedule has run for 0.2 seconds of real time" in said
    assert "waits.wait(SOON)" in said


async def _later(_arguments: Any) -> Any:
    return 1


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        ("x", {}, "expected an Engine, got str"),
        (None, {"max_truns": 3}, "max_turns"),
        (None, {"seeds": range(3)}, "no seeds; give it schedules=…"),
        (None, {"max_turns": "3"}, "max_turns must be"),
        (
            allm.Tool(name="t", description="", schema={}, handler=_later),
            {"handlers": "own"},
            "handlers='wild'",
        ),
    ],
)
def test_what_no_schedule_can_be_made_of_is_refused_at_once(wrong: Any, options: Any, message: str) -> None:
    given = allm.Engine(adapter="fake", tools=[wrong]) if isinstance(wrong, allm.Tool) else wrong or engine()
    with pytest.raises((TypeError, ValueError, allm.EngineError), match=message):
        prove_halting(given, schedules=5, **options)


def test_handlers_are_wild_or_own() -> None:
    with pytest.raises(ValueError, match="handlers must be 'wild' or 'own', got: 'mine'"):
        prove_halting(engine(), handlers="mine")  # type: ignore[arg-type]


# --- what the proof catches ---------------------------------------------------------------------------------------


def without_gates(*numbers: int) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        left = tuple(gate for gate in gates.GATES if gate.number not in numbers)
        patch.setattr(loop, "_BEFORE_ASKING", tuple(gate for gate in left if gate.number < 8))
        patch.setattr(loop, "GATES", left)

    return plant


def one_turn_too_many(patch: pytest.MonkeyPatch) -> None:
    honest = Options.turn_limit.fget
    patch.setattr(Options, "turn_limit", property(lambda self: honest(self) + 1))


def one_turn_too_few(patch: pytest.MonkeyPatch) -> None:
    honest = Options.turn_limit.fget
    patch.setattr(Options, "turn_limit", property(lambda self: max(1, honest(self) - 1)))


def one_retry_too_many(patch: pytest.MonkeyPatch) -> None:
    def parsed(state: Any, response: Any, news: Any) -> Any:
        if news.problem is not None and state.retries == state.options.max_retries:
            return loop._ask_again(state, response, news.problem)
        return honest(state, response, news)

    honest = loop._parsed
    patch.setattr(loop, "_parsed", parsed)


def a_misfit_ends_the_chat(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gates.Standing, "rejected", property(lambda self: False))


def a_misfit_loses_its_correction(patch: pytest.MonkeyPatch) -> None:
    honest = loop._plain_step
    patch.setattr(
        loop, "_plain_step", lambda state, response, *said: honest(state, response, *said[:1] * len(said))
    )


def a_lost_tool_message(patch: pytest.MonkeyPatch) -> None:
    def answered_thread(self: batch.Batch) -> Thread:
        answers = [self.answered[call.id] for call in self.response.tool_calls if call.id in self.answered]
        return self.thread.add(*map(answer_message, answers[:1]))

    patch.setattr(batch.Batch, "answered_thread", answered_thread)


def answers_out_of_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        batch.Batch,
        "answered_thread",
        lambda self: self.thread.add(*map(answer_message, self.answered.values())),
    )


def the_end_is_published_twice(patch: pytest.MonkeyPatch) -> None:
    def emit(self: run.TurnRun, effect: Emit) -> None:
        honest(self, effect)
        self.spec.channel.publish(effect.events)

    honest = run.TurnRun._emit
    patch.setitem(run.TurnRun._performers, Emit, emit)


def the_end_is_lost(patch: pytest.MonkeyPatch) -> None:
    honest = Channel.end
    patch.setattr(Channel, "end", lambda self, result=None, error=None, last=(): honest(self, result, error))


def a_model_failure_is_swallowed(patch: pytest.MonkeyPatch) -> None:
    def failed(state: Any, phase: Any, news: Any) -> Any:
        done = MessageCompleted(allm.assistant(""), "stop")
        state, shown = loop._heard(state, phase, ModelEvents(state.turn, [done]))
        state, effects = loop._ended(state, state.phase)
        return state, (*shown, *effects)

    patch.setattr(loop, "_failed", failed)


def an_error_event_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    rules = {kind: rule for kind, rule in fold.Receiving.rules.items() if kind is not allm.ErrorEvent}
    patch.setattr(fold.Receiving, "rules", rules)


def a_retry_after_the_first_event(patch: pytest.MonkeyPatch) -> None:
    def give(self: AdapterActor, script: Any) -> Any:
        try:
            return honest(self, script)
        except LookupError:
            self._script = (
                self._job.adapter.play(self._job.request, self._job.call)
                if hasattr(self._job.adapter, "play")
                else self._job.adapter.stream(self._job.request, self._job.call)
            )
            return None

    honest = AdapterActor._give
    patch.setattr(AdapterActor, "_give", give)


def an_unknown_tool_is_not_refused(patch: pytest.MonkeyPatch) -> None:
    honest = batch._refusal
    patch.setattr(
        batch, "_refusal", lambda options, call: honest(options, call) if call.name in options.tools else None
    )


def broken_arguments_reach_the_handler(patch: pytest.MonkeyPatch) -> None:
    honest = batch._refusal
    patch.setattr(
        batch, "_refusal", lambda options, call: None if call.name in options.tools else honest(options, call)
    )


def an_adapter_may_say_that_the_chat_is_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loop, "_MODEL_EVENTS", loop._MODEL_EVENTS | {allm.ChatCompleted})


def too_many_tools_at_once(patch: pytest.MonkeyPatch) -> None:
    def start(self: batch.Batch) -> Any:
        limit = self.options.max_concurrency
        more = msgspec.structs.replace(self.options, max_concurrency=None if limit is None else limit + 1)
        changed, effects = honest(msgspec.structs.replace(self, options=more))
        return msgspec.structs.replace(changed, options=self.options), effects

    honest = batch._start
    patch.setattr(batch, "_start", start)


def the_last_halt_wins(patch: pytest.MonkeyPatch) -> None:
    def step_of(event: Any, answers: Any) -> Any:
        step = honest(event, answers)
        halts = [
            fold.halt_metadata(answers[call.id]) for call in event.response.tool_calls if call.id in answers
        ]
        last = next((halt for halt in reversed(halts) if halt), {})
        return msgspec.structs.replace(step, metadata={**step.metadata, **last})

    honest = fold.step_of
    patch.setattr(loop, "step_of", step_of)


def a_tool_that_takes_too_long_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    set_alarm = run.TurnRun._set_alarm

    def only_for_others(self: run.TurnRun, worker: assignment.Assignment) -> None:
        if worker.kind != "tool":
            set_alarm(self, worker)

    patch.setattr(run.TurnRun, "_set_alarm", only_for_others)


def a_silent_model_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    honest = model_calls.ModelCalls.call
    patch.setattr(model_calls.ModelCalls, "call", lambda *args: _patient(*honest(*args)))


def _patient(request: Any, call: Any) -> Any:
    return request, dataclasses.replace(call, stream_timeout=None, request_timeout=None)


def an_endless_model_is_listened_to(patch: pytest.MonkeyPatch) -> None:
    honest = assignment._WithModel.__init__

    def init(self: assignment._WithModel, *args: Any) -> None:
        honest(self, *args)
        self._alarms.call_off(self._token)

    patch.setattr(assignment._WithModel, "__init__", init)


def a_dead_worker_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run.TurnRun, "died", lambda self, token, why: None)


def a_dead_session_owes_its_reader_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(setup.OpenTurns, "abandon", lambda self, reason: None)


def a_dead_session_leaves_calls_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "repair", lambda thread, keep=(): thread)


def a_cut_off_turn_leaves_calls_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(endings, "repair", lambda thread: thread)


def a_cancelled_batch_leaves_calls_open(patch: pytest.MonkeyPatch) -> None:
    def close(self: batch.Batch, why: str) -> Any:
        changed, effects = honest(self, why)
        return msgspec.structs.replace(changed, answered=self.answered), effects

    honest = batch.close
    patch.setattr(batch, "close", close)


def workers_outlive_their_turn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(crew.Crew, "dismiss", lambda self, worker, reason: None)


def whoever_waits_outlives_the_turn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(crew.Crew, "free", lambda self, assignment: None)


def a_question_outlives_its_turn(patch: pytest.MonkeyPatch) -> None:
    def only_who_waits(self: crew.Crew) -> None:
        for slots in self._idle.values():
            for slot in slots:
                self.dismiss(slot.ref, ANSWERED)

    patch.setattr(crew.Crew, "let_all_go", only_who_waits)


def a_worker_gets_the_next_job_before_it_is_done(patch: pytest.MonkeyPatch) -> None:
    free = crew.Crew.free
    patch.setattr(crew.Crew, "free", lambda self, assignment: [free(self, assignment) for _ in "12"])


def a_death_is_told_for_the_job_before(patch: pytest.MonkeyPatch) -> None:
    def give(slot: assignment.WorkerSlot, job: Any) -> bool:
        token = slot.token
        given = _give(slot, job)
        slot.token = token
        return given

    _give = assignment.WorkerSlot.give
    patch.setattr(assignment.WorkerSlot, "give", give)


def a_cancel_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session.SessionActor, "_cancel", lambda self, turn_id: None)


def a_turn_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    def save(self: ledger.Ledger, done: ledger.Stored) -> None:
        self.ref.send(StoreAnswered(lambda _answer, _error: done(None)))

    patch.setattr(ledger.Ledger, "save", save)


def an_answer_comes_twice(patch: pytest.MonkeyPatch) -> None:
    def emit(self: run.TurnRun, effect: Emit) -> None:
        answers = [event for event in effect.events if isinstance(event, allm.ToolResultEncoded)]
        honest(self, Emit((*answers, *effect.events)))

    honest = run.TurnRun._emit
    patch.setitem(run.TurnRun._performers, Emit, emit)


def a_step_is_not_shown(patch: pytest.MonkeyPatch) -> None:
    def emit(self: run.TurnRun, effect: Emit) -> None:
        shown = (event for event in effect.events if not isinstance(event, allm.StepCompleted))
        honest(self, Emit(tuple(shown)))

    honest = run.TurnRun._emit
    patch.setitem(run.TurnRun._performers, Emit, emit)


def the_users_message_is_lost(patch: pytest.MonkeyPatch) -> None:
    honest = session.sessions.begin
    patch.setattr(
        session.sessions, "begin", lambda value, operation, messages=(): honest(value, operation, ())
    )


def two_calls_with_one_id_are_taken_for_one(patch: pytest.MonkeyPatch) -> None:
    whole = loop.whole
    patch.setattr(loop, "whole", lambda response, unfinished, _repeated: whole(response, unfinished))


def a_function_of_the_users_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    set_alarm = run.TurnRun._set_alarm

    def only_for_tools(self: run.TurnRun, worker: assignment.Assignment) -> None:
        if worker.kind == "tool":
            set_alarm(self, worker)

    patch.setattr(run.TurnRun, "_set_alarm", only_for_tools)


def a_handler_runs_twice(patch: pytest.MonkeyPatch) -> None:
    def begin(self: ToolActor, job: Any) -> None:
        if job.claim is None:
            (job.context.copy() if job.context is not None else contextvars.copy_context()).run(job.work)
        honest(self, job)

    honest = ToolActor.begin
    patch.setattr(ToolActor, "begin", begin)


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    # The third gate stops what the first two stop, if they do not.
    "the gate of questions is removed": without_gates(1, 3),
    "the gate of tool errors is removed": without_gates(2, 3),
    **{f"gate {number} is removed": without_gates(number) for number in (3, 4, 5, 6, 7, 9)},
    "one turn too many": one_turn_too_many,
    "one turn too few": one_turn_too_few,
    "one retry too many": one_retry_too_many,
    "an answer that does not fit ends the chat": a_misfit_ends_the_chat,
    "an answer that does not fit is not said to": a_misfit_loses_its_correction,
    "a lost tool message": a_lost_tool_message,
    "answers out of order": answers_out_of_order,
    "the end is published twice": the_end_is_published_twice,
    "the end is lost": the_end_is_lost,
    "a model failure is swallowed": a_model_failure_is_swallowed,
    "an error event is forgotten": an_error_event_is_forgotten,
    "a retry after the first event": a_retry_after_the_first_event,
    "an unknown tool is not refused": an_unknown_tool_is_not_refused,
    "broken arguments reach the handler": broken_arguments_reach_the_handler,
    "an adapter may say that the chat is over": an_adapter_may_say_that_the_chat_is_over,
    "too many tools at once": too_many_tools_at_once,
    "the last halt wins": the_last_halt_wins,
    "a tool that takes too long is waited for": a_tool_that_takes_too_long_is_waited_for,
    "two calls with one id are taken for one": two_calls_with_one_id_are_taken_for_one,
    "a function of the user's is waited for": a_function_of_the_users_is_waited_for,
    "a silent model is waited for": a_silent_model_is_waited_for,
    "an endless model is listened to": an_endless_model_is_listened_to,
    "a dead worker is not noticed": a_dead_worker_is_not_noticed,
    "a dead session owes its reader the end": a_dead_session_owes_its_reader_the_end,
    "a dead session leaves calls open": a_dead_session_leaves_calls_open,
    "a cut off turn leaves calls open": a_cut_off_turn_leaves_calls_open,
    "a cancelled batch leaves calls open": a_cancelled_batch_leaves_calls_open,
    "workers outlive their turn": workers_outlive_their_turn,
    "whoever waits outlives the turn": whoever_waits_outlives_the_turn,
    "a question outlives its turn": a_question_outlives_its_turn,
    "a worker gets the next job before it is done": a_worker_gets_the_next_job_before_it_is_done,
    "a death is told for the job before": a_death_is_told_for_the_job_before,
    "a cancel is not heard": a_cancel_is_not_heard,
    "a turn is not stored": a_turn_is_not_stored,
    "an answer comes twice": an_answer_comes_twice,
    "a handler runs twice": a_handler_runs_twice,
    "a step is not shown": a_step_is_not_shown,
    "the user's message is lost": the_users_message_is_lost,
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_proof_catches(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[bug](monkeypatch)
    with pytest.raises(ScenarioFailed) as failure:
        prove_halting(engine(), **{"schedules": ENOUGH, **RARE.get(bug, {})}, shrinks=0)
    # A law was broken, or a turn never ended: not a mistake in the planting.
    assert isinstance(failure.value.__cause__, AssertionError | SimulationError | Stuck), repr(
        failure.value.__cause__
    )


@pytest.mark.parametrize("crash", [True, False])
def test_the_message_of_a_broken_law_makes_the_run_again(
    crash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_turn_too_many(monkeypatch)
    with pytest.raises(ScenarioFailed) as failure:
        prove_halting(engine(), schedules=ENOUGH, crash=crash, max_turns=2, shrinks=0)
    again = str(failure.value).splitlines()[-1].removeprefix("again: ")
    call, comma, rest = again.partition("), ")
    assert (comma, rest) == ("), ", "with the same options")
    assert f"seed={failure.value.seed}" in call
    assert ("crash=False" in call) is not crash
    with pytest.raises(ScenarioFailed) as same:
        eval(f"{call}, max_turns=2, shrinks=0)", {"prove_halting": prove_halting, "engine": engine()})
    assert same.value.seed == failure.value.seed
    assert str(same.value.__cause__) == str(failure.value.__cause__)
