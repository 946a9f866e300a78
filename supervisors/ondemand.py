"""OnDemand: a registry that starts the process of a key when somebody uses the key.

The rule of this file: to a sender it is the same whether the process is running, is passivating, or has to be
started. What reaches a process that is passivating is handed to the next one, before anything newer.

    class Room(GenServer):
        passivate_after = 600.0                       # seconds; then on_hibernate(), terminate(), and it is gone

    rooms = OnDemand(DynamicSupervisor.start_link(name="rooms"), lambda name: child(Room, name))
    call(via(rooms, "kitchen"), "who is there?")      # starts the kitchen, if it is not there

Source: Orleans, "virtual actors" (activation, deactivation); Akka Cluster Sharding, "passivation".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import RLock
from typing import Any

from supervisors.errors import AlreadyStarted, BadSpec, NotFound, ProcessDown, StartError, SupervisorError
from supervisors.reasons import NOPROC, Crash
from supervisors.registry import Name, resolve
from supervisors.runtime.forks import begin_empty
from supervisors.runtime.log import log
from supervisors.runtime.names import Via, check_key, check_name
from supervisors.runtime.ref import Ref
from supervisors.runtime.signals import From
from supervisors.spec import ChildLike, ChildSpec, child_spec
from supervisors.supervisor import DynamicSupervisorRef

__all__ = ["OnDemand"]


class OnDemand:
    """A registry for `via`, for which `supervisor`, a dynamic one or its name, starts the child `spec(key)`.

    The child must be an actor class whose `name` is that of the process. A permanent one is made transient,
    or it would be restarted when it passivates. Every use of `via(registry, key)` waits for a process that is
    just ending, and starts one if there is none; a process on an event loop must not use it.

    Thread: any. Raises: `BadSpec` if `supervisor` is no such supervisor or name, or `spec` cannot be called.
    """

    def __init__(self, supervisor: DynamicSupervisorRef | Name, spec: Callable[[Any], ChildLike]) -> None:
        given: object = spec  # whatever a caller without a type checker sends
        if not callable(given):
            kind = type(given).__name__
            raise BadSpec(
                "badarg", kind, f"spec must be a function that takes a key and returns a child, not a {kind}"
            )
        if not isinstance(supervisor, Ref):
            check_name(supervisor)
        elif not isinstance(supervisor, DynamicSupervisorRef):
            raise BadSpec(
                "badarg",
                str(supervisor),
                f"{supervisor} is not a DynamicSupervisor; start one, or give its name",
            )
        self._supervisor = supervisor
        self._spec = spec
        begin_empty(self)

    def begin(self) -> None:
        """See `forks.Table`."""
        self._lock = RLock()  # reentrant: a finalizer or a signal handler may run while it is held
        self._refs: dict[Hashable, Ref[Any]] = {}
        self._left: dict[Hashable, list[Any]] = {}

    def __repr__(self) -> str:
        return f"<OnDemand of {len(self._refs)}>"

    def whereis(self, key: Hashable) -> Ref[Any]:
        """The process of `key`, started now if need be.

        Raises: `StartError`, `MaxChildren`, and what else `start_child` raises; `ProcessDown` if `init`
        returned `IGNORE`; `BadSpec` if `key` is not hashable.
        """
        check_key(key)
        while True:
            ref = self._refs.get(key)
            if ref is None:
                self._start(key)
            elif ref.is_alive():
                return ref
            else:
                ref.actor_stopped.wait()

    def owner(self, key: Hashable) -> Ref[Any] | None:
        """The process of `key`, or None; starts nothing."""
        return self._refs.get(key)

    def register(self, key: Hashable, ref: Ref[Any]) -> bool:
        """See `NamesLike.register`. Thread: the one on which `ref` begins."""
        with self._lock:
            if self._refs.setdefault(key, ref) is not ref:
                return False
            # Before anybody else can send to it. It is in its first turn, so nobody has to be woken.
            ref.actor_inbox.put_back(self._left.pop(key, ()))
            return True

    def unregister(self, key: Hashable) -> None:
        """See `NamesLike.unregister`."""
        with self._lock:
            self._refs.pop(key, None)

    def inherit(self, key: Hashable, ref: Ref[Any], item: Any) -> None:
        """Hand what `ref` got while it passivated to the next process of `key`. Thread: any; never waits."""
        with self._lock:
            current = self._refs.get(key)
            fresh = key not in self._left
            if current is None or current is ref:
                self._left.setdefault(key, []).append(item)
        # Nothing is sent while the lock is held.
        if current is not None and current is not ref:
            current.inform(item)
        elif fresh:
            ref.system.apart(lambda: self._awaken(key, ref))

    def _start(self, key: Hashable) -> None:
        spec = child_spec(self._spec(key))
        named = spec.replace(kwargs={**spec.kwargs, "name": Via(self, key)}, restart=_restart(spec))
        supervisor = resolve(self._supervisor)
        if not isinstance(supervisor, DynamicSupervisorRef):
            raise SupervisorError(
                f"{supervisor} is not a DynamicSupervisor, and cannot start {key!r} on demand"
            )
        try:
            started = supervisor.start_child(named)
        except AlreadyStarted:
            return  # somebody else was faster
        if started is None:
            raise ProcessDown(NOPROC, key)  # its `init` returned IGNORE
        ref = started[0] if isinstance(started, tuple) else started
        if ref.name != Via(self, key):
            if ref.parent is supervisor:  # stop it, or each use would leave one more behind
                with suppress(NotFound):
                    supervisor.terminate_child(ref)
            raise SupervisorError(
                f"{ref} did not register the name it was given; the child of an OnDemand must be an actor "
                "class whose `name` argument is the name of the process"
            )

    def _awaken(self, key: Hashable, before: Ref[Any]) -> None:
        # Perhaps nobody uses the key again; but what was left has to be handled.
        try:
            with before.system.activated():
                self.whereis(key)
        except BaseException as exc:  # noqa: BLE001 - also `sys.exit`: told to those who wait for an answer
            log.exception("%s left unhandled messages, and no process can be started for them", before)
            with self._lock:
                left = self._left.pop(key, ())
            for item in left:
                if isinstance(item, From):
                    item.settle_exception(exc if isinstance(exc, Exception) else StartError(Crash.of(exc)))
                else:
                    before.refuse(item, "its process could not be restarted", None)


def _restart(spec: ChildSpec) -> Any:
    return "transient" if spec.restart == "permanent" else spec.restart
