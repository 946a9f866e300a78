"""How a session is reached: by name, started if it is not alive, and asked again if it dies before it answers.

Rule of this file: nothing blocks; a future has the answer, or the AllmError that says why there is none. A
request that a session may have begun to handle is not repeated to its successor.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from allm_actors.actors.ports import SESSIONS, Ports
from allm_actors.actors.protocol import Change, Forget
from allm_actors.data import AllmError, SessionError
from supervisors import NORMAL, ChildSpec, Crash, Future, Process, ProcessDown

from .session import SessionActor
from .setup import SessionSetup

__all__ = ["ask", "ask_actor", "ours_in"]

_TRIES = 5  # how often a message is offered to a session that dies or is being restarted meanwhile
_DEPTH = 12  # how many nested errors are searched


def ask(setup: SessionSetup, message: Any) -> Future[Any]:
    """Ask the session's actor, starting it if need be."""
    return ask_actor(setup.ports, setup.id, message, SessionActor, setup)


def ask_actor(ports: Ports, id: str | None, message: Any, actor: type[Process], *args: Any) -> Future[Any]:
    """Ask the actor of the session of that name; where there is none, `actor(*args)` is started to be asked."""
    request = _Request(ports, id, message, actor, args)
    request.offer(_TRIES)
    return request.answer


def _cause_of(error: BaseException | None, id: str | None) -> BaseException:
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


class _Request:
    """A request on its way to a session. `tries` is how often it may be offered, or its session started, from now."""

    __slots__ = ("_actor", "_args", "_id", "_message", "_ports", "answer")

    def __init__(
        self, ports: Ports, id: str | None, message: Any, actor: type[Process], args: tuple[Any, ...]
    ) -> None:
        self._ports, self._id, self._message = ports, id, message
        self._actor, self._args = actor, args
        self.answer: Future[Any] = Future()

    def offer(self, tries: int) -> None:
        """Ask the actor that has the name, or start one."""
        ref = self._ports.whereis((SESSIONS, self._id))
        if ref is not None and ref.is_alive():
            ref.ask(self._message, block=False).add_done_callback(partial(self._answered, tries))
            return
        if tries <= 0:
            self.answer.fail(_gone(self._id, None))
            return
        sessions: Any = self._ports.whereis(SESSIONS)
        if sessions is None:
            self._ports.when_whole(partial(self._whole, tries))
        else:
            child = ChildSpec(id=self._id, start=self._actor, args=self._args, restart=self._actor.restart)
            sessions.start_child_soon(child).add_done_callback(partial(self._started, tries))

    def _answered(self, tries: int, answer: Future[Any]) -> None:
        error = answer.error
        if error is None:
            self.answer.set(answer.get())
            return
        if isinstance(error, ProcessDown) and _may_come_again(self._message, error.reason):
            # One that has done its work, for somebody else, is no sign that nobody can be reached.
            left = tries if error.reason is NORMAL else tries - 1
            if left > 0:
                self.offer(left)
                return
        self.answer.fail(_cause_of(error, self._id))

    def _started(self, tries: int, start: Future[Any]) -> None:
        error = start.error
        if error is None:
            self.offer(tries if start.get() is None else tries - 1)  # None: somebody else was quicker
        elif isinstance(error, ProcessDown):
            self._ports.when_whole(partial(self._whole, tries))
        else:
            self.answer.fail(_cause_of(error, self._id))

    def _whole(self, tries: int, gone: BaseException | None) -> None:
        if gone is None:
            self.offer(tries - 1)
        else:
            self.answer.fail(_gone(self._id, gone))


def _may_come_again(message: Any, reason: object) -> bool:
    """Whether a message to a session that died may be handed to its successor."""
    if isinstance(message, Change):
        return not message.begun  # or it may have been done already
    # A turn knows whether it was admitted, and `recover` is idempotent. A message that crashed a session is not handed
    # to its successor, unless it is to end with it.
    return isinstance(message, Forget) or not isinstance(reason, Crash)


def _gone(id: str | None, error: BaseException | None) -> SessionError:
    why = f" ({error})" if error else ""
    text = (
        f"session {id!r} cannot be reached: its host is stopped or restarting{why}; get it again with "
        "host.session(…)"
    )
    return SessionError("closed", message=text)
