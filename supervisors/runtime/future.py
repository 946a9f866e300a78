"""Futures: the first set wins, done-callbacks, awaitable, and waits that the dispatcher knows of.

The rule of this file: settling a future never blocks and never raises. A `threading`-style lock is taken without
waiting and never given back: that is the whole of "first set wins".

Source: `pykka.ThreadingFuture` for the interface, `asyncio.Future` for the callbacks.
"""

from __future__ import annotations

import asyncio
import sys
from _thread import allocate_lock
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

import pykka
from pykka._future import _Unset

from supervisors.errors import CallingSelf, Deadlock, ForeignProcess, ProcessKilled, SimulationError
from supervisors.runtime.running import forked, running, runs_here, simulated, survive
from supervisors.runtime.timers import check_timeout

if TYPE_CHECKING:
    from types import TracebackType

    from supervisors.runtime.dispatch import Dispatcher
    from supervisors.runtime.ref import Ref
    from supervisors.runtime.running import Mortal

    ExcInfo = tuple[type[BaseException], BaseException | None, TracebackType | None] | tuple[None, None, None]

__all__ = ["Callbacks", "Future", "Wait", "declare_wait", "raise_if_circular"]

T = TypeVar("T")

Callbacks: TypeAlias = list[Callable[["Future[Any]"], object]]


class Wait:
    """A thread that waits in `Future.get`: for whom and what, and the lock whose release wakes it.

    A process that waits without a thread (a supervisor) has one too, with no future.
    """

    __slots__ = ("_lock", "future", "target")

    def __init__(self, target: Ref[Any] | None, future: Future[Any] | None = None) -> None:
        self.target: Ref[Any] | None = target
        self.future: Future[Any] | None = future
        self._lock = allocate_lock()
        self._lock.acquire()

    @property
    def lock(self) -> Any:
        """Held until somebody wakes the waiter."""
        return self._lock

    def wake(self, _future: object = None) -> None:
        """End the wait; a second call does nothing."""
        try:
            self._lock.release()
        except RuntimeError:
            pass


