"""How a session is reached: by name, started if it is not alive, and asked again if it dies before it answers.

Rule of this file: nothing blocks; a future has the answer, or the AllmError that says why there is none. A
request that a session may have begun to handle is not repeated to its successor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allm_actors.actors.ports import SESSIONS, Ports
from allm_actors.actors.protocol import Fork, Ready, ReplaceMessages, SubmitToolResults
from allm_actors.data import AllmError, SessionError
from supervisors import ChildSpec, Crash, Future, ProcessDown, ProcessRef

from .session import SessionActor
from .setup import SessionSetup

__all__ = ["ask", "cause_of", "ensure", "ours_in"]

_TRIES = 5  # how often a message is offered to a session that dies or is being restarted meanwhile
_DEPTH = 12  # how many nested errors are searched


def ensure(ports: Ports, setup: SessionSetup) -> Future[Any]:
    """Have the session's actor started and its state loaded; the future is set when it is."""
    return ask(ports, setup, Ready())


def ask(ports: Ports, setup: SessionSetup, message: Any) -> Future[Any]:
    """Ask the session's actor, starting it if need be."""
    future: Future[Any] = Future()
    _offer(ports, setup, message, future, _TRIES)
    return future


def cause_of(error: BaseException | None, id: str | None) -> BaseException:
    """The AllmError inside a supervisor's error for a failed start, or a SessionError that nobody answers."""
    return ours_in(error) or _gone(id, error)


def ours_in(error: object) -> AllmError | None:
    """The AllmError among this error's reasons and causes, or None."""
    found: Any = error
    for _ in range(_DEPTH):
        if found is None or isinstance(found, AllmError):
            return found
        names = ("reason", "term", "exc", "exception", "__cause__")
        found = next((getattr(found, name) for name in names if getattr(found, name, None) is not None), None)
    return None


# --- looking, starting, asking again ------------------------------------------------------------------------------


def _offer(ports: Ports, setup: SessionSetup, message: Any, future: Future[Any], tries: int) -> None:
    def pass_on(ref: ProcessRef[Any]) -> None:
        ref.ask(message, block=False).add_done_callback(answered)

    def answered(answer: Future[Any]) -> None:
        error = answer.error
        if error is None:
            future.set(answer.get())
        elif isinstance(error, ProcessDown) and tries > 1 and _may_come_again(message, error.reason):
            _offer(ports, setup, message, future, tries - 1)
        else:
            future.fail(cause_of(error, setup.id))

    _find(ports, setup, future, pass_on, tries)


def _find(
    ports: Ports,
    setup: SessionSetup,
    future: Future[Any],
    found: Callable[[ProcessRef[Any]], object],
    tries: int,
) -> None:
    ref = ports.whereis((SESSIONS, setup.id))
    if ref is not None and ref.is_alive():
        found(ref)
        return
    if tries <= 0:
        future.fail(_gone(setup.id, None))
        return

    def again(gone: BaseException | None = None) -> None:
        if gone is None:
            _find(ports, setup, future, found, tries - 1)
        else:
            future.fail(_gone(setup.id, gone))

    def started(start: Future[Any]) -> None:
        error = start.error
        if error is None:
            again()
        elif isinstance(error, ProcessDown):
            ports.when_whole(again)
        else:
            future.fail(cause_of(error, setup.id))

    sessions: Any = ports.whereis(SESSIONS)
    if sessions is None:
        ports.when_whole(again)
    else:
        child = ChildSpec(id=setup.id, start=SessionActor, args=(setup,), restart="transient")
        sessions.start_child_soon(child).add_done_callback(started)


def _may_come_again(message: Any, reason: object) -> bool:
    """Whether a message to a session that died may be handed to its successor."""
    if isinstance(message, Fork | ReplaceMessages | SubmitToolResults):
        return not message.receipt.signed  # or it may have been done already
    # A turn knows whether it was admitted, and `recover` is idempotent. A message that crashed a session is not handed
    # to its successor.
    return not isinstance(reason, Crash)


def _gone(id: str | None, error: BaseException | None) -> SessionError:
    why = f" ({error})" if error else ""
    text = (
        f"session {id!r} cannot be reached: its host is stopped or restarting{why}; get it again with "
        "host.session(…)"
    )
    return SessionError("closed", message=text)
