"""The tool calls of one step, from the model's answer to the last tool message.

Rule of this file: a batch is a frozen value, and each call is in exactly one of five states ("places").

    a call                               place      leaves it when
    -----------------------------------  ---------  ------------------------------------------------------------------
    of a manual tool                     manual     never; the caller answers it after the step
    that waits for a free worker         queue      another call's worker is free again
    that a worker runs                   running    it returns, takes too long, or crashes (see below)
    that the user's code settles         settling   it is settled; or the worker that settles it crashes or times out
    that has its tool message            answered   never

Calls of unknown tools, calls whose arguments are no JSON object, and calls of compact tools without required
arguments fail before any worker: they go to `settling`, or, if no user code takes part in settling, to
`answered` at once. At most `max_concurrency` calls are started and not answered at any time. A call whose
worker crashed in the handler is run once more if its tool's `effect` allows running it twice; no other call
is ever run twice. The user's policy is called once: if it does not complete, a call that failed halts the
chat with its own error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from allm_actors.data import (
    AllmError,
    Event,
    Message,
    Response,
    Thread,
    ToolCall,
    ToolExecutionCompleted,
    ToolExecutionStarted,
)
from allm_actors.data.compact import missing_arguments

from .effects import CancelTool, Checkpoint, Effect, Emit, RunTool, SettleError
from .options import Options
from .tool_errors import (
    call_cancelled,
    help_needed,
    invalid_arguments,
    not_begun,
    not_settled,
    timed_out,
    unknown_tool,
    worker_crashed,
)
from .tools import AnswerEvent, Policy, ToolOutcome, answer_message, settle_error

__all__ = ["Batch", "Change", "begin", "close", "crashed", "handled", "returned", "took_too_long"]

T = TypeVar("T")


class Settling(msgspec.Struct, frozen=True):
    """A call that the user's policy or encoder is settling, with the `error` it failed with, if it did.
    `started`: the stream's reader has seen it start.
    """

    call: ToolCall
    error: Any
    started: bool


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The state of every call of a step. `thread` ends with the assistant message that makes the calls;
    `messages` are the tool messages of the answered calls.
    """

    turn: int
    options: Options
    thread: Thread
    response: Response
    manual: tuple[ToolCall, ...] = ()
    queue: tuple[ToolCall, ...] = ()
    running: dict[str, ToolCall] = {}
    settling: dict[str, Settling] = {}
    answered: dict[str, AnswerEvent] = {}
    messages: dict[str, Message] = {}
    repeated: frozenset[str] = frozenset()

    @property
    def over(self) -> bool:
        """Whether every call except the manual ones has its answer."""
        return not (self.running or self.settling or self.queue)

    @property
    def started(self) -> int:
        """How many calls are started and have no answer yet."""
        return len(self.running) + sum(each.started for each in self.settling.values())

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls without an answer, in the model's order."""
        return tuple(call for call in self.response.tool_calls if call.id not in self.answered)

    def answered_thread(self) -> Thread:
        """The thread with the tool messages so far, in the model's order."""
        known = self.messages
        messages = [known[call.id] for call in self.response.tool_calls if call.id in known]
        return self.thread.add(*messages) if messages else self.thread


Change = tuple[Batch, tuple[Effect, ...]]


def begin(options: Options, turn: int, thread: Thread, response: Response) -> Change:
    """Sort the calls into their places, and start as many as may run."""
    manual: list[ToolCall] = []
    queue: list[ToolCall] = []
    refused: list[tuple[ToolCall, AllmError]] = []
    for call in response.tool_calls:
        error = _refusal(options, call)
        if error is not None:
            refused.append((call, error))
        else:
            (manual if options.tools[call.name].manual else queue).append(call)
    batch = Batch(
        turn=turn,
        options=options,
        thread=thread,
        response=response,
        manual=tuple(manual),
        queue=tuple(queue),
    )
    events: list[Event] = []
    effects: list[Effect] = []
    for call, error in refused:
        batch = _fail(batch, call, error, events, effects, started=False)
    return _changed(batch, events, effects)