class Future(pykka.Future[T], Generic[T]):
    """A Pykka future that can be settled once, watched, awaited, and waited for without starving a pool.

    Thread: any thread may do anything with it.
    """

    __slots__ = ("_callbacks", "_done", "_exc_info", "_gate", "_value", "host", "target")

    # What few futures have: defaults of the class, not of each instance.
    _get_hook: Any = None
    _get_hook_result: Any = _Unset()
    _sources: tuple[pykka.Future[Any], ...] = ()
    late: int = 0
    handed_on = False
    """Whether the process that was asked has left the answer for later: then anybody may give it."""

    def __init__(
        self,
        target: Ref[Any] | None = None,
        host: Dispatcher | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        self._gate = allocate_lock()
        self._done = False
        self._exc_info: Any = None
        self._callbacks: Callbacks = [] if callbacks is None else callbacks
        self.target: Ref[Any] | None = target
        self.host: Dispatcher | None = host

    def __repr__(self) -> str:
        return f"<Future {'done' if self._done else 'pending'}>"

    def done(self) -> bool:
        """Whether `get` would return, or raise the stored exception, at once."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """The stored exception, or None. Unlike `get`, reading it does not extend its traceback."""
        return None if self._exc_info is None else self._exc_info[1]

    @property
    def callbacks(self) -> Callbacks:
        """What is called once it is settled: a list that may be kept after the future itself is gone."""
        return self._callbacks

    def set(self, value: T | None = None) -> None:
        """Store the value, unless the future was settled before: then count it in `late`."""
        if not self._gate.acquire(False):
            self.late += 1
            return
        self._value = value
        self._settled()

    def set_exception(self, exc_info: Any = None) -> None:
        """Store an exception (default: the one being handled), unless the future was settled before."""
        if not self._gate.acquire(False):
            self.late += 1
            return
        self._exc_info = exc_info or sys.exc_info()
        self._settled()

    def fail(self, exc: BaseException) -> None:
        """Store this exception, unless the future was settled before."""
        self.set_exception((type(exc), exc, exc.__traceback__))

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Compute the value in `get`, in the thread that asks for it (Pykka's `map`, `filter`, `join`, `reduce`)."""
        self._get_hook = func

    def add_done_callback(self, callback: Callable[[Future[T]], object]) -> None:
        """Call `callback(self)` once settled: now, or in the thread that settles it. It must not block."""
        self._callbacks.append(callback)
        if self._done:
            self._run_callbacks()

    def get(self, *, timeout: float | None = None) -> T:
        """Wait for the value.

        Units: seconds. Raises: the stored exception; `pykka.Timeout`; `CallingSelf`, `Deadlock` when waiting could
        never end; `WouldBlock` on an event loop's own thread; `ForeignProcess` in a forked child.
        """
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._done:
            self._wait(timeout)
        if self._exc_info is not None:
            _type, exc, traceback = self._exc_info
            raise exc.with_traceback(traceback)
        return self._value  # type: ignore[return-value] # done: it is there

    def map(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Pykka's `map`; awaiting the result does not block the event loop."""
        return self._derived(super().map(func, *args, **kwargs), self)

    def filter(self: Future[Any], func: Callable[[Any], bool]) -> Future[Any]:
        """Pykka's `filter`; awaiting the result does not block the event loop."""
        return self._derived(super().filter(func), self)

    def reduce(self: Future[Any], func: Callable[[Any, Any], Any], *args: Any) -> Future[Any]:
        """Pykka's `reduce`; awaiting the result does not block the event loop."""
        return self._derived(super().reduce(func, *args), self)

    def join(self: Future[Any], *futures: pykka.Future[Any]) -> Future[Any]:
        """Pykka's `join`; awaiting the result does not block the event loop."""
        return self._derived(super().join(*futures), self, *futures)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait inside an event loop, without blocking it. Raises: `SimulationError` in a simulation."""
        if self._get_hook is not None:
            for source in self._sources:
                yield from _quietly(source)
        elif not self._done:
            self._refuse_foreign()
            if simulated():
                raise SimulationError(
                    "nothing happens while an event loop waits for a simulation, so this would never end; do not "
                    "await here: use a plain `for`, get() or result()"
                )
            loop = asyncio.get_running_loop()
            settled: asyncio.Future[None] = loop.create_future()
            tell = partial(_tell_loop, loop, settled)
            self.add_done_callback(tell)
            try:
                yield from settled
            finally:  # a wait that was cancelled leaves nothing behind
                self._forget(tell)
        return self.get()

    __iter__ = __await__

    def _derived(self, future: pykka.Future[Any], *sources: pykka.Future[Any]) -> Future[Any]:
        derived = cast("Future[Any]", future)
        derived._sources = sources  # noqa: SLF001 - same package
        return derived

    def _settled(self) -> None:
        # `done` first, then the callbacks: whoever adds one afterwards sees `done` and runs it itself.
        self._done = True
        if self._callbacks:
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        try:
            while self._callbacks:
                try:
                    callback = self._callbacks.pop(0)
                except IndexError:
                    return  # another thread took it
                try:
                    callback(self)
                except BaseException as exc:  # noqa: BLE001 - the other callbacks must still be called
                    survive(exc, "a done-callback failed")
        except KeyboardInterrupt:  # and then it goes on
            self._run_callbacks()
            raise

    def _wait(self, timeout: float | None) -> None:
        timeout = check_timeout(timeout)
        self._refuse_foreign()
        process = running.process
        wait = Wait(self.target, self)
        self.add_done_callback(wait.wake)
        if process is None:
            woken = _wait_outside(self.host, wait, timeout)
        else:
            woken = _wait_inside(process, wait, timeout)
        if not woken and not self._done:
            if wait.wake in self._callbacks:
                self._forget(wait.wake)
            raise pykka.Timeout(f"no answer{_from(self.target)} within {timeout} seconds")

    def _refuse_foreign(self) -> None:
        if forked and self.target is not None and self.target.system.foreign:
            raise ForeignProcess(self.target)

    def _forget(self, callback: Callable[[Future[T]], object]) -> None:
        try:
            self._callbacks.remove(callback)
        except ValueError:
            pass  # settled meanwhile


def _from(target: Ref[Any] | None) -> str:
    return "" if target is None else f" from {target}"


def raise_if_circular(ref: Ref[Any], wait: Wait) -> None:
    """Refuse a wait of `ref` that could never end, since its target waits, perhaps through others, for `ref`.

    A process whose answer is there, but that has not woken up yet, waits for nobody; an answer left for later
    may come from anybody. Raises: `CallingSelf`, `Deadlock`. Thread: the system's lock is held.
    """
    chain = [ref]
    target = wait.target if wait.future is None or not wait.future.handed_on else None
    while target is not None:
        if target is ref:
            raise CallingSelf(ref) if len(chain) == 1 else Deadlock([*chain, ref])
        if target in chain:
            return  # a circle that `ref` is not part of
        chain.append(target)
        target = _waits_for(target)


def _waits_for(ref: Ref[Any]) -> Ref[Any] | None:
    wait = ref.waiting
    if wait is None:
        return None
    future = wait.future
    return wait.target if future is None or not (future.done() or future.handed_on) else None


def declare_wait(ref: Ref[Any], target: Ref[Any]) -> None:
    """`ref` waits for `target` without blocking a thread.

    If that closes a circle, the wait for `ref` in it fails with `Deadlock`.
    """
    with ref.system.lock:
        ref.waiting = Wait(target)
        wait = target.waiting
        if wait is None or (wait.future is not None and wait.future.done()):
            return
        chain = [ref, target]
        while wait is not None and wait.target is not None and wait.target not in chain:
            chain.append(wait.target)
            wait = wait.target.waiting
    if wait is not None and wait.target is ref and wait.future is not None:
        wait.future.fail(Deadlock([chain[-1], *chain]))


def _wait_outside(host: Dispatcher | None, wait: Wait, timeout: float | None) -> bool:
    host = running.host or host
    if host is not None:
        running.wait = wait
        try:
            return host.wait_outside(wait.lock, timeout)
        finally:
            # Or this thread would keep the future, and what it holds, until it waits again.
            running.wait = None
    return bool(wait.lock.acquire(True, -1 if timeout is None else max(0.0, timeout)))


def _wait_inside(process: Mortal, wait: Wait, timeout: float | None) -> bool:
    ref = process.ref
    with ref.system.lock:
        raise_if_circular(ref, wait)
        before, ref.waiting = ref.waiting, wait
    if ref.killed:
        wait.wake()
    try:
        woken = ref.dispatcher.wait(wait.lock, timeout)
    finally:
        ref.waiting = before
    if ref.killed:
        raise ProcessKilled(f"{ref} was killed while it waited")
    return woken


def _tell_loop(loop: asyncio.AbstractEventLoop, settled: asyncio.Future[None], _future: object) -> None:
    def settle() -> None:
        if not settled.done():
            settled.set_result(None)

    if runs_here(loop):
        settle()  # nobody has to be woken
        return
    try:
        loop.call_soon_threadsafe(settle)
    except RecursionError:
        raise
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more


def _quietly(future: pykka.Future[Any]) -> Iterable[Any]:
    try:
        yield from future.__await__()
    except Exception:  # noqa: BLE001 - `get` of the derived future raises it again
        return
