"""Sessions as plain values: an engine and a session go in, the session that comes after it and the result come out.

    session, result = allm.session.start(engine, [allm.user("Hi")])
    session, result = allm.session.reply(engine, session, "And in Porto?")

Rule of this file: nothing is kept and nothing is decided here. What a status allows, and which status a
result leads to, is in the tables of `allm_actors.execution.sessions`, which the sessions of a `Host` follow
too; the model is asked through `allm_actors.facade`. A call that raises leaves the caller with the value it
had; two replies to one value are two branches. Options are those of `chat` and `step`. A session's `context`
overrides the engine's; the call's overrides both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack

from allm_actors.actors import EventStream
from allm_actors.actors.options import ChatOptions
from allm_actors.data import ChatResult, Message, Session, StepResult, Thread
from allm_actors.engine.engine import Engine
from allm_actors.engine.secret import sealed
from allm_actors.execution.reducer import StreamReducer
from allm_actors.execution.sessions import (
    Operation,
    apply,
    begin,
    opened,
    recover,
    replace_messages,
    said_by_user,
    spoken,
    submit_tool_result,
    submit_tool_results,
)
from allm_actors.facade import open_stream

__all__ = [
    "SessionStream",
    "StreamReducer",
    "continue_",
    "recover",
    "replace_messages",
    "reply",
    "start",
    "step",
    "stream_continue",
    "stream_reply",
    "stream_start",
    "stream_step",
    "submit_tool_result",
    "submit_tool_results",
]

R = TypeVar("R", bound=ChatResult | StepResult)
R_co = TypeVar("R_co", bound=ChatResult | StepResult, covariant=True)
Start = Session | Thread | Sequence[Message]


class SessionStream(EventStream[R_co]):
    """The events of one run of a session value, and the session after it.

    `session` is the value that the run began with, including the user's new message: give it to a
    `StreamReducer`, and a run that is abandoned early keeps that message. `finish()` needs no reducer.
    """

    def __init__(self, session: Session, *stream: Any) -> None:
        super().__init__(*stream)
        self.session = session

    def finish(self) -> tuple[Session, R_co]:
        """Run to the end and return the session after it and the result; after `close()`, those of the part that ran.

        Raises: what refused the call, as `result`.
        """
        result = self.result()
        return apply(self.session, result), result

    async def afinish(self) -> tuple[Session, R_co]:
        """As `finish`, without blocking the event loop."""
        result = await self.aresult()
        return apply(self.session, result), result


def start(engine: Engine, messages: Start, **options: Unpack[ChatOptions]) -> tuple[Session, ChatResult]:
    """A chat that begins with messages, a thread, or a session (which keeps its id and context).

    Raises: ValidationError `invalid_session_input` for anything else, and for messages that cannot be sent;
    SessionStatusError or SessionError where the status forbids it; what `allm.chat` raises.
    """
    options = sealed(options)
    return _finished(stream_start(engine, messages, **options))


def reply(
    engine: Engine, session: Session, text: str | Message, **options: Unpack[ChatOptions]
) -> tuple[Session, ChatResult]:
    """A chat after this user message, which also answers a pending question.

    Raises: SessionStatusError or SessionError where the status forbids it; what `allm.chat` raises.
    """
    options = sealed(options)
    return _finished(stream_reply(engine, session, text, **options))


def continue_(
    engine: Engine, session: Session, message: str | Message | None = None, **options: Unpack[ChatOptions]
) -> tuple[Session, ChatResult]:
    """Continue a chat: after submitted tool results (`message=None`), or with a message of any role.

    Raises: SessionStatusError or SessionError where the status forbids it; what `allm.chat` raises.
    """
    options = sealed(options)
    return _finished(stream_continue(engine, session, message, **options))


def step(engine: Engine, session: Session, **options: Unpack[ChatOptions]) -> tuple[Session, StepResult]:
    """One model call and the tools it asks for.

    Raises: SessionStatusError or SessionError where the status forbids it; what `allm.step` raises.
    """
    options = sealed(options)
    return _finished(stream_step(engine, session, **options))


def stream_start(
    engine: Engine, messages: Start, **options: Unpack[ChatOptions]
) -> SessionStream[ChatResult]:
    """As `start`, as events."""
    options = sealed(options)
    return _open("chat", engine, opened(messages), "start", [], options)


def stream_reply(
    engine: Engine, session: Session, text: str | Message, **options: Unpack[ChatOptions]
) -> SessionStream[ChatResult]:
    """As `reply`, as events."""
    options = sealed(options)
    return _open("chat", engine, session, "reply", [said_by_user(text)], options)


def stream_continue(
    engine: Engine, session: Session, message: str | Message | None = None, **options: Unpack[ChatOptions]
) -> SessionStream[ChatResult]:
    """As `continue_`, as events."""
    options = sealed(options)
    messages = [] if message is None else [spoken(message)]
    return _open("chat", engine, session, "continue", messages, options)


def stream_step(
    engine: Engine, session: Session, **options: Unpack[ChatOptions]
) -> SessionStream[StepResult]:
    """As `step`, as events."""
    options = sealed(options)
    return _open("step", engine, session, "step", [], options)


def _finished(stream: SessionStream[R]) -> tuple[Session, R]:
    with stream:  # on an interrupt this ends the run: no one else holds the stream
        return stream.finish()


def _open(
    kind: Literal["chat", "step"],
    engine: Engine,
    session: Session,
    operation: Operation,
    messages: list[Message],
    options: Mapping[str, Any],
) -> SessionStream[Any]:
    if not isinstance(session, Session):
        raise TypeError(
            f"expected a Session after the engine, got {type(session).__name__}; see session.start(…)"
        )
    begun = begin(session, operation, messages)
    given = dict(options)
    context = given.get("context")
    if context is None or isinstance(context, Mapping):
        given["context"] = {**session.context, **(context or {})}
    if given.get("session_id") is None:
        given["session_id"] = session.id or None  # an empty id names no session
    return open_stream(
        lambda source, channel, view: SessionStream(begun, source, channel, view),
        kind,
        engine,
        begun.thread,
        given,
        earlier=() if operation == "start" else session.thread.messages,
    )
