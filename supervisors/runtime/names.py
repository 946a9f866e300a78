"""Names: who is called what, and how anything that stands for a process becomes one.

The rule of this file: writes take a lock, reads are one lock-free dict look-up. A name belongs to one process, which
claims it before it starts, and it is free again before anyone hears of that process's death.

Source: Elixir `Registry` and `{:via, module, term}`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["Name", "Names", "NamesLike", "Via"]

Name: TypeAlias = Hashable
"""Any hashable value, or a `Via`. Note that 1 and 1.0 are the same name."""


class NamesLike(Protocol):
    """Anything that can keep names: what a `Via` points to."""

    def register(self, key: Hashable, ref: Ref[Any]) -> bool:
        """Give `key` to `ref`; False if a living process has it."""
        ...

    def unregister(self, key: Hashable) -> None:
        """Free `key`."""
        ...

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """Who has `key` now."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Via:
    """A name kept somewhere else; looked up at each use, so it survives restarts."""

    registry: NamesLike
    key: Hashable


class Names:
    """The names of one system."""

    def __init__(self) -> None:
        self._lock = RLock()  # reentrant: a finalizer or a signal handler may come in
        self._owners: dict[Hashable, Ref[Any]] = {}

    def whereis(self, name: Name) -> Ref[Any] | None:
        """The process of that name, or None."""
        if isinstance(name, Via):
            return name.registry.whereis(name.key)
        return self._owners.get(name)

    def register(self, key: Name, ref: Ref[Any]) -> bool:
        """Give the name to `ref`; False if somebody has it."""
        if isinstance(key, Via):
            return key.registry.register(key.key, ref)
        with self._lock:
            return self._owners.setdefault(key, ref) is ref

    def unregister(self, key: Name, ref: Ref[Any] | None = None) -> None:
        """Free the name; with `ref` only if that is its owner."""
        if isinstance(key, Via):
            if ref is None or key.registry.whereis(key.key) is ref:
                key.registry.unregister(key.key)
            return
        with self._lock:
            if ref is None or self._owners.get(key) is ref:
                self._owners.pop(key, None)

    def names(self) -> list[Name]:
        """All names in use, oldest first."""
        with self._lock:
            return list(self._owners)