def handled(batch: Batch, call_id: str, error: Any) -> Change | None:
    """A worker's handler has ended, and its outcome is being settled. None if the call does not run: a stale report."""
    call = batch.running.get(call_id)
    if call is None:
        return None
    return _to_settling(batch, Settling(call, error, started=True)), ()


def returned(batch: Batch, call_id: str, outcome: ToolOutcome) -> Change | None:
    """A worker has settled a call. None if nothing waits for that: a stale report."""
    events: list[Event] = []
    if call_id in batch.running:
        batch = _answer(batch, batch.running[call_id], outcome, events, started=True)
    elif call_id in batch.settling:
        settling = batch.settling[call_id]
        batch = _answer(batch, settling.call, outcome, events, started=settling.started)
    else:
        return None
    return _changed(batch, events)


def crashed(batch: Batch, call_id: str, reason: str, *, begun: bool = True) -> Change | None:
    """A worker has died, or could not be started (not `begun`). None if nothing waits for it."""
    if not begun:
        return _lost(batch, call_id, lambda call: not_begun(call, reason))
    if call_id in batch.running and call_id not in batch.repeated:
        call = batch.running[call_id]
        if batch.options.tools[call.name].effect != "once":
            batch = msgspec.structs.replace(batch, repeated=batch.repeated | {call_id})
            return batch, (_run(batch, call),)
    return _lost(batch, call_id, lambda call: worker_crashed(call, reason))


def took_too_long(batch: Batch, call_id: str) -> Change | None:
    """A worker's time is up. None if nothing waits for it."""
    stop = CancelTool(call_id, batch.turn)
    return _lost(batch, call_id, lambda call: timed_out(call, _timeout(batch, call)), stop)


def close(batch: Batch, why: str, unbegun: frozenset[str] = frozenset()) -> Change:
    """Answer every open call with an error, and stop all workers; `why` is `cancelled` or `interrupted`.

    Of the running calls, the `unbegun` ones were still waiting for a worker, so they were not started, unless
    this was a second attempt after a crash. A call that is being settled is answered with its own error, if
    it has one.
    """
    events: list[Event] = []
    working = [call_id for call_id in (*batch.running, *batch.settling) if call_id not in unbegun]
    stops = tuple(CancelTool(call_id, batch.turn) for call_id in working)
    started = {*batch.running, *(call_id for call_id, one in batch.settling.items() if one.started)}
    started -= unbegun - batch.repeated
    for call in batch.open_calls:
        settling = batch.settling.get(call.id)
        error = (
            call_cancelled(call, why, started=call.id in started) if settling is None else _failed(settling)
        )
        batch = _answer(batch, call, settle_error(call, error), events, started=call.id in started)
    batch = msgspec.structs.replace(batch, queue=(), manual=())
    return batch, (*stops, _checkpoint(batch), *_emit(events))


# --- what they share ----------------------------------------------------------------------------------------------


def _refusal(options: Options, call: ToolCall) -> AllmError | None:
    """Why this call never reaches a worker, or None."""
    arguments: object = call.arguments
    if call.name not in options.tools:
        return unknown_tool(call, tuple(options.tools))
    if "arguments_error" in call.metadata or not isinstance(arguments, dict):
        return invalid_arguments(call)
    missing = missing_arguments(options.tools[call.name], call)
    return None if missing is None else help_needed(call, missing)


def _lost(
    batch: Batch, call_id: str, error: Callable[[ToolCall], AllmError], *stops: Effect
) -> Change | None:
    events: list[Event] = []
    effects: list[Effect] = [*stops]
    if call_id in batch.running:
        call = batch.running[call_id]
        batch = _fail(batch, call, error(call), events, effects, started=True)
    elif call_id in batch.settling:
        settling = batch.settling[call_id]
        outcome = _unsettled(batch, settling)
        batch = _answer(batch, settling.call, outcome, events, started=settling.started)
    else:
        return None
    return _changed(batch, events, effects)


