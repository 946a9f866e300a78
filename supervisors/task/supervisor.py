"""TaskSupervisor: starts functions as processes of their own, and stops them at its end.

The rule of this file: only the interface. A task belongs to its supervisor, which outlives its clients; how a
client learns the outcome is in `handle.py`.

    tasks = TaskSupervisor.start_link(name="tasks")
    tasks.async_nolink(fetch, url).await_()                             # from anywhere
    for result in tasks.async_stream(fetch, urls, max_concurrency=8):   # Returned(value) or Ended(reason)
        ...

Tasks run on the `"blocking"` dispatcher: their functions may wait for sockets and subprocesses.

Source: Elixir `Task.Supervisor`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from supervisors.errors import BadSpec
from supervisors.process import Process
from supervisors.reasons import shown
from supervisors.runtime.ref import Ref
from supervisors.runtime.timers import check_timeout
from supervisors.spec import EMPTY, Restart, child, is_count
from supervisors.supervisor import DynamicSupervisor, DynamicSupervisorRef
from supervisors.task.handle import Task
from supervisors.task.stream import OnTimeout, Stream
from supervisors.task.work import Ended, Job, Returned, Work, callers, current_process

__all__ = ["TaskSupervisor", "TaskSupervisorRef"]

P = ParamSpec("P")
I = TypeVar("I")  # noqa: E741 - an item
T = TypeVar("T")


class TaskSupervisorRef(DynamicSupervisorRef):
    """The handle of a supervisor of tasks. Each call that starts a task waits until it exists, not until it is done.

    Raises: `MaxChildren`; `ProcessDown` if the supervisor is dead.
    """

    __slots__ = ()

    def async_(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start a task linked to the calling process, if any: if one crashes, so does the other."""
        return self._begin(_job(function, args, kwargs), current_process(), link=True)

    def async_nolink(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start a task that is not linked: if it crashes, the calling process is told, and lives on."""
        return self._begin(_job(function, args, kwargs), current_process(), link=False)

    def start_child(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, restart: Restart = "temporary", **kwargs: Any
    ) -> Ref[Any]:
        """Run a function, tell nobody the outcome, return the ref. If `transient`, rerun it after a crash."""
        spec = child(Work, _job(function, args, kwargs), None, _chain(current_process()))
        return cast("Ref[Any]", super().start_child(spec.replace(restart=restart)))

    def async_stream(
        self,
        function: Callable[[I], T],
        items: Iterable[I],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = 5.0,
        on_timeout: OnTimeout = "exit",
        zip_input_on_exit: bool = False,
    ) -> Iterator[Returned[T] | Ended]:
        """`function(item)` for each item, at most `max_concurrency` (None: one for each CPU) at a time.

        Yields `Returned(value)`, or, if a task crashes, `Ended(reason)`; with `zip_input_on_exit`,
        `Ended((item, reason))`. A task that takes longer than `timeout` seconds makes the iterator raise
        `pykka.Timeout` when it is advanced, or, with `on_timeout="kill_task"`, is killed in time and gives
        `Ended("timeout")`. Results come in the order of the items unless `ordered` is False. Closing the
        iterator stops what still runs. Raises: `BadSpec`, at once.
        """
        most = max_concurrency if max_concurrency is not None else os.cpu_count() or 1
        if not is_count(most) or most < 1:
            raise BadSpec("badarg", most, f"max_concurrency must be a whole number from 1 on, not {most!r}")
        if on_timeout not in ("exit", "kill_task"):
            raise BadSpec(
                "badarg", on_timeout, f'on_timeout must be "exit" or "kill_task", not {on_timeout!r}'
            )
        stream = Stream(
            lambda item: self._begin(_job(function, (item,), EMPTY), None, link=False),
            items,
            max_concurrency=most,
            ordered=ordered,
            timeout=check_timeout(timeout),
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
        )
        return stream.results()

    def _begin(self, job: Job, owner: Process | None, *, link: bool) -> Task[Any]:
        asker = current_process()
        spec = child(Work, None, None if asker is None else asker.ref, _chain(asker))
        task: Task[Any] = Task(cast("Ref[Any]", super().start_child(spec)), owner, link=link)
        task.begin(job)
        return task


class TaskSupervisor(DynamicSupervisor):
    """A dynamic supervisor of tasks; `start_link` takes what that of `DynamicSupervisor` takes."""

    ref_type: ClassVar[type[Ref[Any]]] = TaskSupervisorRef

    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> TaskSupervisorRef:
        """Start a supervisor of tasks as a child of the calling process."""
        return cast("TaskSupervisorRef", super().start_link(*args, **kwargs))

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> TaskSupervisorRef:
        """`start_link`, but without a parent."""
        return cast("TaskSupervisorRef", super().start(*args, **kwargs))


def _job(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Job:
    given: object = function  # whatever a caller without a type checker sends
    if not callable(given):
        kind = type(given).__name__
        raise BadSpec(
            "badarg", kind, f"a task must be a function and its arguments; a {kind} cannot be called"
        )
    if inspect.iscoroutinefunction(function):
        what = f"{shown(function)} is asynchronous, and a task cannot await it"
        raise BadSpec(
            "badarg", "coroutine function", f"{what}; give a function that runs it with asyncio.run"
        )
    return Job(function, args, kwargs)


def _chain(asker: Process | None) -> tuple[Ref[Any], ...]:
    return () if asker is None else (asker.ref, *callers())
