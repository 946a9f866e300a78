"""Which process runs on this thread, the fence around killed processes, and what callbacks may raise.

The rule of this file: everything that depends on "who is calling" asks here. The fence, around processes that
were killed in the middle of a handler, costs one look at an empty dict while there are none. Whatever a
callback raises, its caller goes on; only Ctrl-C, which is meant for the main thread, is raised again when
what was begun is finished.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeGuard

from supervisors.errors import BadSpec, ProcessKilled
from supervisors.reasons import Reason
from supervisors.runtime.log import log

if TYPE_CHECKING:
    from supervisors.runtime.dispatch import Dispatcher
    from supervisors.runtime.future import Wait
    from supervisors.runtime.ref import Ref

__all__ = [
    "Mortal",
    "Owner",
    "check_callback",
    "contained",
    "fenced",
    "forget_everybody",
    "forked",
    "guard",
    "label_of",
    "put_off",
    "run_exit_callback",
    "running",
    "runs_here",
    "simulated",
    "survive",
    "uninterrupted",
]


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

    `starting_for` is the supervisor whose start function runs here. `host` is the dispatcher of the
    simulation that this thread is part of, which is told of each wait. `depth` counts the `uninterrupted`
    blocks on its stack, and `interrupt` is the Ctrl-C to be raised at the end of the outermost one.
    """

    process: Mortal | None = None
    worker: Any = None
    starting_for: Ref[Any] | None = None
    host: Dispatcher | None = None
    wait: Wait | None = None
    depth = 0
    interrupt: KeyboardInterrupt | None = None


running: _Running = _Running()


class _Uninterrupted:
    """A block that goes on to its end even if Ctrl-C strikes a callback in it; the outermost one raises it then."""

    __slots__ = ()

    def __enter__(self) -> None:
        running.depth += 1

    def __exit__(self, *_exc: object) -> None:
        running.depth -= 1
        if running.interrupt is not None and not running.depth:
            interrupt, running.interrupt = running.interrupt, None
            raise interrupt


uninterrupted: Final = _Uninterrupted()


def put_off(exc: BaseException) -> bool:
    """Put Ctrl-C off to the end of the `uninterrupted` block; False without one, or for other exceptions."""
    if not (running.depth and _is_ctrl_c(exc)):
        return False
    running.interrupt = exc
    return True


def survive(exc: BaseException, words: str | None) -> None:
    """A callback raised this: log it with `words` (None: do not), and go on, for others must have their turn.

    A killed caller is stopped at its next call. Raises: `KeyboardInterrupt`, if that is Ctrl-C and cannot be put off.
    """
    if put_off(exc):
        return
    if _is_ctrl_c(exc):
        raise exc
    if words is not None:
        log.error(words, exc_info=exc)


def simulated() -> bool:
    """Whether the caller is part of a simulation, and so must not wait for anything in the real world."""
    return running.host is not None


def contained(words: str, callback: Callable[..., object], *args: object) -> object:
    """`callback(*args)`, or None if it raises: see `survive`."""
    try:
        return callback(*args)
    except BaseException as exc:  # noqa: BLE001 - the user's code
        survive(exc, words)
        return None


def run_exit_callback(callback: Callable[[Reason], object], reason: Reason) -> None:
    """Run one observer of a death; what it raises is logged and goes no further, for others must still be told."""
    contained("an exit callback failed", callback, reason)


def _is_ctrl_c(exc: BaseException) -> TypeGuard[KeyboardInterrupt]:
    return isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def label_of(process: Mortal) -> str | None:
    """The `label()` of a process; None if that raises, for it is called when something is wrong already."""
    try:
        label: object = process._actor_label()  # noqa: SLF001
        return None if label is None else str(label)
    except BaseException as exc:  # noqa: BLE001 - the user's code, which a log line would call again
        survive(exc, None)
        return None


fenced: dict[Ref[Any], None] = {}
"""Killed processes whose handler has not returned yet."""


forked: list[None] = []
"""Not empty in a forked child."""


def check_callback(callback: object) -> None:
    """Refuse what cannot be called, before the time comes to call it.

    Raises: `BadSpec("badarg")`.
    """
    if not callable(callback):
        kind = type(callback).__name__
        raise BadSpec("badarg", kind, f"expected a function to call later, not a {kind}")


def forget_everybody() -> None:
    """In a forked child: nobody runs there, whoever ran on this thread when it was forked."""
    running.process = running.worker = running.starting_for = running.host = running.wait = None
    fenced.clear()
    forked.append(None)


def guard() -> None:
    """Stop here if the caller is what is left of a killed process.

    Raises: `ProcessKilled`.
    """
    if fenced:
        process = running.process
        if process is not None and process.ref.killed:
            raise ProcessKilled(f"{process.ref} was killed; its handler must not call the runtime any more")


def runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this event loop runs on this thread, now."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
