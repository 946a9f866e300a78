"""The jobs of tool actors: a handler and the settling of its outcome, as one callable.

Rule of this file: the user's code (handler, policy, encoder, predicate) runs only inside the work, in the worker; what
it raises becomes an outcome there. The session actor makes the work and never runs it.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from weakref import ref

import msgspec

from allm_actors.actors.loops import current_loop
from allm_actors.actors.protocol import ToolJob
from allm_actors.data import AllmError, StepResult, Tool, ToolCall
from allm_actors.data.build import called
from allm_actors.data.schemas.structured import broken_model, parse
from allm_actors.engine.adapter import ToolContext
from allm_actors.engine.awaitable import result_of
from allm_actors.engine.isolated import ChildDied, IsolatedCall
from allm_actors.engine.threads import on_thread
from allm_actors.execution.tool_errors import describe, not_found
from allm_actors.execution.tools import ToolOutcome, failure, settle, settle_error
from allm_actors.telemetry import Span
from supervisors import ProcessKilled

from .cancelled import Cancelled
from .contained import contained
from .crew import Crew
from .spec import TurnSpec
from .terms import Form

__all__ = ["halt_job", "parse_job", "settle_job", "tool_job"]


_OUTSIDE = nullcontext()
Tell = Callable[[Any], bool]
_PLAIN = frozenset({str, int, float, bool, type(None)})


def tool_job(
    spec: TurnSpec,
    crew: Crew,
    call: ToolCall,
    tool: Tool,
    request_id: str | None,
    span: Span | None = None,
) -> ToolJob:
    """Run `tool` for `call` and settle its answer into a `ToolOutcome`; `span` is started and stopped around it.

    The outcome of this and of the other jobs here is sent to the crew's actor.
    """
    cancelled = Cancelled()

    def context() -> ToolContext:
        return ToolContext(
            context=_context(spec),
            session_id=spec.call_options.get("session_id"),
            request_id=request_id,
            tool_call=_own(call),
            engine=spec.engine,
            cancelled=cancelled,
        )

    form = spec.terms.form_of(tool)
    work: Callable[..., Any]
    cancel, loop = cancelled.set, None
    if tool.isolation == "process" and tool.handler is not None and form.executor is None:
        work, cancel = _isolated_work(
            spec, IsolatedCall(tool, call.arguments, context()), call, cancelled, span
        )
    else:
        invoke = _invoker(form, tool, call, context)
        loop = spec.loop if form.asynchronous else None
        work = partial(_settled if loop is None else _asettled, spec, call, invoke, span)
    return ToolJob(
        token=crew.next_token(),
        session=crew.ref,
        name=call.name,
        call_id=call.id,
        work=work,
        claim=allocate_lock() if spec.terms.has_user_code else None,
        cancel=cancel,
        loop=loop,
        context=spec.context,
    )


def _isolated_work(
    spec: TurnSpec, isolated: IsolatedCall, call: ToolCall, cancelled: Cancelled, span: Span | None
) -> tuple[Callable[..., ToolOutcome], Callable[[], None]]:
    """Two functions: one runs the call in an operating system process of its own, the other ends that process."""

    def cancel() -> None:
        cancelled.set()
        isolated.kill()

    def run(tell: Tell | None = None) -> ToolOutcome:
        try:
            return _settled(spec, call, isolated.run, span, tell)
        except ChildDied as died:
            if not cancelled:
                raise  # treated like a worker that died: the machine decides what that means
            return settle(call, died)  # cancelled: nobody waits for this any more

    return run, cancel


def settle_job(spec: TurnSpec, crew: Crew, call: ToolCall, error: AllmError) -> ToolJob:
    """Give an error that did not come from a worker to the user's policy and encoder."""
    terms = spec.terms

    def run() -> ToolOutcome:
        with _inside(spec):
            return settle_error(_own(call), error, terms.encoder, terms.policy)

    return _job(spec, crew, call.name, run, call.id)


def halt_job(spec: TurnSpec, crew: Crew, step_result: StepResult) -> ToolJob:
    """Call the user's `halt_when`; an exception that it raises is the outcome."""
    predicate: Callable[[StepResult], Any] = spec.call_options["halt_when"]

    def decide() -> bool:
        return bool(result_of(predicate(step_result)))

    def ask() -> Any:
        try:
            with _inside(spec):
                return contained(decide)()
        except Exception as error:  # noqa: BLE001 - it is the answer
            return error

    return _job(spec, crew, "halt", ask)


