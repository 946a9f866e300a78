"""What operators should know: reports, and dead letters.

The rule of this file: a subscriber gets every item; the log gets every report, but of dead letters, which are reports
too, only the first few, then one line per minute. What a subscriber raises is logged and goes no further.

Source: Akka, "Dead Letters" (log the first ten, then be quiet).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final

import pykka

from supervisors.reasons import Crash, Reason, is_clean, shown
from supervisors.runtime.log import log
from supervisors.runtime.running import check_callback, contained, uninterrupted

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref
    from supervisors.runtime.timers import Clock

__all__ = ["DeadLetter", "DeadLetters", "Report", "Reports"]


T = TypeVar("T")

_LOGGED_AT_FIRST = 10
_QUIET = 60.0  # seconds


@final
@dataclass(frozen=True, slots=True)
class Report:
    """Something happened to the process `ref`: `kind` is a short stable word, `detail` is text for humans.

    From supervisors: `child_started`, `child_terminated`, `start_error`, `shutdown_error`,
    `reached_max_restart_intensity`. From others: `process_ended`, `shutdown_timeout`, `handler_overdue`,
    `zombie`, `too_many_zombies`, `dead_letter`. `ref` is None where there is no process: a `start_error` of a
    child that never was one, a letter to a name, or `too_many_zombies`.
    """

    kind: str
    ref: Ref[Any] | None
    reason: Reason = None
    detail: str = ""


@final
@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be delivered, and why."""

    message: Any
    to: Any
    sender: Ref[Any] | None
    why: str


class _Feed(Generic[T]):
    def __init__(self) -> None:
        self._subscribers: list[Callable[[T], object]] = []

    def subscribe(self, subscriber: Callable[[T], object]) -> Callable[[], None]:
        """Call `subscriber(item)` for each item from now on; returns a function that unsubscribes.

        Thread: the one that the item comes from.

        Raises: `BadSpec("badarg")` for what cannot be called.
        """
        check_callback(subscriber)
        self._subscribers = [*self._subscribers, subscriber]

        def unsubscribe() -> None:
            self._subscribers = [each for each in self._subscribers if each is not subscriber]

        return unsubscribe

    @property
    def heard(self) -> bool:
        """Whether anybody has subscribed."""
        return bool(self._subscribers)

    def publish(self, item: T) -> None:
        with uninterrupted:
            for subscriber in self._subscribers:
                contained("a subscriber failed", subscriber, item)


class Reports(_Feed[Report]):
    """Reports of one system; crashes and other failures are logged at ERROR, starts at DEBUG, the rest at INFO.

    A traceback is logged once: with the end of the process, or, if there was no process, by the supervisor.
    """

    def wanted(self, kind: str, reason: Reason) -> bool:
        """Whether anybody would hear of this: a report that nobody gets need not be written."""
        return bool(self._subscribers) or log.isEnabledFor(_level(kind, reason))

    def emit(self, report: Report, *, quiet: bool = False) -> None:
        """Publish and log; with `quiet` at INFO, for what another report says in more detail."""
        self.publish(report)
        level = logging.INFO if quiet else _level(report.kind, report.reason)
        if not log.isEnabledFor(level):
            return
        exc = report.reason.exc if isinstance(report.reason, Crash) else None
        if exc is not None and report.kind == "process_ended":
            log.log(level, "Unhandled exception in %s:", report.ref, exc_info=exc)  # Pykka's words
        else:
            why = "" if report.reason is None else f" {shown(report.reason)}"
            words = (report.kind, report.ref, why, report.detail)
            log.log(level, "%s: %s%s %s", *words, exc_info=exc if report.ref is None else None)


def _level(kind: str, reason: Reason) -> int:
    if kind == "reached_max_restart_intensity":  # an error, although the supervisor ends with a clean reason
        return logging.ERROR
    # There may be one for each call; OTP does not show its progress reports by default, either.
    if kind == "child_started":
        return logging.DEBUG
    return logging.INFO if reason is None or is_clean(reason) else logging.ERROR


class DeadLetters(_Feed[DeadLetter]):
    """Dead letters of one system: always counted, seldom logged."""

    def __init__(self, clock: Clock, reports: Reports) -> None:
        super().__init__()
        self._clock = clock
        self._reports = reports
        self._logged_at = 0.0
        self.count: int = 0

    def add(self, message: Any, to: Any, sender: Ref[Any] | None, why: str) -> None:
        """Count a dead letter and publish it; the `dead_letter` report of it does not have the message."""
        self.count += 1
        if self._subscribers:
            self.publish(DeadLetter(message, to, sender, why))
        if self._reports.heard:
            # A target that is no process is a name.
            ref = to if isinstance(to, pykka.ActorRef) else None
            self._reports.publish(
                Report("dead_letter", cast("Ref[Any] | None", ref), None, f"{why}: for {_said(to)}")
            )
        if self.count <= _LOGGED_AT_FIRST or self._clock.monotonic() - self._logged_at > _QUIET:
            self._logged_at = self._clock.monotonic()
            log.info("dead letter %d for %s from %s: %s", self.count, _said(to), sender, why)


def _said(to: object) -> str:
    # A name may be any hashable object, whose repr may raise.
    return str(to) if isinstance(to, str | pykka.ActorRef) else shown(to)
