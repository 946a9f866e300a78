"""SessionHandle: what a user of a session holds; it refers to the session by name.

Rule of this file: thin. A handle holds no state of the conversation; it finds the session's actor by name at each use
and starts it where there is none, so it works across crashes, restarts and idle timeouts.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, Self, Unpack
from weakref import WeakValueDictionary

from allm_actors.actors.options import ChatOptions
from allm_actors.actors.ports import SESSIONS
from allm_actors.actors.protocol import Cancel, Fork, Ready, Recover, ReplaceMessages, SubmitToolResults
from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.streams.stream import Turn
from allm_actors.actors.streams.watched import watched
from allm_actors.actors.turns.spec import Begin, TurnSpec, WhenBusy
from allm_actors.actors.turns.turn import needs_its_loop, turn_spec, view_of
from allm_actors.data import ChatResult, Message, Session, SessionError, SessionStatus, StepResult, ToolCall
from allm_actors.data.codec import to_msgpack
from allm_actors.engine.engine import Engine
from allm_actors.engine.keys import either
from allm_actors.engine.secret import sealed
from allm_actors.execution.options import Kind
from allm_actors.execution.sessions import Operation, opened, said_by_user, spoken
from supervisors import Future

from .reaching import ask
from .setup import SessionSetup, snapshot

__all__ = ["Home", "SessionHandle", "check_id"]


class Home(Protocol):
    """What a handle needs of its host."""

    @property
    def given_loop(self) -> AbstractEventLoop | None:
        """The event loop of the caller's that it lives on, if it does; then nothing may block."""

    def check_home(self) -> None:
        """Raises EngineError where no answer can come: see `Host.check_home`."""

    def check_turn(self, spec: TurnSpec) -> None:
        """Raises EngineError for a turn that cannot run on this host."""

    def check_asking(self) -> None:
        """Raises where an answer cannot be waited for: see `Host.check_asking`."""

    def asked(self, ask: Callable[[], Future[Any]]) -> Any:
        """The answer, or an awaitable of it: see `Host.asked`."""

    def may_wait(self) -> bool:
        """Which of the two: see `Host.may_wait`."""

    def tool_loop(self) -> AbstractEventLoop | None:
        """Where asynchronous tools run."""

    def new_id(self) -> str:
        """The id of the next turn."""

    def session(
        self,
        id: str,
        engine: Engine,
        *,
        when_busy: WhenBusy = ...,
        queue_limit: int = ...,
        system: str | None = ...,
        api_key: Any = ...,
    ) -> SessionHandle:
        """The session of that name."""