def parse_job(spec: TurnSpec, crew: Crew, text: str) -> ToolJob:
    """Parse an answer into the call's `response_model`. The outcome is `(value, problem, error)`: `problem`
    is one that the model can correct, `error` is not.
    """
    model = spec.call_options["response_model"]

    def read() -> tuple[Any, str | None, AllmError | None]:
        try:
            with _inside(spec):
                return contained(parse)(text, model), None, None
        except ValueError as error:
            return None, str(error), None
        except Exception as error:  # noqa: BLE001 - from the type's own code; the model cannot correct it
            return None, None, broken_model(model, describe(error))

    return _job(spec, crew, "parse", read)


def _job(spec: TurnSpec, crew: Crew, name: str, run: Callable[[], Any], call_id: str = "") -> ToolJob:
    token, session = crew.next_token(), crew.ref
    return ToolJob(token=token, session=session, name=name, call_id=call_id, work=run, context=spec.context)


def _settled(
    spec: TurnSpec, call: ToolCall, invoke: Callable[[], Any], span: Span | None, tell: Tell | None = None
) -> ToolOutcome:
    if span is not None:
        span.start()
    try:
        with _inside(spec):
            result = invoke()
            if type(result) not in _PLAIN:
                result = result_of(result)
    except (ChildDied, ProcessKilled):
        raise
    except BaseException as error:  # noqa: BLE001 - it is the outcome
        result = error
    try:
        return _outcome(spec, call, result, span, tell)
    finally:
        del result  # an error has this frame in its traceback, and with this it would be a reference cycle


async def _asettled(
    spec: TurnSpec, call: ToolCall, invoke: Callable[[], Any], span: Span | None, tell: Tell | None = None
) -> ToolOutcome:
    me = _this_task()
    if span is not None:
        span.start()
    try:
        with _inside(spec):
            result = invoke()
            if inspect.isawaitable(result):
                result = await result
    except ProcessKilled:
        raise
    except BaseException as error:
        if _is_over(me(), error):
            raise
        result = error
    try:
        if tell is None:
            return _outcome(spec, call, result, span)
        # The user's policy and encoder may block, and the event loop is the caller's.
        mine = tell(failure(call, result))
        return await on_thread(partial(_outcome, spec, call, result, span, lambda _error: mine))
    finally:
        del result  # as above


def _this_task() -> Callable[[], asyncio.Task[Any] | None]:
    """The task that runs this, or None, for a variable of its own coroutine.

    A weak reference: a cancelled task keeps its frames, and in them what a handler reads, such as a stream that is to
    end once it is dropped. A frame that kept the task would leave that to the garbage collector.
    """
    task = asyncio.current_task()
    return (lambda: None) if task is None else ref(task)


def _is_over(task: asyncio.Task[Any] | None, error: BaseException) -> bool:
    """Whether the task was cancelled from outside, or its loop is gone.

    A handler may raise the same exceptions by itself, or because something else was cancelled.
    """
    if isinstance(error, GeneratorExit):
        return task is None or current_loop() is None or asyncio.current_task() is not task
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def _inside(spec: TurnSpec) -> AbstractContextManager[None]:
    return _OUTSIDE if spec.inside is None else spec.inside.entered(spec.id)


def _outcome(
    spec: TurnSpec, call: ToolCall, result: Any, span: Span | None, tell: Tell | None = None
) -> ToolOutcome:
    if tell is None:
        outcome = settle(call, result, policy=spec.terms.policy)
    elif tell(failure(call, result)):
        with _inside(spec):
            outcome = settle(_own(call), result, spec.terms.encoder, spec.terms.policy)
    else:
        return settle(call, result)  # without the user's code: it was claimed, and nobody waits for this
    if span is not None:
        span.stop(result=outcome.raw)
    return outcome


def _invoker(form: Form, tool: Tool, call: ToolCall, context: Callable[[], ToolContext]) -> Callable[[], Any]:
    executor, handler = form.executor, tool.handler
    if executor is not None:
        return lambda: executor.execute(tool, _copied(call.arguments), context())
    if handler is None:
        error = not_found(call)
        return lambda: error
    if form.context is None:
        return lambda: handler(_copied(call.arguments))
    return lambda: called(handler, form.context, _copied(call.arguments), context())


def _own(call: ToolCall) -> ToolCall:
    """A copy of the call, which the user's code may change."""
    return msgspec.structs.replace(call, arguments=_copied(call.arguments), metadata=_copied(call.metadata))


def _copied(value: Any) -> Any:
    """A deep copy of JSON-like data, which arguments are; ten times as fast as `deepcopy`."""
    kind = type(value)
    if kind is dict:
        return {key: each if type(each) in _PLAIN else _copied(each) for key, each in value.items()}
    if kind is list:
        return [_copied(each) for each in value]
    return value if kind in _PLAIN else copy.deepcopy(value)


def _context(spec: TurnSpec) -> Mapping[str, Any]:
    return {**spec.engine.context, **(spec.call_options.get("context") or {})}
