"""A supervisor of a list of children: OTP's semantics as operations.

The rule of this file: an operation is a generator, sequential code that yields the steps it wants done
(`steps.py`); its runner runs no other until it is done. Children are kept in start order. One that ends is

    restart      clean reason                      other reason
    permanent    report, restart                   report, restart
    transient    kept, not running; auto-shutdown  report, restart
    temporary    forgotten; auto-shutdown          report, forgotten; auto-shutdown

and only "restart" involves the strategy and counts toward the restart intensity. `_move` is the one place where a child
changes its state.

Source: Erlang/OTP `supervisor`; Design Principles, "Supervisor Behaviour".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import assert_never

from supervisors.core.entry import Child, Counts, Entry, View, answer, count, line, view
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
from supervisors.core.stopping import stop_one
from supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    FailedToStart,
    NotFound,
    Restarting,
    Running,
)
from supervisors.reasons import SHUTDOWN, Reason, Shutdown, is_clean
from supervisors.spec import ChildLike, ChildSpec, Flags, check_child, check_flags, child_spec, child_specs

__all__ = ["StaticChildren"]


class StaticChildren(Recovery):
    """The children of a supervisor, keyed by id.

    Raises: BadSpec, when the flags or the specs are invalid; then nothing has happened.
    """

    def __init__(self, flags: Flags, children: Iterable[ChildLike]) -> None:
        super().__init__(check_flags(flags))
        self._flags = flags
        self._entries |= {spec.id: Entry(spec) for spec in child_specs(children, flags.auto_shutdown)}
        self._running: dict[Ref, Entry] = {}
        self._significant = 0  # how many significant children are active

    # what happens to a supervisor

    def start_all(self) -> Operation[Stop | None]:
        """Start all children in order; if one fails, stop those that were started, and end."""
        for entry in list(self._entries.values()):
            match (yield from self._launch(entry)):
                case StartFailed(reason, ref):
                    yield Report("start_error", entry.spec.id, ref, reason)
                    yield from self.stop_all()
                    return Stop(Shutdown(FailedToStart(entry.spec.id, reason)))
                case _:
                    pass
        return None

    def stop_all(self) -> Operation[None]:
        """Stop all children, one after the other, in reverse start order."""
        yield from self._stop_group(list(self._entries.values()))

    def exited(self, ref: Ref, reason: Reason, now: float) -> Operation[Stop | None]:
        """A linked process has ended; ignored if it is not a current child."""
        entry = self._running.get(ref)
        if entry is None:
            return None
        spec = entry.spec
        self._move(entry)
        if spec.restart == "permanent" or (spec.restart == "transient" and not is_clean(reason)):
            yield Report("child_terminated", spec.id, ref, reason)
            return (yield from self._recover(entry, now))
        if spec.restart == "temporary":
            del self._entries[spec.id]
            if not is_clean(reason):
                yield Report("child_terminated", spec.id, ref, reason)
        return self._auto_shutdown(spec)

    # what clients ask for

    def start_child(self, like: ChildLike) -> Operation[object]:
        """Add a child at the end and start it.

        Raises: BadSpec, AlreadyStarted, AlreadyPresent, StartError.
        """
        spec = check_child(child_spec(like), self._flags.auto_shutdown)
        known = self._entries.get(spec.id)
        if known is not None:
            raise AlreadyPresent(spec.id) if known.ref is None else AlreadyStarted(known.ref)
        entry = self._entries[spec.id] = Entry(spec)
        outcome = yield from self._launch(entry)
        if isinstance(outcome, StartFailed):
            del self._entries[spec.id]
            yield Report("start_error", spec.id, outcome.ref, outcome.reason)
        return answer(outcome, spec)

    def restart_child(self, id: Hashable) -> Operation[object]:
        """Start a child that is not running.

        Raises: NotFound, Running, Restarting, StartError.
        """
        entry = self._idle(id)
        outcome = yield from self._launch(entry)
        if isinstance(outcome, StartFailed):
            yield Report("start_error", id, outcome.ref, outcome.reason)
        return answer(outcome, entry.spec)

    def terminate_child(self, id: Hashable) -> Operation[None]:
        """Stop a child, and no other; a pending restart is cancelled. A temporary child is removed.

        Raises: NotFound.
        """
        yield from self._stop_group([self._entry(id)])

    def delete_child(self, id: Hashable) -> None:
        """Forget a child that is not running.

        Raises: NotFound, Running, Restarting.
        """
        del self._entries[self._idle(id).spec.id]

    def update(self, flags: Flags, children: Iterable[ChildLike]) -> None:
        """Change flags and specs of a running supervisor; no child is started, stopped or restarted by this.

        The new list comes first and in its order; children it does not mention stay as they are, behind it. The history
        of restarts is kept. A child that is restarting and becomes temporary is not restarted any more.
        Raises: BadSpec; then everything is as before.
        """
        specs = child_specs(children, check_flags(flags).auto_shutdown)
        entries = {spec.id: self._entries.get(spec.id) or Entry(spec) for spec in specs}
        for spec in specs:
            entry = entries[spec.id]
            forget = spec.restart == "temporary" and entry.ref is not None
            entry.spec = spec.without_args() if forget else spec
            if spec.restart == "temporary":
                entry.retry = None  # it is never restarted, and so not now: it waits for `restart_child`
        for id, entry in self._entries.items():
            entries.setdefault(id, entry)
        self._flags, self._entries = flags, entries
        self._significant = sum(entry.active and entry.spec.significant for entry in entries.values())
        self._window.max_restarts, self._window.max_seconds = flags.max_restarts, flags.max_seconds

    # what clients may know

    def which_children(self) -> list[Child]:
        """All children in start order."""
        return [line(entry) for entry in self._entries.values()]

    def which_child(self, id: Hashable) -> Child:
        """One child.

        Raises: NotFound.
        """
        return line(self._entry(id))

    def count_children(self, alive: Callable[[Ref], bool]) -> Counts:
        """How many children there are, and how many are alive."""
        return count(self._entries.values(), alive)

    def get_childspec(self, id: Hashable) -> ChildSpec:
        """The spec of a child, its defaults filled in; of a temporary child that was started, without arguments.

        Raises: NotFound.
        """
        return self._entry(id).spec

    def views(self) -> list[View]:
        """All children in start order, in more detail."""
        return [view(entry) for entry in self._entries.values()]

    def running(self, id: Hashable) -> Ref | None:
        """The ref of the child with this id, or None if it does not run. Thread: any."""
        entry = self._entries.get(id)
        return None if entry is None else entry.ref

    def refs(self) -> list[Ref]:
        """The children that run."""
        return list(self._running)

    # restarting

    def _restart(self, entry: Entry, now: float) -> Operation[Stop | None]:
        if not self._window.add(now):
            self._move(entry)
            yield Report("reached_max_restart_intensity", entry.spec.id, None, SHUTDOWN)
            return Stop(SHUTDOWN)
        match self._flags.strategy:
            case "one_for_one":
                yield from self._restart_group([entry])
            case "one_for_all":
                yield from self._restart_group(list(self._entries.values()))
            case "rest_for_one":
                yield from self._restart_group(self._from(entry))
            case unknown:
                assert_never(unknown)
        return None

    def _restart_group(self, group: list[Entry]) -> Operation[None]:
        yield from self._stop_group(group)
        for entry in group:
            if entry.spec.restart == "temporary":
                continue  # stopped with the others, and forgotten
            outcome = yield from self._launch(entry)
            if isinstance(outcome, StartFailed):
                # The next attempt comes through the mailbox: we or the child can be stopped before it.
                yield Report("start_error", entry.spec.id, outcome.ref, outcome.reason)
                yield self._put_off(entry)
                return
            entry.restarts += 1

    def _awaiting(self, entry: Entry) -> Retry:
        retry = Retry(entry.spec.id)
        self._move(entry, retry=retry)
        return retry

    def _from(self, entry: Entry) -> list[Entry]:
        suffix = []
        for later in reversed(self._entries.values()):
            suffix.append(later)
            if later is entry:
                break
        return suffix[::-1]

    def _auto_shutdown(self, spec: ChildSpec) -> Stop | None:
        rule = self._flags.auto_shutdown
        if spec.significant and (
            rule == "any_significant" or (rule == "all_significant" and not self._significant)
        ):
            return Stop(SHUTDOWN)
        return None

    # one child

    def _launch(self, entry: Entry) -> Operation[Outcome]:
        # The child neither runs nor waits for a retry: whoever starts it has stopped it, or made sure of that.
        spec = entry.spec
        outcome: Outcome = yield Start(spec, entry.starts)
        match outcome:
            case Started(ref, _, at):
                self._move(entry, ref=ref)
                entry.started_at = at
                entry.starts += 1
                if spec.restart == "temporary":
                    entry.spec = spec.without_args()
                yield Report("child_started", spec.id, ref)
            case Ignored():
                if spec.restart == "temporary":
                    del self._entries[spec.id]
            case StartFailed():
                pass
            case unknown:
                assert_never(unknown)
        return outcome

    def _stop_group(self, group: list[Entry]) -> Operation[None]:
        for entry in reversed(group):
            yield from stop_one(entry)
            self._move(entry)
            if entry.spec.restart == "temporary":
                del self._entries[entry.spec.id]

    def _move(self, entry: Entry, *, ref: Ref | None = None, retry: Retry | None = None) -> None:
        before = entry.active
        if self._running.get(entry.ref) is entry:
            del self._running[entry.ref]
        entry.ref, entry.retry = ref, retry
        if ref is not None:
            self._running[ref] = entry
        if entry.spec.significant:
            self._significant += entry.active - before

    def _entry(self, id: Hashable) -> Entry:
        try:
            return self._entries[id]
        except (KeyError, TypeError):  # an unhashable id is no child's id
            raise NotFound(id) from None

    def _idle(self, id: Hashable) -> Entry:
        entry = self._entry(id)
        if entry.retry is not None:
            raise Restarting(id)
        if entry.ref is not None:
            raise Running(id)
        return entry
