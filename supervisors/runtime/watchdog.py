"""A watchdog for handlers that take too long: reports them with their stack; kills if their class says so.

The rule of this file: a process that is not watched pays nothing. One that is has at most one timer, which is
set when a handler begins and, when it is due, looks for how long the handler has run.

Source: none in OTP, where a process cannot keep a scheduler busy; Akka's "dispatcher starvation" detectors.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

from supervisors.runtime.reports import Report
from supervisors.runtime.stacks import stack_of

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["Watch"]


class Watch:
    """The watchdog of one process."""

    __slots__ = ("_armed", "_kill", "_limit", "_ref", "_since", "_thread", "_told")

    def __init__(self, ref: Ref[Any], limit: float, *, kill: bool) -> None:
        self._ref = ref
        self._limit = limit
        self._kill = kill
        self._since: float | None = None
        self._thread = 0
        self._told = False
        self._armed = False

    def over(self, handle: Callable[..., None]) -> Callable[..., None]:
        """Wrap a handler so that it is watched."""

        def watched(*args: Any) -> None:
            self._thread = get_ident()
            self._told = False
            self._since = self._now()
            if not self._armed:
                self._arm(self._limit)
            try:
                handle(*args)
            finally:
                self._since = None

        return watched

    def _look(self) -> None:
        # Thread: the timers'.
        self._armed = False
        since = self._since
        if since is None or self._told or self._ref.killed:
            return
        left = since + self._limit - self._now()
        if left > 0:
            self._arm(left)
        else:
            self._told = True
            self._tell()

    def _tell(self) -> None:
        detail = f"a handler takes longer than {self._limit} seconds\n{stack_of(self._thread)}"
        self._ref.system.reports.emit(Report("handler_overdue", self._ref, "overdue", detail))
        if self._kill:
            self._ref.kill()

    def _arm(self, seconds: float) -> None:
        self._armed = True
        self._ref.system.timers.after(seconds, self._look)

    def _now(self) -> float:
        return self._ref.system.clock.monotonic()
