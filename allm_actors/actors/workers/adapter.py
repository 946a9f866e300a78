"""AdapterActor: one open model call at a time.

Rule of this file: it runs an adapter and sends its events to the session, in batches, no further ahead than
the window allows. Then it waits for the turn's next call (see `crew`), or ends. It never retries after the
first event, never decides anything, and closes what it opened however it dies, in the context in which that ran: a
generator may have set context variables that it resets at its end. An AllmError ends the answer,
wherever it is raised; anything else that an adapter raises, an exit too, loses the call's key and crashes this actor,
and the session learns of it from the death.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from _thread import get_ident
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn

from allm_actors.actors.loops import call_on
from allm_actors.actors.protocol import (
    ANSWERED,
    Continue,
    ModelBatch,
    ModelJob,
    ModelRefused,
    Wake,
)
from allm_actors.data import EVENTS, AllmError, EngineError, ErrorEvent, Event, Request, StreamError
from allm_actors.data.services.speech import SPEECH_EVENTS
from allm_actors.data.services.transcription import TRANSCRIPTION_EVENTS
from allm_actors.engine.adapter import Call, Delay
from allm_actors.engine.secret import keys_of, scrub, without_key
from supervisors import SHUTDOWN, Crash, Process, Reason, System

from .cancellation import Cancellation
from .ends import ends_worker

__all__ = [
    "AdapterActor",
    "BlockingAdapterActor",
    "ThreadedAdapterActor",
    "adapter_actor_for",
    "close",
    "no_iterator",
    "try_open_call",
]

_END = object()
_EVENTS = frozenset((*EVENTS, *SPEECH_EVENTS, *TRANSCRIPTION_EVENTS))
_NOT_ASYNCHRONOUS = (
    "batches(request, call) returned an iterator that is not asynchronous; make it an `async def` whose every "
    "`yield` gives a list of events, or call it `stream` and yield single events"
)
_NO_BATCH = "not a list of events; yield lists, or call the method `stream` and yield single events"
_NO_EVENT = (
    "which is not an event; yield objects of the event classes: allm.MessageStarted(), allm.TextDelta('…'), "
    "allm.MessageCompleted(allm.assistant('…'), 'stop') and so on"
)


def adapter_actor_for(job: ModelJob) -> type[AdapterActor]:
    """The actor class for a call: on the event loop, unless the adapter, or the function that returns the
    key, may block.

    Opening an asynchronous generator runs none of its code, and the rest of it runs on an event loop anyway.
    """
    adapter = job.adapter
    if not any(callable(getattr(adapter, form, None)) for form in ("play", "batches")):
        stream = getattr(adapter, "stream", None)
        return AdapterActor if inspect.isasyncgenfunction(stream) else BlockingAdapterActor
    return ThreadedAdapterActor if callable(job.call.api_key) else AdapterActor


def try_open_call(adapter: Any, request: Request, call: Call) -> tuple[Any, BaseException | None]:
    """The adapter's iterator in the best form it has, or what it raised, without the call's key."""
    try:
        return _open_call(adapter, request, call), None
    except BaseException as error:
        if ends_worker(error):
            raise
        return None, without_key(error, call.api_key)  # as a value, so that no traceback leads to the key


def _open_call(adapter: Any, request: Request, call: Call) -> Any:
    for form in ("play", "batches", "stream"):
        method = getattr(adapter, form, None)
        if callable(method):
            opened = method(request, call)
            if not (hasattr(opened, "__next__") or hasattr(opened, "__anext__")):
                raise no_iterator(adapter, form, opened)
            if form == "batches" and not hasattr(opened, "__anext__"):
                close(opened)
                raise _unusable(adapter, _NOT_ASYNCHRONOUS)
            return opened
    raise EngineError("missing_stream_adapter", message=f"adapter {adapter!r} has no stream(request, call)")


def no_iterator(adapter: Any, method: str, returned: Any) -> EngineError:
    """The error for an adapter that returned this in place of an iterator of events."""
    what = "None" if returned is None else f"a {type(returned).__name__}"
    advice = "make it a generator, with a `yield` for each event, or return iter(…) of a list of events"
    if inspect.iscoroutine(returned):
        returned.close()  # a coroutine: or Python warns that it was never awaited
        advice = "an `async def` needs a `yield` in it; to return an iterator, make it a plain `def`"
    return _unusable(adapter, f"{method}(request, call) returned {what}, not an iterator of events; {advice}")


def _unusable(adapter: Any, problem: str) -> EngineError:
    name = str(getattr(adapter, "name", type(adapter).__name__))
    return EngineError("invalid_engine", provider=name, message=f"adapter {name!r}: {problem}")


def _refuse_others(adapter: Any, events: Any) -> None:
    """Raises EngineError if these are not a batch of events; whoever gets them would skip what is none."""
    if not isinstance(events, Sequence):
        raise _unusable(adapter, f"batches(request, call) yielded a {type(events).__name__}, {_NO_BATCH}")
    for event in events:
        if type(event) not in _EVENTS:
            raise _no_event(adapter, event)


def _no_event(adapter: Any, event: object) -> EngineError:
    what = f"the class {event.__name__}" if isinstance(event, type) else f"a {type(event).__name__}"
    return _unusable(adapter, f"it yielded {what}, {_NO_EVENT}")


def close(opened: Any, context: contextvars.Context | None = None) -> None:
    """Close an adapter's iterator, where that can be done from here, in a copy of the context, if there is one.

    None is harmless.
    """
    method = getattr(opened, "close", None)
    if method is not None:
        with contextlib.suppress(ValueError):  # somebody is still running it; it closes itself
            if context is None:
                method()
            else:
                context.copy().run(method)


class AdapterActor(Process):
    """Runs an adapter that yields its waits as `Delay` (`play`), or one that awaits on an asyncio loop (`batches`).

    Thread: the I/O loop's, so that a read's events reach the session without a hop between threads.
    """

    restart = "temporary"
    shutdown = 1.0
    dispatcher = "io"
    batch = 32  # events a script may give before other processes run

    def __init__(self, job: ModelJob) -> None:
        super().__init__()
        self._job = job
        self._opened: Any = job.opened
        self._script: Iterator[Event | Delay] | None = None
        self._pump: Pump | None = None
        self._waiting = False
        self._context = contextvars.Context()
        self._inside = threading.Lock()  # held by the thread that is in the context, and so in the script
        self._over = False

    def init(self) -> None:
        """Open the call only after the start: a refusal by the adapter is an answer, not a failed start."""
        self.on_kill(self._close)
        self.continue_(self._job)

    def handle_continue(self, job: ModelJob) -> None:
        """The first call."""
        self._begin(job)

    def on_receive(self, message: Any) -> None:
        """Go on after a delay or a yield, or when the session has caught up; or begin the next job."""
        match message:
            case Continue() if self._script is not None:
                self._waiting = False
                self._play(self._script)
            case Wake() if (pump := self._pump) is not None:
                pump.wake()
            case Wake() if self._script is not None and not self._waiting:
                self._play(self._script)
            case ModelJob():
                self._job, self._opened = message, message.opened
                self._script, self._pump, self._waiting = None, None, False
                self._begin(message)
            case PumpEnded(pump=pump, error=error, reason=reason) if pump is self._pump:
                if error is not None:
                    self._failed(without_key(error, self._job.call.api_key))
                self._end(reason)
            case _:
                pass

    def label(self) -> str:
        """The provider, and the session or call that uses it."""
        job = self._job
        return f"{getattr(job.adapter, 'name', type(job.adapter).__name__)} for {job.session}"

    def terminate(self, _reason: Any) -> None:
        """Close what is open."""
        self._close()

    def _begin(self, job: ModelJob) -> None:
        """Open the call and let its events flow."""
        opened, failure = self._opened, None
        self._context = contextvars.Context() if job.context is None else job.context.copy()
        if opened is None:
            with self._inside:
                opened, failure = self._context.run(try_open_call, job.adapter, job.request, job.call)
        if self._over:  # killed while the adapter blocked
            self._opened = opened
            self._close_script()
            return
        if isinstance(failure, AllmError | TypeError | ValueError):
            self._refuse(failure)
        if failure is not None:
            self._failed(failure)
        self._run(opened)

    def _close(self) -> None:
        """Close what is open. Thread: its own, or its killer's."""
        self._over = True
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel(self.system, self.label())
        else:
            self._close_script()

    def _close_script(self) -> None:
        """Close it, unless a thread is in it that was disowned: that one closes it on its way out."""
        if self._inside.acquire(blocking=False):
            try:
                opened = self._opened if self._script is None else self._script
                self._script = self._opened = None
                self._context.run(close, opened)
            finally:
                self._inside.release()

    def _end(self, reason: Reason) -> None:
        """Everything was sent: wait for the next call, or end."""
        if reason is not ANSWERED or not self._job.stays:
            self.exit(reason)
        self._script = self._pump = self._opened = None

    def _failed(self, error: BaseException) -> NoReturn:
        """The adapter raised. An AllmError is sent like an `ErrorEvent` of the adapter's; any other is a crash."""
        # Without our frames, and not raised here: they lead to this actor, and that, once it ended, leads to the error.
        # Such a circle would keep what the adapter was reading. From Python 3.12 on, the frame of a generator that
        # raised leads to ours, too, and the garbage collector has to come.
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        error.__traceback__ = trace
        if isinstance(error, AllmError):
            self._refuse(error)
        self.exit(Crash.of(error))

    def _refuse(self, error: Exception) -> NoReturn:
        self._job.session.send(ModelRefused(self._job.token, error))
        self.exit(ANSWERED)

    def _run(self, opened: Any) -> None:
        if hasattr(opened, "__anext__"):
            if self._job.loop is None:
                self._refuse(_no_loop(self._job.adapter))
            batches = opened if callable(getattr(self._job.adapter, "batches", None)) else _one_by_one(opened)
            pump = self._pump = Pump(self._job, self._job.loop, batches, self._pump_ended)
            self._opened = None  # the pump closes it
            if not self._over:  # else we were killed just now, perhaps before there was a pump to cancel
                pump.start()
        else:
            self._script = opened
            self._play(opened)

    def _play(self, script: Iterator[Event | Delay]) -> None:
        if not self._job.window.is_open():
            return
        item: Any = _END
        failure: BaseException | None = None
        try:
            with self._inside:
                if not self._over:  # else we were killed, and it may be closed already
                    item = self._context.run(self._give, script)
        except BaseException as error:
            if ends_worker(error):
                self._close_script()
                raise
            failure = without_key(
                error, self._job.call.api_key
            )  # raised below, so that it does not lead to the key
        if failure is not None or self._over:
            self._close_script()
        if failure is not None:
            self._failed(failure)
        if item is _END:
            self._end(ANSWERED)
            return
        self._waiting = True
        if isinstance(item, Delay):
            self.send_after(item.seconds, self.ref, Continue())
        else:
            self.ref.tell(Continue())

    def _give(self, script: Iterator[Event | Delay]) -> Any:
        """Send one batch to the session. Returns what ended it: a `Delay`, the end, or None if it was full."""
        job = self._job
        events: list[Event] = []
        why: Any = None
        try:
            for item in islice(script, self.batch):
                if isinstance(item, Delay):
                    why = item
                    break
                if type(item) not in _EVENTS:
                    raise _no_event(job.adapter, item)
                events.append(item)
            else:
                why = None if len(events) == self.batch else _END
        finally:  # events from before a failure are sent too
            if events or why is _END:
                job.window.send()
                job.session.send(_batch(job, events, last=why is _END))  # the session may be gone
        return why

    def _pump_ended(self, pump: Pump, error: BaseException | None, reason: Reason) -> None:
        with contextlib.suppress(Exception):  # the actor may be gone already
            self.ref.tell(PumpEnded(pump, error, reason))


