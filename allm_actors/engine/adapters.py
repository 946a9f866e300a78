"""From an adapter's name to the adapter.

Rule of this file: an adapter is made once, when it is first asked for, and shared: it holds no state of a call.
Installed packages add names under the entry-point group `allm_actors.adapters`, or that of a capability
(`allm_actors.image_adapters`, …); they cannot take one of ours.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from allm_actors.data import EngineError
from allm_actors.engine.adapter import Adapter
from allm_actors.engine.capabilities import Capability
from allm_actors.engine.catalog import PROVIDERS, unknown_adapter
from allm_actors.engine.fake import FakeAdapter

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "find_adapter", "find_capable", "known_adapters"]

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
            found = _made.get(adapter) or _make(adapter)
            _made[adapter] = found
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
            found = _capable.get(key) or _make_capable(capability, adapter)
            _capable[key] = found
    return found


def known_adapters() -> list[str]:
    """The names that `find_adapter` knows, those of installed packages among them."""
    return sorted({FakeAdapter.name, *PROVIDERS, *_installed(GROUP)})


def _make(name: str) -> Adapter:
    if name == FakeAdapter.name:
        return FakeAdapter()
    if name in PROVIDERS:
        from allm_actors.engine.remote import RemoteAdapter

        return RemoteAdapter(PROVIDERS[name])
    point = _installed(GROUP).get(name)
    if point is None:
        raise unknown_adapter(name, known_adapters())
    return _load(name, point, "stream")  # type: ignore[no-any-return]


def _make_capable(capability: Capability, name: str) -> Any:
    if name == FakeAdapter.name:
        from allm_actors.engine.fakes import FAKES

        return FAKES[capability.span]()
    installed = _installed(capability.group)
    if name in installed:
        return _load(name, installed[name], capability.method)
    known = ", ".join(sorted({FakeAdapter.name, *installed}))
    message = (
        f"{name!r} is no {capability.slot} of this version; there are: {known}. Another package adds one under the "
        f"entry-point group {capability.group}, or give an object with {capability.method}(request, call)"
    )
    raise EngineError("unknown_adapter", provider=name, message=message)


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
