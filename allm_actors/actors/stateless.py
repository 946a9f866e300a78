"""The process-wide host, and the turns it runs outside any named session.

Rule of this file: made when first asked for, started at the first call, stopped at interpreter exit. A forked
child makes its own.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

import msgspec

from allm_actors.engine.threads import on_thread, running_loop

from .host import Host
from .loops import current_loop
from .tree import refuse_simulated
from .turns.ending import ending
from .turns.spec import TurnSpec
from .turns.turn import needs_its_loop
from .workers.adapter import close

__all__ = ["StatelessCall", "default_host"]

_default: list[Host] = []
_default_lock = threading.RLock()  # a signal handler may call while its thread makes the host


def default_host() -> Host:
    """The process-wide host of stateless calls: made here, started by the first call, stopped at interpreter exit.

    Raises: EngineError in a simulation.
    """
    refuse_simulated()
    with _default_lock:
        if not _default:
            host = Host()
            if not _default:
                _default.append(host)
                atexit.register(_stop_default)
        return _default[0]


def _stop_default() -> None:
    with _default_lock:
        hosts = list(_default)
        _default.clear()
    for host in hosts:
        host.stop()


def _forget_default() -> None:
    # A forked child has none of the parent's threads: its first call starts a host of its own, and a lock that was held
    # at the fork would never be released.
    global _default_lock  # noqa: PLW0603 - the parent's lock is useless here
    _default_lock = threading.RLock()
    _default.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_default)


class StatelessCall:
    """The source of a facade's stream: a turn in no session. Starts the process-wide host when first pulled."""

    __slots__ = ("_host", "_spec")

    def __init__(self, host: Host, spec: TurnSpec) -> None:
        self._host, self._spec = host, spec

    def begin(self, _channel: Any) -> None:
        """Start the host if need be, and the turn. Raises RuntimeError on an event loop that the turn itself needs."""
        host = self._host.start()
        host.check_waiting()
        loop = host.tool_loop()
        if loop is not None and current_loop() is loop and needs_its_loop(self._spec):
            raise RuntimeError(
                "this call would block the event loop that its own asynchronous tools need; in an asynchronous "
                "tool, use `await allm.aio.…`"
            )
        host.run(msgspec.structs.replace(self._spec, loop=loop))

    async def abegin(self, channel: Any) -> None:
        """As `begin`; starting a host takes a moment, and is done on a thread."""
        if not self._host.running:
            await on_thread(self._host.start)
        channel.home = running_loop()
        self._host.run(msgspec.structs.replace(self._spec, loop=channel.home))

    def unbegun(self) -> Any:
        """The result of a turn that was closed before it began."""
        close(self._spec.opened)
        return ending(self._spec, self._spec.thread, None)[0]
