"""The contracts that users can implement: adapters, tool executors and encoders.

Rule of this file: contracts only; arguments are given by position, so that an implementation may name them as it
likes. An adapter's three forms share one law:

    the call itself   refuses what can be refused without the network: a missing key raises `EngineError`, what cannot
                      be sent raises `ValidationError`. It performs no I/O.
    the iterator      does nothing before the first pull, and raises nothing: a failure is one `ErrorEvent`.
    closing it        (`close`, `aclose`, a cancelled task) ends the request and cleans up, exactly once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from allm_actors.data import Event, Request, Tool, ToolCall
from allm_actors.engine.secret import KeySource
from allm_actors.engine.wire import Transport

if TYPE_CHECKING:
    from allm_actors.engine.engine import Engine

__all__ = [
    "Adapter",
    "Batches",
    "Call",
    "Cancellation",
    "Delay",
    "Scripted",
    "ToolContext",
    "ToolExecutor",
    "ToolResultEncoder",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Everything about one call that is not the request.

    `options` are the engine's `adapter_opts`, overridden by the call's. `stream_timeout` is the longest
    silence and `request_timeout` the longest call, in seconds; None takes the adapter's default. `cursor_key`
    tells scripted adapters which engine calls. Without a `transport` the adapter uses its own. `kept` begins
    empty and belongs to the adapter: what it puts there in one attempt, it finds in the next attempt of the
    same call.
    """

    request_id: str
    api_key: KeySource = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    stream_timeout: float | None = None
    request_timeout: float | None = None
    retry: Any = "default"
    cursor_key: Hashable = None
    transport: Transport | None = field(default=None, repr=False)
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


class Delay(NamedTuple):
    """Asks the driver of a scripted stream to wait, in real or virtual time."""

    seconds: float


@runtime_checkable
class Adapter(Protocol):
    """A provider behind a stream of events. Either kind of iterator may be returned."""

    @property
    def name(self) -> str:
        """The name of this adapter in errors."""
        ...

    def stream(self, request: Request, call: Call, /) -> Iterator[Event] | AsyncIterator[Event]:
        """One model call as a lazy stream that starts with `MessageStarted`."""
        ...

    def requires_structured_finalize(self, request: Request, /) -> bool:
        """Whether this provider cannot mix the request's tools with its response format in one call.

        The request of `stream` is then marked with `structured_finalize`. A second pass is the caller's to ask for.
        """
        ...


@runtime_checkable
class Batches(Protocol):
    """An adapter that reads a network: one item per read, on an asyncio loop."""

    def batches(self, request: Request, call: Call, /) -> AsyncIterator[Sequence[Event]]:
        """As `stream`, with all events of one network read in one item; no item is empty."""
        ...


@runtime_checkable
class Scripted(Protocol):
    """An adapter that never blocks: where it would wait, it yields a `Delay`."""

    def play(self, request: Request, call: Call, /) -> Iterator[Event | Delay]:
        """As `stream`, with a `Delay` where time has to pass."""
        ...


class Cancellation(Protocol):
    """Whether the tool call that a handler works for was cancelled; once true, it stays true.

    Thread: safe. Shape: `if context.cancelled: …`, `context.cancelled()`, or `context.cancelled.wait(1.0)`.
    """

    def is_set(self) -> bool:
        """Whether the call was cancelled."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the cancellation; whether it came."""
        ...

    def __bool__(self) -> bool: ...

    def __call__(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a handler that takes a context is told about the call it works for."""

    context: Mapping[str, Any] = field(default_factory=dict)
    session_id: str | None = None
    request_id: str | None = None
    tool_call: ToolCall | None = None
    engine: Engine | None = None
    cancelled: Cancellation | None = None


@runtime_checkable
class ToolExecutor(Protocol):
    """Runs a tool's handler."""

    def execute(self, tool: Tool, arguments: dict[str, Any], context: ToolContext, /) -> Any:
        """The handler's answer: `Ok`, `Err`, `AskUser`, `Halt`, any other value, an awaitable of these, or a raise."""
        ...


@runtime_checkable
class ToolResultEncoder(Protocol):
    """Turns what a handler returned into the text a model reads."""

    def encode(self, value: Any, /) -> str:
        """The text; the same for equal values. Raises for a value that has none."""
        ...


ToolResultEncoderFunction = Callable[[Any], str]
