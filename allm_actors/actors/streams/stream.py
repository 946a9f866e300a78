"""What a caller holds while a turn runs: an iterator of events, for threads and for asyncio.

Rule of this file: lazy and thin. Nothing is begun before the first pull (a session's turn is admitted at
once, but acts only at the first pull); this side only takes events, shows them to the observer and filters
them. Folding is elsewhere.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, overload

import msgspec

from allm_actors.actors.log import log
from allm_actors.actors.loops import current_loop
from allm_actors.data import (
    AskUserRequested,
    ChatCompleted,
    ChatResult,
    Event,
    RawChunk,
    Response,
    StepCompleted,
    StepResult,
    TextDelta,
    ToolCallDelta,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolHalt,
    ToolResultEncoded,
)
from allm_actors.execution.partials import Partials, is_of, partials
from supervisors import OutsideSimulation

from .channel import Channel
from .fitting import check_fits

__all__ = ["E_co", "EventStream", "R_co", "Source", "Turn", "View"]

T = TypeVar("T")
if TYPE_CHECKING:
    import typing_extensions

    R_co = typing_extensions.TypeVar("R_co", covariant=True, default=Any)
    E_co = typing_extensions.TypeVar("E_co", covariant=True, default=Event)
else:  # a default is Python 3.13's
    R_co, E_co = TypeVar("R_co", covariant=True), TypeVar("E_co", covariant=True)

_FOLDED = (ChatResult, StepResult, Response)
_LOOP_EVENTS = (
    ToolExecutionStarted,
    ToolExecutionCompleted,
    ToolResultEncoded,
    AskUserRequested,
    ToolHalt,
    StepCompleted,
    ChatCompleted,
)


class Source(Protocol):
    """Starts a turn whose events go to a channel."""

    def begin(self, channel: Channel) -> None:
        """Start the turn; may block briefly while a host starts. Raises an immediate refusal."""

    async def abegin(self, channel: Channel) -> None:
        """As `begin`, without blocking the event loop."""

    def unbegun(self) -> Any:
        """The result of a turn that was closed before it began."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Which events of one stream its reader sees; `on_event` observes every provider event before the filters.

    `response_model` is the type of partial values; `complaints` has the type name of the observer's first
    exception.
    """

    emit_text_deltas: bool = True
    emit_tool_deltas: bool = True
    include_raw_chunks: bool = False
    on_event: Callable[[Event], object] | None = None
    response_model: Any = None
    complaints: list[str] = []

    def shows(self, event: Any) -> bool:
        """Whether the reader gets this event. The observer is told first; what it raises is logged, once."""
        if self.on_event is not None and not isinstance(event, _LOOP_EVENTS):
            self._observe(self.on_event, event)
        match event:
            case TextDelta():
                return self.emit_text_deltas
            case ToolCallDelta():
                return self.emit_tool_deltas
            case RawChunk(payload=payload):
                return self.include_raw_chunks or _is_usage(payload)
            case _:
                return True

    def _observe(self, on_event: Callable[[Event], object], event: Event) -> None:
        try:
            on_event(event)
        except Exception as error:  # noqa: BLE001 - an observer must not break the stream
            if not self.complaints:  # one that fails once may fail at each fragment
                self.complaints.append(type(error).__name__)
                text = (
                    "an on_event observer failed; the stream goes on, and its further failures are not logged"
                )
                log.exception(text, event_tag=event.tag)


class EventStream(Generic[R_co, E_co]):
    """The events of one call, pulled one by one; the type parameter is its result's, as in `EventStream[ChatResult]`.

    Iterate it with `for` or `async for`, once. Leaving the `with` block, `close()` or dropping the last reference ends
    the call: the provider's connection is closed and tools that can be stopped are stopped. `result()` (or `await
    stream`) runs the rest without handing out events and returns what they fold to.

    Raises: what refuses the call before its first event (`EngineError`, `ValidationError`, `AdapterError`, …); after
    the first event a failure is data: an `ErrorEvent`, and a result that carries the error.
    Thread: one reader at a time, on any thread or event loop.
    """

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute
        # `EventStream[ChatResult]`, without the other parameter, which has a default
        __class_getitem__ = classmethod(GenericAlias)

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, and say where a result is to be had if one has that name."""
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_") and any(hasattr(each, name) for each in _FOLDED):
                text = f"{text}; it is no result: that comes from `.result()`, or from `await` in a coroutine"
            raise AttributeError(text, name=name, obj=self)

    def __init__(self, source: Source | None, channel: Channel, view: View | None = None) -> None:
        self._source = source  # None: it has begun
        self._channel, self._view = channel, view or View()
        self._ready: deque[Any] = deque()
        self._closed = self._exhausted = False
        self._used = False
        self._read = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E_co:
        while True:
            while self._ready:
                event: E_co = self._ready.popleft()
                self._read += 1
                if self._view.shows(event):
                    return event
            if self._exhausted or self._closed:
                raise StopIteration
            self._used = True
            if self._source is not None:
                self._begin(self._source)
            self._keep(self._channel.take())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E_co:
        while True:
            while self._ready:
                event: E_co = self._ready.popleft()
                self._read += 1
                if self._view.shows(event):
                    return event
            if self._exhausted or self._closed:
                raise StopAsyncIteration
            self._used = True
            if self._source is not None:
                await self._abegin(self._source)
            self._keep(await self._channel.atake())

    @overload
    def partials(self, model: type[T]) -> Partials[T]: ...

    @overload
    def partials(self, model: Any = None) -> Partials[Any]: ...

    def partials(self, model: Any = None) -> Partials[Any]:
        """Partial values of the answer while it is being written, of the call's `response_model` or of `model`.

        Iterate it with `for` or `async for`, in place of the stream. The last value is the complete answer;
        if there is none, the iteration raises at its end: the result's error (a ValidationError for an answer
        that never fits), or an UnwrapError for an answer that was cut short. For a call that halts, or is
        abandoned, it raises nothing. Raises TypeError when neither type is given.
        """
        model = self.response_model if model is None else model
        if model is None:
            raise TypeError("partials needs a type: make the call with response_model=, or say partials(…)")
        return partials(_ToTheEnd(self, model), model)

    def result(self) -> R_co:
        """Run to the end and return the `Response`, `StepResult` or `ChatResult`. Raises what refused the call.

        Ctrl-C ends the call.
        """
        if self._view.on_event is not None:
            for _ in self:
                pass
        if not (self._closed or self._exhausted):
            self._channel.refuse_at_home()
            self._channel.refuse_inside()
            self._drain()
            if self._source is not None:
                self._begin(self._source)
        try:
            result: R_co = self._channel.wait_result()
        except KeyboardInterrupt:
            self._channel.cancel()
            raise
        return result

    async def aresult(self) -> R_co:
        """As `result`, without blocking the event loop. A cancelled wait leaves the call running; await it again."""
        if self._view.on_event is not None:
            async for _ in self:
                pass
        if not self._closed:
            self._channel.refuse_inside()
            self._drain()
            if self._source is not None:
                await self._abegin(self._source)
        result: R_co = await self._channel.await_result()
        self._exhausted = True
        return result

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self.aresult().__await__()

    def close(self) -> None:
        """End the call now; its result is what it has done so far. Harmless when it is over."""
        if self._stop() and current_loop() is None:
            with contextlib.suppress(Exception):
                self._channel.wait_end()

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        if self._stop():
            with contextlib.suppress(Exception):
                await self._channel.await_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_source", self) is not None:
            return  # it has not begun
        try:
            self._channel.leave()
        except OutsideSimulation:
            pass  # it belongs to a simulation that has been stopped: nothing is left to cancel
        except BaseException:
            # Ctrl-C, which Python only prints in a finalizer: cancel again, because no one else will.
            self._channel.leave()
            raise

    @property
    def response_model(self) -> Any:
        """The type that the call parses its answer into, or None."""
        return self._view.response_model

    @property
    def drafting(self) -> bool:
        """Whether the last event read belongs to a draft, which an answer in the requested form will replace."""
        drafts = self._channel.drafts
        return drafts is None or self._read <= drafts

    @property
    def left(self) -> bool:
        """Whether its reader has closed it."""
        return self._closed

    def _begin(self, source: Source) -> None:
        self._source = None
        try:
            source.begin(self._channel)
        except BaseException:
            self._unbegin(source)
            raise

    async def _abegin(self, source: Source) -> None:
        self._source = None
        try:
            await source.abegin(self._channel)
        except BaseException:  # a reader whose wait was cancelled may try again
            self._unbegin(source)
            raise

    def _unbegin(self, source: Source) -> None:
        if self._closed:  # by another thread or task meanwhile, which waits for an end that only we can bring
            self._channel.end(source.unbegun())
        else:
            self._source = source

    def _keep(self, taken: deque[Any]) -> None:
        self._exhausted = not taken
        if not self._closed:  # if it was closed meanwhile by another thread or task, the events are not read
            self._ready = taken

    def _drain(self) -> None:
        self._used = True
        self._ready.clear()
        self._channel.drain()

    def _stop(self) -> bool:
        if self._closed:
            return False
        self._used = self._closed = True
        self._ready.clear()
        source, self._source = self._source, None
        if source is not None:
            self._channel.end(source.unbegun())
            return False
        if not self._channel.ended:
            self._channel.leave()  # before `drain`, which would let the turn go on to its end
            self._channel.drain()
        return True


class _ToTheEnd:
    """The events of a stream, without those of drafts; raises at the end if the answer is not a value of the type."""

    def __init__(self, stream: EventStream[Any, Any], model: Any) -> None:
        self._stream, self.response_model = stream, stream.response_model
        self._check = partial(check_fits, model=model, parsed=is_of(stream, model))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return next(event for event in self._stream if self._counts(event))
        except StopIteration:
            if not self._stream.left:
                self._check(self._stream.result())
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        async for event in self._stream:
            if self._counts(event):
                return event
        if not self._stream.left:
            self._check(await self._stream.aresult())
        raise StopAsyncIteration

    def _counts(self, event: Event) -> bool:
        return isinstance(event, ChatCompleted) or not self._stream.drafting


class Turn(EventStream[R_co]):
    """One turn of a session: an `EventStream` with an id, that the session has admitted already."""

    def __init__(self, id: str, channel: Channel, view: View | None = None) -> None:
        super().__init__(None, channel, view)
        self.id = id

    async def admitted(self) -> Self:
        """Wait until the session has admitted the turn or refused it; nothing is begun.

        The turn's message is stored then, unless the turn is queued: its message is stored when it begins, and never if
        the session is stopped before.

        Needed only in a host that was entered with `async with`: in any other, `reply` itself waits for this.
        Raises: SessionBusy, SessionStatusError, SessionError, StoreError.
        """
        await self._channel.await_accepted()
        return self

    def __del__(self) -> None:
        unread = not (getattr(self, "_used", True) or self._channel.is_over_here or sys.is_finalizing())
        super().__del__()
        if unread:  # as Python warns of a coroutine that was never awaited
            text = "a turn was dropped unread, so the model was not asked; call result(), await it, or iterate over it"
            warnings.warn(text, RuntimeWarning, source=self, stacklevel=1)

    def __repr__(self) -> str:
        state = "over" if self._channel.ended else "running"
        return f"<Turn {self.id} {state}>"


def _is_usage(payload: Any) -> bool:
    return isinstance(payload, (tuple, list)) and len(payload) == 2 and payload[0] == "usage"
