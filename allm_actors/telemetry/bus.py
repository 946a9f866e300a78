"""The event bus: attached handlers, and how events reach them.

Rule of this file: handlers run synchronously, one after the other, on the thread that emits the event, which
may be the event loop that all sessions share; so a handler must be quick and pass slow work on. The table of
handlers is replaced as a whole, never changed, so that emitting needs no lock.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from allm_actors.data.predicates import is_async

from .names import EVENTS, check_event

__all__ = ["Event", "Handler", "attach", "detach", "emit", "listening"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a name from `EVENTS`, measurements, and what they are about. Units: seconds."""

    name: str
    measurements: Mapping[str, float]
    metadata: Mapping[str, Any]


Handler = Callable[[Event], object]

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_attached: dict[str, tuple[frozenset[str], tuple[str, Handler]]] = {}  # used under the lock only
_heard: dict[str, tuple[tuple[str, Handler], ...]] = {}  # by event, in the order in which they were attached


def attach(id: str, handler: Handler, events: str | Iterable[str] | None = None) -> None:
    """Call `handler` with each of these events (None: all of them), until it is detached or raises.

    Raises: ValueError for an event that does not exist or an id that is taken, TypeError for what cannot be called, or
    would have to be awaited.
    Thread: any thread may attach; the handler is called on the thread that emits the event.
    """
    if not callable(handler):
        raise TypeError(f"a telemetry handler must be callable, got: {handler!r}")
    if is_async(handler):
        text = f"a telemetry handler must be a plain function, because it is never awaited, got: {handler!r}"
        raise TypeError(text)
    if not isinstance(events, str | Iterable | None):
        raise TypeError(
            f"events must be the name of an event, several names, or None for all, got: {events!r}"
        )
    names = EVENTS if events is None else (events,) if isinstance(events, str) else tuple(events)
    for name in names:
        check_event(name)
    with _lock:
        if id in _attached:
            raise ValueError(f"a telemetry handler {id!r} is already attached; detach it, or use another id")
        entry = (id, handler)
        _attached[id] = (frozenset(names), entry)
        _replace({name: (*_heard.get(name, ()), entry) for name in _attached[id][0]})


def detach(id: str) -> bool:
    """Stop calling the handler of that id. Returns False if there is none."""
    with _lock:
        if id not in _attached:
            return False
        names, entry = _attached[id]
        changed = {}
        for name in names:
            handlers = _heard.get(name, ())
            if entry in handlers:  # else Ctrl-C struck while it was attached or detached
                at = handlers.index(entry)
                changed[name] = handlers[:at] + handlers[at + 1 :]
        _replace(changed)
        del _attached[id]
    return True


def listening() -> bool:
    """Whether any handler is attached; if not, no event need be prepared."""
    return bool(_heard)


def emit(name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
    """Call the handlers attached to this event. Raises nothing, whatever handlers do."""
    handlers = _heard.get(name)
    if not handlers:
        return
    event = Event(name, measurements, metadata)
    handled = sys.exc_info()[1]
    for id, handler in handlers:
        try:
            handler(event)
        except BaseException as error:  # noqa: BLE001 - what it measures goes on; a kill is noticed later
            detach(id)
            _forget(error, handled)
            with suppress(Exception):  # a filter or a handler of the log must not break the call either
                _log.exception("telemetry handler %r raised at %s and was detached", id, name)


def _forget(raised: BaseException, handled: BaseException | None) -> None:
    """Cut off what was `handled` when the event was emitted: it says nothing of the handler, and may quote a call."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [raised] if handled is not None else []
    while waiting:
        error = waiting.pop()
        if error is None or error is handled or id(error) in seen:
            continue
        seen.add(id(error))
        if error.__context__ is handled:
            error.__context__ = None
        waiting += [error.__context__, error.__cause__]


def _replace(changed: Mapping[str, tuple[tuple[str, Handler], ...]]) -> None:
    """Hear these events so; a change costs as much as the events that it is about, however many others are heard."""
    global _heard  # noqa: PLW0603 - the table is the state of this module
    _heard = {name: handlers for name, handlers in {**_heard, **changed}.items() if handlers}
