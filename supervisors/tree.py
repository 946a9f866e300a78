"""The supervision tree as text, for people who look at a running system.

The rule of this file: drawing must never hang. All supervisors are asked at once, with one timeout for all;
one that does not answer in time is shown as busy. Those on the caller's own event loop are read directly.

    Supervisor#1 'root' supervisor running
    ├─ Store: Store#2 worker running
    ├─ 'agents': DynamicSupervisor#3 'agents' supervisor running, 1 restart
    │  ├─ Agent#7 worker running
    │  └─ Agent worker restarting, 4 restarts
    └─ Gateway: Gateway worker stopped

Source: Erlang `observer`, "Applications".
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pykka

from supervisors.core.entry import View
from supervisors.errors import BadSpec, ProcessDown
from supervisors.process import Future
from supervisors.reasons import shown
from supervisors.runtime.ref import Ref, a_ref
from supervisors.runtime.system import System
from supervisors.runtime.timers import check_timeout
from supervisors.spec import is_count
from supervisors.supervisor import DynamicSupervisorRef, Request, SupervisorRef
from supervisors.supervisor.supervision import Supervision

__all__ = ["tree"]


def tree(root: Ref[Any] | System, *, timeout: float = 2.0, limit: int = 50) -> str:
    """Draw a process and everything below it, or the same for every process of a system without a parent.

    Of each supervisor at most `limit` children are drawn. Units: `timeout` is seconds, for all together.
    Raises: `BadSpec`.
    """
    if not isinstance(root, System):
        a_ref(root)
    check_timeout(timeout)
    if not is_count(limit):
        raise BadSpec("badarg", limit, f"limit must be a number of children >= 0, not {limit!r}")
    tops = [ref for ref in root.processes() if ref.parent is None] if isinstance(root, System) else [root]
    survey = _Survey(limit)
    nodes = [survey.look(top, _Node(_title(top, _type(top)))) for top in tops]
    survey.wait(timeout)
    lines = [repr(root)] if isinstance(root, System) else []
    for node in nodes:
        lines += _draw(node)
    return "\n".join(lines)


@dataclass(slots=True)
class _Node:
    label: str
    below: list[_Node] = field(default_factory=list)


class _Survey:
    """Asks all supervisors at once, so that one that is busy hides nobody but its own children."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.RLock()  # reentrant: a finalizer may kill one of those that were asked
        self._open = 1
        self._over: Future[None] = Future()

    def look(self, ref: Ref[Any], node: _Node) -> _Node:
        """Find out what is below `ref`; thread: any."""
        if isinstance(ref, SupervisorRef | DynamicSupervisorRef):
            owner = ref.actor_inbox.owner
            if isinstance(owner, Supervision) and ref.dispatcher.runs_here():
                # It could answer only after we have returned; and it is between two turns.
                self._show(node, owner._actor_views())  # noqa: SLF001
                return node
            node.below = [_Node("(busy: no answer in time)")]
            with self._lock:
                self._open += 1
            ref.ask(Request("views"), block=False).add_done_callback(lambda views: self._heard(node, views))
        return node

    def wait(self, timeout: float) -> None:
        """Wait until all have answered, or the time is over."""
        self._close()
        try:
            self._over.get(timeout=timeout)
        except pykka.Timeout:
            pass  # those that did not answer are drawn as busy

    def _heard(self, node: _Node, answer: Future[Any]) -> None:
        try:
            views: list[View] = answer.get()
        except ProcessDown:
            node.below = [_Node("(down)")]
        else:
            self._show(node, views)
        finally:
            self._close()

    def _show(self, node: _Node, views: list[View]) -> None:
        below = [self._child(view) for view in views[: self._limit]]
        more = len(views) - len(below)
        node.below = [*below, _Node(f"(and {more} more)")] if more else below

    def _child(self, view: View) -> _Node:
        prefix = "" if view.id is None else f"{_name(view.id)}: "
        restarts = f", {view.restarts} restart{'' if view.restarts == 1 else 's'}" if view.restarts else ""
        if isinstance(view.ref, Ref):
            return self.look(view.ref, _Node(prefix + _title(view.ref, view.type or "worker") + restarts))
        return _Node(f"{prefix}{_start(view.start)} {view.type} {view.state}{restarts}")

    def _close(self) -> None:
        with self._lock:
            self._open -= 1
            over = self._open == 0
        if over:
            self._over.set()


def _draw(node: _Node, first: str = "", rest: str = "") -> Iterator[str]:
    yield first + node.label
    for nth, child in enumerate(node.below, 1):
        last = nth == len(node.below)
        yield from _draw(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _title(ref: Ref[Any], kind: str) -> str:
    return f"{ref} {kind} {'running' if ref.is_alive() else 'down'}"


def _type(ref: Ref[Any]) -> str:
    return "supervisor" if isinstance(ref, SupervisorRef | DynamicSupervisorRef) else "worker"


def _name(id: Hashable) -> str:
    return _start(id) if callable(id) else shown(id)


def _start(start: object) -> str:
    # Without arguments, which may be secrets: the repr of a partial would show them.
    while isinstance(start, partial):
        start = start.func
    name = getattr(start, "__name__", None)
    return name if isinstance(name, str) else type(start).__name__