class ThreadedAdapterActor(AdapterActor):
    """The same, opened on a thread: the call's key is a user function, which may block."""

    dispatcher = "blocking"


class BlockingAdapterActor(AdapterActor):
    """Runs an adapter that has only `stream`, which may block: on a thread of its own, event by event."""

    dispatcher = "blocking"
    batch = 1


class PumpEnded:
    """The pump has sent everything (ANSWERED), was stopped (SHUTDOWN), or failed."""

    __slots__ = ("error", "pump", "reason")

    def __init__(self, pump: Pump, error: BaseException | None, reason: Reason) -> None:
        self.pump, self.error, self.reason = pump, error, reason


class Pump:
    """Carries batches from an asynchronous adapter to the session; lives on the I/O loop."""

    def __init__(
        self,
        job: ModelJob,
        loop: asyncio.AbstractEventLoop,
        batches: AsyncIterator[Any],
        ended: Callable[[Pump, BaseException | None, Reason], None],
    ) -> None:
        self._job, self._batches, self._ended = job, batches, ended
        self._loop = loop
        self._room: asyncio.Event | None = None
        self._cancelled = False
        self._task: asyncio.Task[None] | None = None
        self._ident: int | None = None
        self._left: BaseException | None = None

    def start(self) -> None:
        """Begin reading; returns at once."""
        call_on(self._loop, self._start)

    def wake(self) -> None:
        """The session has caught up."""
        call_on(self._loop, lambda: self._room.set() if self._room is not None else None)

    def cancel(self, system: System, who: str) -> None:
        """Stop reading and close; returns at once, harmless when it is over. `who` is for the log, if it goes on."""
        self._cancelled = True
        farewell = Cancellation(system, who, lambda: self._task, self._ident)
        if call_on(self._loop, farewell.say):
            farewell.look_later()

    def _start(self) -> None:
        if self._cancelled:
            return  # cancelled before its loop ran this
        self._ident = get_ident()
        self._room = asyncio.Event()
        context = self._job.context
        own = None if context is None else context.copy()  # an empty context is falsy
        self._task = self._loop.create_task(self._carry(), context=own)
        self._task.add_done_callback(self._done)

    async def _carry(self) -> None:
        job, session, window = self._job, self._job.session, self._job.window
        way: Any = self._batches if hasattr(self._batches, "direct") else None
        if way is not None:
            way.direct = self._take
        try:
            async with contextlib.aclosing(self._batches) as batches:  # type: ignore[type-var]
                try:
                    async for events in batches:
                        if self._cancelled:
                            return  # although it went on
                        _refuse_others(job.adapter, events)
                        while not window.is_open():
                            assert self._room is not None
                            self._room.clear()
                            await self._room.wait()
                        window.send()
                        if not session.send(_batch(job, events)):
                            return  # it died, and its death ends us
                finally:
                    if way is not None:
                        way.direct = None  # or it and this pump would be a reference cycle
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as left:
            if ends_worker(left):
                raise
            self._left = left  # raised here, it would end the loop
            return
        session.send(ModelBatch(job.token, (), last=True))

    def _take(self, events: Any) -> bool:
        """Called directly by the socket's reader, not by this task. True if the session takes the batch."""
        job = self._job
        if self._cancelled or not job.window.is_open():
            return False
        job.window.send()
        return job.session.send(ModelBatch(job.token, events))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None  # its frames keep this pump, and what the adapter reads
        if not task.cancelled():
            self._ended(self, task.exception() or self._left, ANSWERED)
        elif self._cancelled:
            self._ended(self, None, SHUTDOWN)
        else:
            words = "the adapter raised CancelledError, although the call was not cancelled"
            self._ended(self, StreamError("adapter_error", message=words), ANSWERED)


def _batch(job: ModelJob, events: Any, *, last: bool = False) -> ModelBatch:
    """The message for the session, up to the first failure among its events, which loses the call's key."""
    final = events[-1] if events else None
    if type(final) is ErrorEvent:
        error, key = final.error, job.call.api_key
        told = without_key(error, key) if isinstance(error, BaseException) else scrub(error, *keys_of(key))
        events = [*events[:-1], ErrorEvent(told)]
    return ModelBatch(job.token, events, last)


def _no_loop(adapter: Any) -> EngineError:
    name = getattr(adapter, "name", type(adapter).__name__)
    text = (
        f"adapter {name!r} needs an event loop, and a simulated host has none; use an adapter with "
        "play(request, call)"
    )
    return EngineError("missing_stream_adapter", message=text)


async def _one_by_one(events: Any) -> AsyncIterator[tuple[Event]]:
    try:
        async for event in events:
            yield (event,)
    finally:
        if hasattr(events, "aclose"):
            await events.aclose()
