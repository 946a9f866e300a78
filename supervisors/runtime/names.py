"""Names: which process has which name; and `Via`, a name that is kept in a registry.

The rule of this file: writes take a lock, reads are one lock-free dict look-up. A name belongs to one process, which
claims it before it starts, and it is free again before anyone hears of that process's death.

Source: Elixir `Registry` and `{:via, module, term}`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, final

import pykka

from supervisors.errors import BadSpec
from supervisors.runtime.forks import begin_empty

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["Name", "Names", "NamesLike", "Via", "check_key", "check_name"]

Name: TypeAlias = Hashable
"""Any hashable value, or a `Via`. Note that 1 and 1.0 are the same name."""


class NamesLike(Protocol):
    """The interface of a registry that a `Via` can point to.

    A registry that has an attribute `unique` which is False may have several processes under a key: none of its
    keys is a name.
    """

    def register(self, key: Hashable, ref: Ref[Any]) -> bool:
        """Give `key` to `ref`; False if a living process has it."""
        ...

    def unregister(self, key: Hashable) -> None:
        """Free `key`."""
        ...

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """The process that has `key` now, or None.

        A registry whose `whereis` starts processes, or waits, also has `owner(key)`, which only looks; timers
        use that.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class Via:
    """A name kept in a registry; looked up at each use, so it survives restarts."""

    registry: NamesLike
    key: Hashable


def check_key(key: Hashable) -> None:
    """Refuse a key that is not hashable.

    Raises: `BadSpec("invalid_name")`.
    """
    try:
        hash(key)
    except TypeError:
        kind = type(key).__name__
        raise BadSpec("invalid_name", kind, f"a name must be hashable, which a {kind} is not") from None


def check_name(name: Name) -> None:
    """Refuse what cannot be a name: an unhashable value, a ref, a `Via` whose registry gives no names.

    Raises: `BadSpec("invalid_name")`.
    """
    if isinstance(name, pykka.ActorRef):
        kind = type(name).__name__
        raise BadSpec("invalid_name", kind, f"{name} is a process and cannot be a name; use the ref itself")
    if not isinstance(name, Via):
        check_key(name)
    elif not all(hasattr(name.registry, each) for each in _REGISTRY_METHODS):
        kind = type(name.registry).__name__
        raise BadSpec(
            "invalid_name",
            kind,
            f"a via needs a registry with the methods {_REGISTRY_METHODS}; {kind} lacks some of them",
        )
    elif getattr(name.registry, "unique", True) is False:
        raise BadSpec(
            "invalid_name",
            name.key,
            "a via needs a registry whose keys are unique; to reach all processes under a key, use dispatch",
        )


_REGISTRY_METHODS = ("register", "unregister", "whereis")


class Names:
    """The names of one system. None is never anybody's name."""

    def __init__(self) -> None:
        begin_empty(self)

    def begin(self) -> None:
        """See `forks.Table`."""
        self._lock = RLock()  # reentrant: a finalizer or a signal handler may run while it is held
        self._owners: dict[Hashable, Ref[Any]] = {}

    def whereis(self, name: Name) -> Ref[Any] | None:
        """The process of that name, or None.

        Raises: `BadSpec("invalid_name")`.
        """
        try:
            return name.registry.whereis(name.key) if isinstance(name, Via) else self._owners.get(name)
        except (TypeError, AttributeError):
            check_name(name)
            raise

    def owner(self, name: Name) -> Ref[Any] | None:
        """`whereis` that only looks: it starts nothing, and waits for nobody."""
        look = getattr(name.registry, "owner", None) if isinstance(name, Via) else None
        return self.whereis(name) if look is None else cast("Ref[Any] | None", look(cast(Via, name).key))

    def register(self, key: Name, ref: Ref[Any]) -> bool:
        """Give the name to `ref`; False if somebody has it."""
        if isinstance(key, Via):
            return key.registry.register(key.key, ref)
        with self._lock:
            return self._owners.setdefault(key, ref) is ref

    def unregister(self, key: Name, ref: Ref[Any] | None = None) -> None:
        """Free the name; with `ref` only if that is its owner."""
        if isinstance(key, Via):
            if ref is None or self.owner(key) is ref:
                key.registry.unregister(key.key)
            return
        with self._lock:
            if ref is None or self._owners.get(key) is ref:
                self._owners.pop(key, None)

    def names(self) -> list[Name]:
        """All names in use, oldest first."""
        with self._lock:
            return list(self._owners)
