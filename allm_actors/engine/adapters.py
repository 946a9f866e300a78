"""From an adapter's name to the adapter.

Rule of this file: an adapter is made once, when it is first needed, and shared: it holds no state of a call.
Installed packages add names under the entry-point group `allm_actors.adapters`, or that of a capability
(`allm_actors.image_adapters`, …); they cannot override the names of this library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from allm_actors.data import EngineError
from allm_actors.engine.adapter import Adapter
from allm_actors.engine.capabilities import CAPABILITIES, Capability
from allm_actors.engine.catalog import PROVIDERS, near_names, unknown_adapter
from allm_actors.engine.fake import FakeAdapter
from allm_actors.engine.services import services_for

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "GROUP",
    "broken_points",
    "find_adapter",
    "find_capable",
    "ignored_points",
    "known_adapters",
    "known_capable",
]

GROUP = "allm_actors.adapters"
_lock = threading.RLock()
_made: dict[str, Adapter] = {}
_capable: dict[tuple[str, str], Any] = {}


def find_adapter(adapter: str | Adapter | None) -> Adapter:
    """The adapter of that name, or the object itself. Thread: safe.

    Raises `EngineError`: `missing_adapter`, `unknown_adapter` naming the nearest names, or `invalid_engine` for a
    package whose entry point cannot be used.
    """
    if adapter is None:
        message = "this engine has no adapter: give it one, such as Engine(adapter='openai')"
        raise EngineError("missing_adapter", message=message)
    if not isinstance(adapter, str):
        return adapter
    found = _made.get(adapter)
    if found is None:
        with _lock:
            found = _made.get(adapter)
            if found is None:
                found = _made[adapter] = _make(adapter)
    return found


def find_capable(capability: Capability, adapter: Any) -> Any:
    """The adapter for `capability` of that name, or the object itself. Thread: safe.

    Raises `EngineError`: the capability's `missing`, `unknown_adapter` for a name that does not offer it, or
    `invalid_engine` for an entry point that cannot be used.
    """
    if adapter is None:
        message = (
            f"this engine has no {capability.slot}: give it one, such as Engine({capability.slot}='fake')"
        )
        raise EngineError(capability.missing, message=message)
    if not isinstance(adapter, str):
        return adapter
    key = (capability.span, adapter)
    found = _capable.get(key)
    if found is None:
        with _lock:
            found = _capable.get(key)
            if found is None:
                found = _capable[key] = _make_capable(capability, adapter)
    return found


def known_adapters() -> list[str]:
    """The names that `find_adapter` knows, those of installed packages among them."""
    return sorted({FakeAdapter.name, *PROVIDERS, *_installed(GROUP)})


def known_capable(capability: Capability) -> list[str]:
    """The names that `find_capable` knows for `capability`, those of installed packages among them."""
    return sorted({FakeAdapter.name, *services_for(capability.span), *_installed(capability.group)})


def broken_points() -> dict[str, str]:
    """By name, what is wrong with each entry point that cannot be used. Loads all of them."""
    broken = {}
    for group, ours, find in _slots():
        for name in _installed(group).keys() - ours:
            try:
                find(name)
            except EngineError as error:
                broken[name] = error.message
    return broken


def ignored_points() -> list[str]:
    """A message for each entry point that is ignored because it has a name of this library."""
    return [
        f"the entry point {point.value!r} of {group} is ignored: {name!r} is a name of this library; give the "
        "entry point another name"
        for group, ours, _ in _slots()
        for name, point in _installed(group).items()
        if name in ours
    ]


def _slots() -> Iterator[tuple[str, AbstractSet[str], Callable[[str], Any]]]:
    """For chat and each capability: its entry-point group, our own names, and the function that finds an adapter."""
    yield GROUP, {FakeAdapter.name, *PROVIDERS}, find_adapter
    for capability in CAPABILITIES.values():
        ours = {FakeAdapter.name, *services_for(capability.span)}
        yield capability.group, ours, partial(find_capable, capability)


def _make(name: str) -> Adapter:
    if name == FakeAdapter.name:
        return FakeAdapter()
    if name in PROVIDERS:
        from allm_actors.engine.remote.adapter import RemoteAdapter

        return RemoteAdapter(PROVIDERS[name])
    point = _installed(GROUP).get(name)
    if point is None:
        raise _does_not_chat(name) or unknown_adapter(name, known_adapters())
    return _load(name, point, "stream")  # type: ignore[no-any-return]


def _does_not_chat(name: str) -> EngineError | None:
    """The error for a name whose adapter has other capabilities but no chat, or None for an unknown name."""
    slots = [row.slot for row in CAPABILITIES.values() if name in services_for(row.span)]
    if not slots:
        return None
    message = f"{name!r} is not a chat adapter here; use it as {' or '.join(slots)} of the engine"
    return EngineError("unknown_adapter", provider=name, message=message, metadata={"near": []})


def _make_capable(capability: Capability, name: str) -> Any:
    if name == FakeAdapter.name:
        from allm_actors.engine.fakes import FAKES

        return FAKES[capability.span]()
    rows = services_for(capability.span)
    if name in rows:
        from allm_actors.engine.remote.calls import remote_service

        return remote_service(rows[name])
    installed = _installed(capability.group)
    if name in installed:
        return _load(name, installed[name], capability.method)
    raise _unknown_capable(capability, name)


def _unknown_capable(capability: Capability, name: str) -> EngineError:
    known = known_capable(capability)
    near = near_names(name, known)
    hint = f"did you mean {' or '.join(map(repr, near))}? The names are: " if near else "the names are: "
    message = (
        f"{name!r} is not a known {capability.slot}; {hint}{', '.join(known)}. Other packages can add one "
        f"under the entry-point group {capability.group}, or pass an object with {capability.method}(request, "
        "call)"
    )
    return EngineError("unknown_adapter", provider=name, message=message, metadata={"near": near})


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}


def _load(name: str, point: EntryPoint, method: str) -> Any:
    try:
        loaded: Any = point.load()
        made = loaded() if not hasattr(loaded, method) or isinstance(loaded, type) else loaded
    except Exception as error:  # noqa: BLE001 - another package's import may fail in any way
        why = f"{type(error).__name__}: {error}"
    else:
        if callable(getattr(made, method, None)):
            return made
        why = f"{made!r} has no {method}(request, call)"
    message = f"the adapter {name!r} of the entry point {point.value!r} cannot be used: {why}"
    raise EngineError("invalid_engine", provider=name, message=message)