class SessionHandle:
    """One named session of a host.

    `reply`, `continue_` and `step` return a `Turn` as soon as it is admitted. In a host that was entered with
    `async with` they return at once, and the turn raises a refusal; methods that would block
    (`submit_tool_result`, `fork`, `stop`, …) return an awaitable on its event loop, and block on other threads.
    There `value` can be read only once the session is loaded, for which `await session` waits.

    Raises: SessionStatusError and SessionError for what the session's status forbids, SessionBusy as `when_busy` says,
    StoreError when the session cannot be loaded, SessionError (`not_loaded`) for reading one that is not
    loaded yet; RuntimeError, before anything is done, if a blocking method is called on the event loop that
    has to answer it.
    Thread: any thread may use it.
    """

    def __init__(self, host: Home, setup: SessionSetup, engine: Engine, api_key: Any = None) -> None:
        assert setup.id is not None
        self.id: str = setup.id
        self.engine = engine
        self._host, self._ports, self._setup, self._api_key = host, setup.ports, setup, api_key
        # Of its turns by id, the newest one last. Weak: a reader that drops its turn ends it.
        self._turns: WeakValueDictionary[str, Channel] = WeakValueDictionary()
        self._asked_for_any = False
        # A value loaded before is shown only if an actor still holds it: otherwise another host may have changed the
        # session. `loads` is read first, because the session may be loaded in between.
        loads = setup.cell.loads
        self._stale = -1 if setup.cell.holder is not None else loads

    def __reduce__(self) -> NoReturn:
        """A session lives in its host's process. Raises TypeError."""
        raise TypeError(
            f"a session cannot be sent to another process; send its name, {self.id!r}, and open it there"
        )

    def __repr__(self) -> str:
        return f"<session {self.id!r} {self.status if self._is_loaded() else 'not loaded'}>"

    def __await__(self) -> Generator[Any, None, Self]:
        """Wait until the session is loaded; gives this handle. Raises StoreError when it cannot be, SessionError when
        its host is stopped.
        """
        self._host.check_home()
        yield from watched(self.ensure(), self._host.given_loop).__await__()
        return self

    @property
    def value(self) -> Session:
        """The session's current value; once a turn has given its result, it includes that turn.

        A snapshot: changing its lists does not change the session.
        """
        return snapshot(self._shown())

    @property
    def status(self) -> SessionStatus:
        """The status of `value`."""
        return self._shown().status

    @property
    def messages(self) -> list[Message]:
        """The messages of `value`, oldest first."""
        return list(self._shown().thread.messages)

    @property
    def pending_tool_calls(self) -> list[ToolCall]:
        """The calls that wait for `submit_tool_result`."""
        return list(self._shown().pending_tool_calls)

    @property
    def busy(self) -> bool:
        """Whether a turn of this session runs now in this host, whoever began it."""
        return self._setup.cell.inside.turn is not None

    def reply(self, message: str | Message, **options: Unpack[ChatOptions]) -> Turn[ChatResult]:
        """Add a user message and let the model answer, tools included."""
        options = sealed(options)
        return self._begin("chat", "reply", [_stored(said_by_user(message))], options)

    def continue_(
        self, message: str | Message | None = None, **options: Unpack[ChatOptions]
    ) -> Turn[ChatResult]:
        """Go on: after submitted tool results, after an interruption, or with another message."""
        options = sealed(options)
        said = [] if message is None else [_stored(spoken(message))]
        return self._begin("chat", "continue", said, options)

    def step(self, **options: Unpack[ChatOptions]) -> Turn[StepResult]:
        """One model call and its tools; the turn's result is a `StepResult`."""
        options = sealed(options)
        return self._begin("step", "step", [], options)

    def submit_tool_result(self, id: str, content: Any) -> Session:
        """Answer the pending call `id`; gives the session's new value (here and below an awaitable on the event loop
        of `async with`).
        """
        return self.submit_tool_results([(id, content)])

    def submit_tool_results(self, results: Sequence[tuple[str, Any]]) -> Session:
        """Answer pending calls in this order; gives the session's new value."""
        return self._asked(SubmitToolResults(_pairs(results)))  # type: ignore[no-any-return]

    def recover(self) -> Session:
        """Make a session that ended in an error usable again; gives the session's new value."""
        return self._asked(Recover())  # type: ignore[no-any-return]

    def replace_messages(self, messages: Sequence[Message]) -> Session:
        """Put these messages in place of the session's, as in `replace_messages(session.messages[:-1])`; gives the
        session's new value.

        A session whose last message stays goes on waiting for what it waited for; any other is `idle` then.
        Raises: SessionBusy during a turn; ValidationError, TypeError for what no model would accept.
        """
        return self._asked(ReplaceMessages(_all_stored(messages)))  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """End the newest turn of this handle that is not over; the session keeps what was said.

        The message of a turn that still waits in the queue was not said yet, and is not kept.
        A turn that was refused, or that its reader has closed or dropped, is over. If all of them are, nothing
        happens. A handle that never asked for a turn ends the running one, whoever began it.
        """
        self._host.check_home()
        if self._asked_for_any:
            newest = self._newest()
            if newest is not None:
                newest.cancel()
            return
        session = self._ports.whereis((SESSIONS, self.id))
        if session is not None:
            session.send(Cancel(None))

    def fork(self, id: str) -> SessionHandle:
        """A new session `id` that begins with this one's current value; returns its handle. The name must be free."""
        check_id(id)
        if not self._host.may_wait():
            return self._afork(id)  # type: ignore[return-value]
        self._asked(Fork(id))
        return self._forked(id)

    def stop(self) -> bool:
        """Stop the session's actor: the running turn is interrupted, and queued ones end with it. The
        conversation stays in the store. Returns False if there was no actor.
        """
        return self._host.asked(self._stopped)  # type: ignore[no-any-return]

    def ensure(self) -> Future[Any]:
        """Have the session's actor started and its state loaded."""
        return ask(self._setup, Ready())

    def ask(self, message: Any) -> Future[Any]:
        """Ask the session's actor, starting it if need be."""
        self._host.check_home()
        return ask(self._setup, message)

    # Private: in order of use.

    def _stopped(self) -> Future[Any]:
        ref = self._ports.whereis((SESSIONS, self.id))
        stopped: Future[Any] = Future() if ref is None else ref.stop(block=False)
        if ref is None:
            stopped.set(False)
        return stopped

    def _is_loaded(self) -> bool:
        return self._setup.cell.loads > self._stale

    def _shown(self) -> Session:
        if not self._is_loaded():
            text = (
                f"session {self.id!r} is not loaded yet; first await its handle, as in `session = await "
                "host.session(…)`, or a turn"
            )
            raise SessionError("not_loaded", message=text)
        return self._setup.cell.value

    def _newest(self) -> Channel | None:
        for turn in reversed(self._turns.valuerefs()):  # a copy: other threads may begin turns meanwhile
            channel = turn()
            if channel is not None and not channel.given_up:
                return channel
        return None

    def _begin(
        self, kind: Kind, operation: Operation, messages: list[Message], options: Mapping[str, Any]
    ) -> Turn[Any]:
        # An option of None counts as not given; above all `api_key=None` must not override the session's key.
        options = {**options, "api_key": either(options.get("api_key"), self._api_key)}
        if options.get("session_id") is None:
            options["session_id"] = self.id
        spec = turn_spec(
            kind,
            self.engine,
            options,
            operation=operation,
            messages=messages,
            loop=self._host.tool_loop(),
            when_busy=self._setup.when_busy,
            queue_limit=self._setup.queue_limit,
            system=self._setup.system,
            inside=self._setup.cell.inside,
            new_id=self._host.new_id,
        )
        self._host.check_turn(spec)
        self._host.check_asking()
        attached = self._host.given_loop is not None
        if attached or needs_its_loop(spec):
            spec.channel.home = spec.loop
        spec.channel.io_loop = self._ports.io_loop
        turn: Turn[Any] = Turn(spec.options.request_id or spec.id, spec.channel, view_of(spec))
        self._turns[spec.id], self._asked_for_any = spec.channel, True
        self.ask(Begin(spec)).add_done_callback(lambda future: _refuse(spec, future))
        if not attached:
            spec.channel.wait_accepted()
        if self._setup.when_busy == "queue":
            spec.channel.inside = spec.inside
        return turn

    def _asked(self, message: Any) -> Any:
        return self._host.asked(lambda: self.ask(message))

    async def _afork(self, id: str) -> SessionHandle:
        await self._asked(Fork(id))
        return await self._forked(id)

    def _forked(self, id: str) -> SessionHandle:
        setup = self._setup
        return self._host.session(
            id,
            self.engine,
            when_busy=setup.when_busy,
            queue_limit=setup.queue_limit,
            api_key=self._api_key,
            system=None if self.messages else setup.system,  # what there is belongs to the copy, too
        )


def check_id(id: object) -> None:
    """Raises TypeError or ValueError for what cannot name a session."""
    if not isinstance(id, str) or not id:
        raise TypeError(f"a session's id must be a non-empty text, got: {id!r}")
    if not id.isascii() and any("\ud800" <= character <= "\udfff" for character in id):
        raise ValueError(f"a session's id must be text that can be stored as UTF-8, got: {id!r}")


def _pairs(results: Any) -> list[tuple[str, Any]]:
    pairs = list(results) if isinstance(results, list | tuple) else [results]
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(f"tool results must be a list of (id, content), got: {type(pair).__name__}")
        if not isinstance(pair[0], str):
            raise TypeError(f"a tool call id must be a text, got: {pair[0]!r}")
    return [(id, content) for id, content in pairs]


def _stored(message: Message) -> Message:
    to_msgpack(message)  # raises here for what cannot be stored, naming the field
    return message


def _all_stored(messages: Sequence[Message]) -> list[Message]:
    return [_stored(message) for message in opened(messages).thread.messages]


def _refuse(spec: TurnSpec, future: Future[Any]) -> None:
    if future.error is not None:
        spec.channel.end(error=future.error)
