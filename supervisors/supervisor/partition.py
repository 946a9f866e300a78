"""PartitionSupervisor: several copies of one child; a key always finds the same one of them.

The rule of this file: a partition is found through its supervisor at each use, so an address survives restarts; and the
same key means the same partition in every run and on every machine, which Python's own `hash` does not promise.

    PartitionSupervisor.start_link(child(Cache), name="caches", partitions=4)
    tell(PartitionSupervisor.via("caches", "alice"), message)

An integer key k is in partition `abs(k) % n`. Other keys may be None, strings, bytes, floats, enums, UUIDs, and
tuples of keys.

Source: Elixir `PartitionSupervisor`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, cast
from uuid import UUID

from supervisors.core.static import StaticChildren
from supervisors.errors import BadSpec, NotFound, ProcessDown, Restarting, Running, SupervisorError
from supervisors.reasons import NOPROC, shown
from supervisors.runtime.names import Name, Via
from supervisors.runtime.ref import Ref
from supervisors.runtime.system import System
from supervisors.spec import ChildLike, ChildSpec, Flags, Strategy, child_spec
from supervisors.supervisor.static import Supervisor, SupervisorRef

__all__ = ["PartitionSupervisor", "partition_of"]

WithArguments = Callable[[tuple[Any, ...], int], Sequence[Any]]


def partition_of(key: Hashable, partitions: int) -> int:
    """The partition that `key` is in.

    Raises: `BadSpec` for a key that is not the same in every run.
    """
    if isinstance(key, int) or (isinstance(key, float) and key.is_integer()):
        return abs(int(key)) % partitions
    return int.from_bytes(blake2b(_canonical(key), digest_size=8).digest()) % partitions


class PartitionSupervisor(Supervisor):
    """A supervisor of `partitions` copies of one child; their ids are 0, 1, ..."""

    _actor_open_partitions = 0
    _actor_partitions: Sequence[ChildSpec] = ()

    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> SupervisorRef:
        """Start all partitions, as a child of the calling process.

        `start_link(child, *, name, partitions=None, with_arguments=None, strategy="one_for_one", max_restarts=3,
        max_seconds=5.0)`. Without `partitions` there are as many as there are CPUs; `with_arguments(args, partition)`
        returns the arguments of each. Raises: `BadSpec`; as `Supervisor.start_link`.
        """
        return super().start_link(*args, **kwargs)

    @staticmethod
    def via(name: Name, key: Hashable) -> Via:
        """A name for the partition of `name` that has `key`, whichever process that is at each use.

        Raises: `BadSpec` for a key that is not the same in every run.
        """
        partition_of(key, 1)
        return Via(_ROUTER, (name, key))

    @staticmethod
    def partitions(name: Name) -> int:
        """The number of partitions that keys are divided among now.

        Raises: `ProcessDown` if there is no such supervisor.
        """
        return _needed(name)._actor_open_partitions  # noqa: SLF001 - same package

    @staticmethod
    def resize(name: Name, n: int) -> int:
        """Divide keys among `n` partitions, at most as many as were started; returns how many it was before.

        The last ones are stopped, or started again. Most keys change partition. Not for concurrent calls.
        Raises: `BadSpec`, `ProcessDown`; `StartError` or `AlreadyStarted`, and then there are as many as before.
        """
        supervisor = _needed(name)
        most, before = len(supervisor._actor_partitions), supervisor._actor_open_partitions  # noqa: SLF001
        if type(n) is not int or not 0 <= n <= most:
            raise BadSpec(
                "invalid_partitions", n, f"n must be from 0 to {most}, the number that was started, not {n!r}"
            )
        supervisor._actor_open_partitions = min(n, before)  # noqa: SLF001
        _close(supervisor, range(n, before))
        try:
            _open(supervisor, range(before, n))
        except SupervisorError:
            _close(supervisor, range(before, n))
            raise
        supervisor._actor_open_partitions = n  # noqa: SLF001
        return before

    def init(
        self,
        child: ChildLike,
        *,
        partitions: int | None = None,
        with_arguments: WithArguments | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> tuple[Flags, list[ChildSpec]]:
        """The flags, and one child spec for each partition."""
        if self.ref.name is None:
            message = "a PartitionSupervisor needs a name, by which it is found; give it one"
            raise BadSpec("missing_name", None, message)
        count = (os.cpu_count() or 1) if partitions is None else partitions
        if type(count) is not int or count < 1:
            raise BadSpec("invalid_partitions", count, f"partitions must be at least 1, not {count!r}")
        spec = child_spec(child)
        specs = [_partition(spec, number, with_arguments) for number in range(count)]
        self._actor_open_partitions, self._actor_partitions = count, specs
        flags = Flags(strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds)
        return flags, specs

    def partition(self, number: int) -> Ref[Any] | None:
        """The process of a partition, while it runs. Thread: any."""
        return cast("Ref[Any] | None", cast("StaticChildren", self._children).running(number))


class _Router:
    """The registry of these `Via`s: `(name, key)` is the partition of `name` that has `key`."""

    def __repr__(self) -> str:
        return "<PartitionSupervisor>"

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        name, routed = cast("tuple[Name, Hashable]", key)
        supervisor = _found(name)
        if supervisor is None:
            return None
        count = supervisor._actor_open_partitions  # noqa: SLF001
        if count == 0:
            raise SupervisorError(f"{supervisor} has no partitions now; resize it first")
        return supervisor.partition(partition_of(routed, count))

    def register(self, key: Hashable, ref: Ref[Any]) -> bool:
        raise SupervisorError(f"{ref} cannot register as {key!r}: only its supervisor names a partition")

    def unregister(self, key: Hashable) -> None:
        raise SupervisorError(f"{key!r} cannot be unregistered: only its supervisor names a partition")


_ROUTER: Final = _Router()


def _needed(name: Name) -> PartitionSupervisor:
    supervisor = _found(name)
    if supervisor is None:
        raise ProcessDown(NOPROC, name)
    return supervisor


def _found(name: Name) -> PartitionSupervisor | None:
    ref = System.current().names.whereis(name)
    supervisor = None if ref is None else ref.actor_inbox.owner
    if supervisor is None:
        return None
    if not isinstance(supervisor, PartitionSupervisor):
        raise SupervisorError(f"{shown(name)} is {ref}, which is not a PartitionSupervisor")
    # It has its name before it knows its children.
    return supervisor if hasattr(supervisor, "_children") else None


def _open(supervisor: PartitionSupervisor, numbers: range) -> None:
    ref = cast("SupervisorRef", supervisor.ref)
    for number in numbers:
        try:
            ref.restart_child(number)
        except (Running, Restarting):
            pass  # a restart of the whole group has started it, too
        except NotFound:  # a temporary one: it was forgotten when it ended
            ref.start_child(supervisor._actor_partitions[number])  # noqa: SLF001


def _close(supervisor: PartitionSupervisor, numbers: range) -> None:
    ref = cast("SupervisorRef", supervisor.ref)
    for number in reversed(numbers):
        with suppress(NotFound):
            ref.terminate_child(number)


def _partition(spec: ChildSpec, number: int, with_arguments: WithArguments | None) -> ChildSpec:
    args: object = spec.args if with_arguments is None else with_arguments(spec.args, number)
    if not isinstance(args, list | tuple):
        raise BadSpec("badarg", type(args), "with_arguments must return a list or a tuple of arguments")
    return spec.replace(id=number, args=tuple(args))


def _canonical(key: object) -> bytes:
    match key:
        case Enum():
            return f"enum:{type(key).__qualname__}.{key.name}".encode()
        case float() if key.is_integer():
            return _canonical(int(key))  # 1 and 1.0 are one key
        case None | int() | float() | str():
            return f"{type(key).__name__}:{key!r}".encode("utf-8", "backslashreplace")
        case bytes():
            return b"bytes:" + key
        case UUID():
            return b"uuid:" + key.bytes
        case tuple():
            parts = [_canonical(part) for part in key]
            return b"tuple:" + b"".join(len(part).to_bytes(4) + part for part in parts)
        case _:
            kind = type(key).__name__
            raise BadSpec(
                "badarg",
                key,
                f"a key of type {kind} does not give the same partition in every run; use its str or id",
            )
