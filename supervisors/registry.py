"""Sending to names, which survive restarts: whoever has the name now gets the message. And registries.

The rule of this file: a ref, a name or a `Via` can stand for a process anywhere; each use resolves it again.

    rooms = Registry()
    Room.start(name=via(rooms, "kitchen"))
    tell(via(rooms, "kitchen"), "hello")

    news = Registry(keys="duplicate")                    # publish and subscribe
    news.register("weather")                             # in a process
    news.dispatch("weather", lambda entries: [entry.ref.send("rain") for entry in entries])

Source: Elixir `GenServer.whereis`, `{:via, module, term}`, `Registry`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from threading import RLock
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast, final

from supervisors.errors import BadSpec, ProcessDown, SupervisorError
from supervisors.reasons import NOPROC, NORMAL, Reason, shown
from supervisors.runtime.log import log
from supervisors.runtime.names import Name, Names, NamesLike, Via, check_key, check_name
from supervisors.runtime.news import News
from supervisors.runtime.ref import Ref, a_ref
from supervisors.runtime.running import guard, running, survive
from supervisors.runtime.system import System

__all__ = [
    "Name",
    "Names",
    "NamesLike",
    "Registered",
    "Registry",
    "RegistryEntry",
    "Unregistered",
    "Via",
    "ask",
    "deliver",
    "resolve",
    "send",
    "stop",
    "tell",
    "via",
    "whereis",
]

T = TypeVar("T")


def via(registry: NamesLike, key: Hashable) -> Via:
    """A name for whichever process `registry` has under `key` at each use.

    Raises: `BadSpec("invalid_name")` if `registry` is no registry, or `key` is not hashable.
    """
    check_key(key)
    named = Via(registry, key)
    check_name(named)
    return named


def whereis(target: Ref[Any] | Name) -> Ref[Any] | None:
    """The process of that name in the current system, or None; a ref is returned as it is."""
    return target if isinstance(target, Ref) else System.current().names.whereis(target)


def resolve(target: Ref[Any] | Name) -> Ref[Any]:
    """`whereis`, which raises instead of returning None.

    Raises: `ProcessDown` if nobody has the name.
    """
    found = whereis(target)
    if found is None:
        raise ProcessDown(NOPROC, target)
    return found


def tell(target: Ref[Any] | Name, message: Any) -> None:
    """Send without waiting.

    Raises: `ProcessDown` if there is no such process, `MailboxFull`.
    """
    deliver(target, lambda ref: ref.tell(message))


def ask(target: Ref[Any] | Name, message: Any, *, timeout: float | None = None) -> Any:
    """Send and wait for the answer; see `Ref.ask`.

    Units: seconds. Raises: `ProcessDown`, `pykka.Timeout`, and what the handler raised.
    """
    return deliver(target, lambda ref: ref.ask(message, timeout=timeout))


def stop(target: Ref[Any] | Name, *, reason: Reason = NORMAL, timeout: float | None = None) -> bool:
    """Stop the process with `reason` once it has handled its earlier messages, and wait; see `Ref.stop`.

    Units: seconds. Raises: `ProcessDown` if nobody has the name; `pykka.Timeout`.
    """
    return resolve(target).stop(block=True, reason=reason, timeout=timeout)


def send(target: Ref[Any] | Name, message: Any) -> bool:
    """Send; what cannot be delivered becomes a dead letter, and False is returned.

    Raises: `BadSpec` for an impossible name.
    """
    try:
        deliver(target, lambda ref: ref.tell(message))
    except BadSpec:
        raise
    except SupervisorError as exc:
        _dead_letter(target, message, exc)
        return False
    return True


def deliver(target: Ref[Any] | Name, put: Callable[[Ref[Any]], T]) -> T:
    """Resolve `target` to a ref and return `put(ref)`.

    If that process has just passivated and did not take the message, `target` is resolved again.
    Raises: as `resolve` and `put`.
    """
    while True:
        ref = resolve(target)
        try:
            return put(ref)
        except ProcessDown as down:
            took_nothing = down.ref is ref and down.reason is NOPROC
            if not (took_nothing and ref.heir is not None and isinstance(target, Via)):
                raise


def _dead_letter(target: Ref[Any] | Name, message: Any, exc: SupervisorError) -> None:
    process = running.process
    sender = None if process is None else process.ref
    ref = getattr(exc, "ref", None)
    if isinstance(ref, Ref):
        ref.system.dead_letters.add(message, ref, sender, type(exc).__name__)
    else:
        why = "no process of that name" if isinstance(exc, ProcessDown) else type(exc).__name__
        System.current().dead_letters.add(message, target, sender, why)


# --- registries -------------------------------------------------------------------------------------------------------


class RegistryEntry(NamedTuple):
    """One process under a key, and the value that it was registered with."""

    ref: Ref[Any]
    value: Any = None


@final
@dataclass(frozen=True, slots=True)
class Registered:
    """Sent to listeners: the process was registered under the key."""

    registry: Registry
    key: Hashable
    ref: Ref[Any]
    value: Any = None


@final
@dataclass(frozen=True, slots=True)
class Unregistered:
    """Sent to listeners: the process no longer has the key, or is dead."""

    registry: Registry
    key: Hashable
    ref: Ref[Any]


_NONE: Final[dict[int, RegistryEntry]] = {}


class Registry:
    """Processes under keys, each with a value. Unique keys are names (see `via`), duplicate ones topics.

    An entry belongs to its process, and is gone before anyone hears of that process's death. `listeners` are
    refs or names, which are sent `Registered` and `Unregistered`. Note that 1 and 1.0 are the same key.
    Thread: any; reads take no lock. Raises: `BadSpec`.
    """

    def __init__(
        self, *, keys: Literal["unique", "duplicate"] = "unique", listeners: Iterable[Ref[Any] | Name] = ()
    ) -> None:
        if keys not in ("unique", "duplicate"):
            raise BadSpec("badarg", keys, f'keys must be "unique" or "duplicate", not {keys!r}')
        self._unique = keys == "unique"
        self._listeners = _checked(listeners)
        self._lock = RLock()  # reentrant: a finalizer or a signal handler may run while it is held
        self._news = News(self._lock, self._forget)
        # Entries are numbered, so that one of many can be removed while the others keep their order.
        self._entries: dict[Hashable, dict[int, RegistryEntry]] = {}
        self._keys: dict[Ref[Any], dict[Hashable, list[int]]] = {}
        self._count = itertools.count()

    def __repr__(self) -> str:
        return f"<Registry of {self.count()}>"

    def register(self, key: Hashable, ref: Ref[Any] | None = None, value: Any = None) -> bool:
        """Put `ref`, or the calling process, under `key`; False if keys are unique and this one is taken.

        Raises: `ProcessDown` if `ref` is dead; `SupervisorError` outside a process without a `ref`; `BadSpec`
        if `key` is not hashable.
        """
        guard()
        check_key(key)
        ref = _me(ref)
        if self._unique and key in self._entries:
            return False
        if ref not in self._keys and not ref.hold(self._news.died):
            raise ProcessDown(NOPROC, ref)
        with self._lock:
            known = self._entries.get(key)
            free = known is None or not self._unique
            if free:
                number, entry = next(self._count), RegistryEntry(ref, value)
                self._keys.setdefault(ref, {}).setdefault(key, []).append(number)
                if known is None:
                    self._entries[key] = {number: entry}
                else:
                    known[number] = entry
                self._add_news(ref, Registered(self, key, ref, value))
                if ref.buried:  # died since `hold`, perhaps before there was an entry to forget
                    self._news.died(ref)
        self._news.tell()
        return free

    def unregister(self, key: Hashable, ref: Ref[Any] | None = None) -> None:
        """Remove what `ref` has under `key`.

        Without a `ref`: the owner's entry, if keys are unique; else the entries of the calling process.
        """
        guard()
        owner = self.whereis(key) if ref is None and self._unique else _me(ref)
        if owner is not None:
            with self._lock:
                self._drop(key, owner)
            self._news.tell()

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """The process that has the key, or None.

        Raises: `SupervisorError` if the keys of this registry are not unique.
        """
        if not self._unique:
            raise SupervisorError("the keys of this registry are not unique: use lookup, not whereis or via")
        entries = self.lookup(key)
        return entries[0].ref if entries else None

    def lookup(self, key: Hashable) -> list[RegistryEntry]:
        """All entries under the key, oldest first."""
        return list(self._entries.get(key, _NONE).values())

    def keys(self, ref: Ref[Any] | None = None) -> list[Hashable]:
        """The keys that `ref`, or the calling process, is registered under, each once."""
        return list(self._keys.get(_me(ref), ()))

    def update_value(self, key: Hashable, change: Callable[[Any], Any]) -> Any:
        """Replace the calling process's value by `change(value)`, and return that.

        Raises: `SupervisorError` if keys here are not unique, or if this one is not the caller's.
        """
        guard()
        if not self._unique:
            raise SupervisorError(
                "the keys of this registry are not unique: use unregister and register instead"
            )
        value = change(self._mine(key).value)  # without the lock: it may take its time, and use the registry
        with self._lock:
            self._entries[key] = dict.fromkeys(self._entries[key], self._mine(key)._replace(value=value))
        return value

    def dispatch(self, key: Hashable, function: Callable[[list[RegistryEntry]], object]) -> None:
        """Call `function(entries)`, in the calling thread, if there are entries under the key."""
        entries = self.lookup(key)
        if entries:
            function(entries)

    def count(self) -> int:
        """How many entries there are."""
        return sum(map(len, list(self._entries.values())))

    def _mine(self, key: Hashable) -> RegistryEntry:
        entry = next(iter(self.lookup(key)), None)
        if entry is None or entry.ref is not _me(None):
            raise SupervisorError(
                f"{key!r} is not registered by the caller: only the owner changes its value"
            )
        return entry

    def _drop(self, key: Hashable, ref: Ref[Any]) -> None:
        known = self._entries.get(key, _NONE)
        numbers = [number for number in self._keys.get(ref, {}).get(key, ()) if number in known]
        if len(numbers) == len(known):
            self._entries.pop(key, None)  # in one step: to others a key is either taken or free
        else:
            for number in numbers:
                del known[number]
        self._keys.get(ref, {}).pop(key, None)
        for _ in numbers:
            self._add_news(ref, Unregistered(self, key, ref))

    def _forget(self, ref: Ref[Any]) -> None:
        for key in list(self._keys.get(ref, ())):
            self._drop(key, ref)
        self._keys.pop(ref, None)

    def _add_news(self, ref: Ref[Any], event: Registered | Unregistered) -> None:
        for listener in self._listeners:
            found = listener if isinstance(listener, Ref) else _look_for(listener, ref.system)
            if found is not None:
                self._news.add(found, event)


class _Lost:
    """Stands in for a listener whose look-up raised: logs that when it is informed, where no lock is held."""

    def __init__(self, listener: Name, error: BaseException) -> None:
        self._listener = listener
        self._error = error

    def inform(self, _event: object) -> None:
        log.error("a registry cannot find its listener %s", shown(self._listener), exc_info=self._error)


def _look_for(listener: Name, system: System) -> Ref[Any] | None:
    try:
        return system.names.owner(listener)
    except BaseException as exc:  # noqa: BLE001 - a registry of the user's, in the middle of our change
        survive(exc, None)
        return cast("Ref[Any]", _Lost(listener, exc))


def _checked(listeners: Iterable[Ref[Any] | Name]) -> tuple[Ref[Any] | Name, ...]:
    given: object = listeners  # whatever a caller without a type checker sends
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        kind = type(given).__name__
        raise BadSpec("badarg", kind, f"listeners must be a list of refs and names, not a {kind}")
    listed = tuple(given)
    for each in listed:
        if not isinstance(each, Ref):
            check_name(each)
    return listed


def _me(ref: Ref[Any] | None) -> Ref[Any]:
    if ref is not None:
        a_ref(ref)
        return ref
    process = running.process
    if process is None:
        raise SupervisorError("no process makes this call; pass ref= to say whose entry is meant")
    return process.ref
