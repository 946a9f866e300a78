"""Which process runs on this thread, and the fence around processes that were killed in the middle of a handler.

The rule of this file: everything that depends on "who is calling" asks here. The fence costs one look at an empty
dict while nobody is fenced.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol

from supervisors.errors import BadSpec, ProcessKilled
from supervisors.reasons import Reason

if TYPE_CHECKING:
    from supervisors.runtime.dispatch import Dispatcher
    from supervisors.runtime.future import Wait
    from supervisors.runtime.ref import Ref

__all__ = [
    "Mortal",
    "Owner",
    "check_callback",
    "fenced",
    "guard",
    "label_of",
    "running",
    "runs_here",
    "survive",
]

_log = logging.getLogger("supervisors")


class Mortal(Protocol):
    """What a ref stands for: something that can be asked to stop, and killed."""

    trap_exit: bool
    drain_on_shutdown: bool
    _actor_ends_quietly: bool

    @property
    def ref(self) -> Ref[Any]:
        """The handle of the process."""
        ...

    def _actor_ask_to_stop(self, reason: Reason) -> None: ...

    def _actor_label(self) -> str | None: ...

    def _actor_kill(self) -> None: ...

    def _actor_forgets(self, child: Ref[Any], reason: Reason) -> bool: ...


class Owner(Mortal, Protocol):
    """What a mailbox runs: a process, seen from the runtime. None of these may raise."""

    def _actor_begin(self) -> None: ...

    def _actor_passes(self, item: object) -> bool: ...

    def _actor_on_control(self, signal: object) -> None: ...

    def _actor_on_user(self, item: object) -> None: ...


class _Running(threading.local):
    """Per thread: the process whose turn it is (or none), and the worker of a pool that this thread is (or none).

    `host` is who has to be told when this thread waits for anything; outside a simulation nobody in particular has.
    `nested` is how many processes run on top of each other.
    """

    process: Mortal | None = None
    worker: Any = None
    starting_for: Ref[Any] | None = None
    host: Dispatcher | None = None
    wait: Wait | None = None
    nested: int = 0


running = _Running()


def label_of(process: Mortal) -> str | None:
    """The process's own word of what it is about; None also where its code fails, for this is asked about trouble."""
    try:
        return process._actor_label()  # noqa: SLF001
    except BaseException:  # noqa: BLE001 - whatever it is
        return None


def survive(exc: BaseException, message: str, *args: object) -> None:
    """Log what a callback raised, and go on: others must still be called. A killed caller is stopped at its next call.

    Ctrl-C, which strikes the main thread wherever it is, is raised again.
    """
    if isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise exc
    _log.error(message, *args, exc_info=exc)


fenced: dict[Ref[Any], None] = {}
"""Killed processes whose handler has not returned yet."""


def check_callback(callback: object) -> None:
    """Refuse what cannot be called, before the time comes to call it.

    Raises: `BadSpec("badarg")`.
    """
    if not callable(callback):
        kind = type(callback).__name__
        raise BadSpec("badarg", kind, f"a function is wanted, to be called later, not a {kind}")


def guard() -> None:
    """Stop here if the caller is what is left of a killed process.

    Raises: `ProcessKilled`.
    """
    if fenced:
        process = running.process
        if process is not None and process.ref.killed:
            raise ProcessKilled(f"{process.ref} was killed; its handler may not call the runtime any more")


def runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this event loop runs on this thread, now."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
