"""The supervision tree as text, for people who look at a running system.

The rule of this file: looking must never hang. All questions together get a few seconds; who does not answer in time is
shown as busy.

    Supervisor#1 'root' supervisor running
    ├─ Store: Store#2 worker running
    ├─ 'agents': DynamicSupervisor#3 'agents' supervisor running, 1 restart
    │  ├─ Agent#7 worker running
    │  └─ Agent worker restarting, 4 restarts
    └─ Gateway: Gateway worker stopped

Source: Erlang `observer`, "Applications".
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pykka

from supervisors.core.entry import View
from supervisors.errors import ProcessDown, SupervisorError
from supervisors.runtime.ref import Ref
from supervisors.runtime.system import System
from supervisors.runtime.timers import Deadline
from supervisors.supervisor import DynamicSupervisorRef, SupervisorRef

__all__ = ["tree"]


def tree(root: Ref[Any] | System, *, timeout: float = 2.0, limit: int = 50) -> str:
    """Draw a process and everything below it, or all processes of a system that are nobody's children.

    Of each supervisor at most `limit` children are drawn. Units: seconds, for all questions together.
    """
    system = root if isinstance(root, System) else root.system
    deadline = Deadline(system.clock, timeout)
    tops = [ref for ref in root.processes() if ref.parent is None] if isinstance(root, System) else [root]
    lines = [] if isinstance(root, Ref) else [repr(root)]
    for top in tops:
        node = _Node(_title(top, _type(top)))
        node.below = _below(top, deadline, limit)
        lines += _draw(node)
    return "\n".join(lines)


@dataclass(slots=True)
class _Node:
    label: str
    below: list[_Node] = field(default_factory=list)


def _draw(node: _Node, first: str = "", rest: str = "") -> Iterator[str]:
    yield first + node.label
    for nth, child in enumerate(node.below, 1):
        last = nth == len(node.below)
        yield from _draw(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _below(ref: Ref[Any], deadline: Deadline, limit: int) -> list[_Node]:
    if not isinstance(ref, SupervisorRef | DynamicSupervisorRef):
        return []
    try:
        views = ref.views(timeout=deadline.remaining())
    except pykka.Timeout:
        return [_Node("(busy: no answer in time)")]
    except ProcessDown:
        return [_Node("(down)")]
    except SupervisorError as refusal:
        return [_Node(f"({refusal})")]
    nodes = [_node(view, deadline, limit) for view in views[:limit]]
    return nodes if len(views) <= limit else [*nodes, _Node(f"(and {len(views) - limit} more)")]


def _node(view: View, deadline: Deadline, limit: int) -> _Node:
    restarts = f", {view.restarts} restart{'' if view.restarts == 1 else 's'}" if view.restarts else ""
    prefix = "" if view.id is None else f"{_name(view.id)}: "
    if isinstance(view.ref, Ref):
        state = _title(view.ref, view.type or "worker")
        return _Node(prefix + state + restarts, _below(view.ref, deadline, limit))
    return _Node(f"{prefix}{_name(view.start)} {view.type} {view.state}{restarts}")


def _title(ref: Ref[Any], kind: str) -> str:
    return f"{ref} {kind} {'running' if ref.is_alive() else 'down'}"


def _type(ref: Ref[Any]) -> str:
    return "supervisor" if isinstance(ref, SupervisorRef | DynamicSupervisorRef) else "worker"


def _name(id: Hashable) -> str:
    name = getattr(id, "__name__", None)
    return name if isinstance(name, str) else repr(id)