def _unsettled(batch: Batch, settling: Settling) -> ToolOutcome:
    """The outcome of a call whose settling did not complete: by the policy if that is a word; a function means halt."""
    policy = batch.options.on_tool_error
    word: Policy = "continue" if policy == "continue" else "halt"
    return settle_error(settling.call, _failed(settling), policy=word)


def _failed(settling: Settling) -> Any:
    """The error of a call whose settling did not complete: its own, if it has one."""
    return settling.error if settling.error is not None else not_settled(settling.call)


def _fail(
    batch: Batch,
    call: ToolCall,
    error: AllmError,
    events: list[Event],
    effects: list[Effect],
    *,
    started: bool,
) -> Batch:
    """The batch after a call failed, with no worker in which its error could be settled."""
    if batch.options.errors_need_user_code:
        effects.append(SettleError(call, error, _timeout(batch, call), batch.turn))
        return _to_settling(batch, Settling(call, error, started))
    policy: Policy = "halt" if batch.options.on_tool_error == "halt" else "continue"
    return _answer(batch, call, settle_error(call, error, policy=policy), events, started=started)


def _to_settling(batch: Batch, settling: Settling) -> Batch:
    call_id = settling.call.id
    return msgspec.structs.replace(
        batch,
        running=_without(batch.running, call_id),
        settling={**batch.settling, call_id: settling},
    )


def _answer(
    batch: Batch, call: ToolCall, outcome: ToolOutcome, events: list[Event], *, started: bool
) -> Batch:
    """The batch after a call got its answer."""
    if started:
        events.append(ToolExecutionCompleted(id=call.id, name=call.name, result=outcome.raw))
    events.append(outcome.event)
    return msgspec.structs.replace(
        batch,
        running=_without(batch.running, call.id),
        settling=_without(batch.settling, call.id) if batch.settling else {},
        answered={**batch.answered, call.id: outcome.event},
        messages={**batch.messages, call.id: answer_message(outcome.event)},
    )


def _changed(batch: Batch, events: Sequence[Event], effects: Sequence[Effect] = ()) -> Change:
    """Store, show, do; then fill the workers that are free."""
    saved = (_checkpoint(batch), *_emit(events), *effects)
    if not batch.queue:
        return batch, saved
    batch, started = _start(batch)
    return batch, (*saved, *started)


def _start(batch: Batch) -> Change:
    limit = batch.options.max_concurrency
    free = len(batch.queue) if limit is None else limit - batch.started
    calls = batch.queue[:free]
    if not calls:
        return batch, ()
    running = batch.running | {call.id: call for call in calls}
    shown = [ToolExecutionStarted(id=call.id, name=call.name, arguments=call.arguments) for call in calls]
    runs = [_run(batch, call) for call in calls]
    # The effects that run the tools come before the events that show them: a reader who sees one may wait for its end.
    return msgspec.structs.replace(batch, queue=batch.queue[free:], running=running), (*runs, *_emit(shown))


def _run(batch: Batch, call: ToolCall) -> RunTool:
    tool = batch.options.tools[call.name]
    return RunTool(call, tool, _timeout(batch, call), batch.options.request_id, batch.turn)


def _timeout(batch: Batch, call: ToolCall) -> float | None:
    tool = batch.options.tools.get(call.name)
    return batch.options.tool_timeout if tool is None or tool.timeout is None else tool.timeout


def _checkpoint(batch: Batch) -> Checkpoint:
    return Checkpoint(batch.thread, batch.response.tool_calls, batch.messages)


def _emit(events: Sequence[Event]) -> tuple[Emit, ...]:
    return (Emit(tuple(events)),) if events else ()


def _without(calls: dict[str, T], call_id: str) -> dict[str, T]:
    left = dict(calls)
    left.pop(call_id, None)
    return left
