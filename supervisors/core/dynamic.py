"""A supervisor of children that come and go: keyed by ref, each one for itself.

The rule of this file: starting, ending and stopping one child costs the same however many there are. A child that is
restarting keeps its old ref as its key, so that whoever knows that ref can still stop it. Children come
(`take_in`) and go (`forgets`) on other threads at any time, so iterations go over a copy.

Source: Elixir `DynamicSupervisor`; Erlang/OTP `supervisor`, "simple_one_for_one".
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import assert_never

from supervisors.core.entry import Child, Counts, Entry, View, answer, count, line, taken, view
from supervisors.core.recovery import Recovery
from supervisors.core.steps import (
    Ignored,
    Operation,
    Outcome,
    Ref,
    Report,
    Retry,
    Start,
    Started,
    StartFailed,
    Stop,
)
from supervisors.core.stopping import stop_in_parallel
from supervisors.errors import AlreadyStarted, MaxChildren, NotFound
from supervisors.reasons import SHUTDOWN, Reason, is_clean
from supervisors.spec import ChildLike, ChildSpec, DynamicFlags, check_child, check_dynamic_flags, child_spec

__all__ = ["DynamicChildren"]


class DynamicChildren(Recovery):
    """The children of a dynamic supervisor, keyed by ref.

    Raises: BadSpec, when the flags are invalid.
    """

    def __init__(self, flags: DynamicFlags) -> None:
        super().__init__(check_dynamic_flags(flags))
        self._flags = flags
        self._starting: Entry | None = None  # takes a place already, but is no child yet

    # what happens to a supervisor

    def start_all(self) -> Operation[Stop | None]:
        """Start with no children."""
        yield from ()
        return None

    def stop_all(self) -> Operation[None]:
        """Stop all children, all at once."""
        yield from self._stop_these(self._present().values())

    def exited(self, ref: Ref, reason: Reason, now: float) -> Operation[Stop | None]:
        """A linked process has ended; ignored if it is not a current child."""
        entry = self._entries.get(ref)
        if entry is None or entry.retry is not None:
            return None
        spec = entry.spec
        restart = spec.restart == "permanent" or (spec.restart == "transient" and not is_clean(reason))
        if restart or not is_clean(reason):
            yield Report("child_terminated", spec.id, ref, reason)
        if restart:
            return (yield from self._recover(entry, now))
        self._forget(entry)  # or whoever started it has already: see `forgets`
        return None

    def forgets(self, ref: Ref, reason: Reason) -> bool:
        """Forget a child whose end needs no reaction (temporary, clean). If True, `exited` need not be run.

        Thread: any; it is one look-up and one removal.
        """
        entry = self._entries.get(ref)
        if entry is None or entry.spec.restart != "temporary" or not is_clean(reason):
            return False
        self._forget(entry)
        return True

    # what clients ask for

    def take_in(self, spec: ChildSpec, ref: Ref) -> None:
        """Add a temporary child that is about to begin; it is never restarted, so nothing is kept for that.

        Thread: any, holding the lock under which it also gets its parent. Raises: MaxChildren.
        """
        self._entries[ref] = Entry(spec, ref)
        try:
            self._check_room()
        except MaxChildren:
            del self._entries[ref]
            raise

    @property
    def extra_args(self) -> tuple[object, ...]:
        """What goes before the arguments of every child."""
        return self._flags.extra_args

    def start_child(self, like: ChildLike) -> Operation[object]:
        """Start one more child; its id does not matter.

        Raises: BadSpec, MaxChildren, AlreadyStarted, StartError.
        """
        spec = check_child(child_spec(like), "never")
        entry = self._starting = Entry(spec)
        try:
            self._check_room()
            outcome = yield from self._launch(entry)
        finally:
            self._starting = None
        if isinstance(outcome, StartFailed):
            yield Report("start_error", spec.id, outcome.ref, outcome.reason)
        return answer(outcome)

    def terminate_child(self, ref: Ref) -> Operation[None]:
        """Stop and forget a child.

        Raises: NotFound, also when the ref is that of an earlier incarnation.
        """
        try:
            entry = self._entries[ref]
        except (KeyError, TypeError):  # what cannot be hashed is no ref
            raise NotFound(ref) from None
        yield from self._stop_these([entry])

    def update(self, flags: DynamicFlags) -> None:
        """Change the flags; children beyond a lower limit stay, and no new ones are let in.

        Raises: BadSpec; then everything is as before.
        """
        self._flags = check_dynamic_flags(flags)
        self._window.max_restarts, self._window.max_seconds = flags.max_restarts, flags.max_seconds

    # what clients may know

    def which_children(self) -> list[Child]:
        """All children; they have no ids."""
        return [line(entry)._replace(id=None) for entry in self._present().values()]

    def count_children(self, alive: Callable[[Ref], bool]) -> Counts:
        """How many children there are, and how many are alive."""
        return count(self._present().values(), alive)

    def views(self) -> list[View]:
        """All children, in more detail."""
        return [view(entry)._replace(id=None) for entry in self._present().values()]

    def refs(self) -> list[Ref]:
        """The children that run."""
        return [ref for ref, entry in self._present().items() if entry.retry is None]

    def _present(self) -> dict[Ref, Entry]:
        return self._entries.copy()

    # restarting

    def _restart(self, entry: Entry, now: float) -> Operation[Stop | None]:
        if not self._window.add(now):
            self._forget(entry)
            yield Report("reached_max_restart_intensity", entry.spec.id, entry.ref, SHUTDOWN)
            return Stop(SHUTDOWN)
        match (yield from self._launch(entry)):
            case Started():
                entry.restarts += 1
            case Ignored():
                pass
            case StartFailed(reason) if self._has_instead(entry, taken(reason)):
                self._forget(entry)
            case StartFailed(reason, ref):
                yield Report("start_error", entry.spec.id, ref, reason)
                yield self._put_off(entry)
            case unknown:
                assert_never(unknown)
        return None

    def _has_instead(self, entry: Entry, other: AlreadyStarted | None) -> bool:
        # A client has started another child under its name: each attempt would fail, and count as a restart.
        return other is not None and self._entries.get(other.ref, entry) is not entry

    def _awaiting(self, entry: Entry) -> Retry:
        entry.retry = Retry(entry.ref)
        return entry.retry

    def _check_room(self) -> None:
        # A place is taken first, checked then: of two that take the last one at once, at most one keeps it.
        limit, coming = self._flags.max_children, self._starting
        if limit is None:
            return
        more = coming is not None and coming.ref not in self._entries
        if more + len(self._entries) > limit:
            raise MaxChildren(limit)

    # one child

    def _launch(self, entry: Entry) -> Operation[Outcome]:
        outcome: Outcome = yield Start(self._complete(entry.spec), entry.starts)
        match outcome:
            case Started(ref, _, at):
                before, entry.ref, entry.retry, entry.started_at = entry.ref, ref, None, at
                entry.starts += 1
                if entry.spec.restart == "temporary":
                    entry.spec = entry.spec.without_args()
                self._entries[ref] = entry  # before the old one goes, so that its place is never free
                if before != ref:
                    self._entries.pop(before, None)
                yield Report("child_started", entry.spec.id, ref)
            case Ignored():
                self._forget(entry)
            case StartFailed():
                pass
            case unknown:
                assert_never(unknown)
        return outcome

    def _complete(self, spec: ChildSpec) -> ChildSpec:
        extra = self._flags.extra_args
        return spec.replace(args=extra + spec.args) if extra else spec

    def _stop_these(self, entries: Collection[Entry]) -> Operation[None]:
        yield from stop_in_parallel(entry for entry in entries if entry.retry is None)
        for entry in entries:
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.ref, None)
