"""Requests through httpx's stack: one limit for all of its connecting, and a cancel that it survives.

Rule of this file: httpx limits each step by itself, and a proxy's answer to CONNECT or SOCKS not at all. What its
transport tells while it works (the request extension `trace`) says which step it is at: from the first step of a
connection until the request itself is written, it is connecting. A transport that tells nothing is not limited.

Its pool loses a connection, and its place among `max_connections`, if a task is cancelled where that is not expected:
after a connection is chosen or made and before the request is written, or while an answer is being closed. So it works
in tasks that nobody else cancels. One that its caller has left is cancelled only while it writes a message or waits for
one; before that it goes on to its next step, fails there, and is closed with nothing sent.

Source: https://www.encode.io/httpcore/extensions/#trace; https://github.com/encode/httpcore/issues/1093,
https://github.com/encode/httpx/issues/3782.
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .doubt import DOUBT

if TYPE_CHECKING:
    import httpx

__all__ = ["Sender"]

T = TypeVar("T")
_LINGERS = 10.0  # seconds for a connection that nobody waits for any more


class Sender:
    """Sends requests with a client of httpx. `patient`: its transport tells its steps, as httpx's own does; of others
    that is learnt.
    """

    def __init__(self, client: httpx.AsyncClient, *, patient: bool) -> None:
        self._client, self._patient = client, patient
        self._tasks: set[asyncio.Task[Any]] = set()

    async def send(self, request: httpx.Request, seconds: float | None) -> httpx.Response:
        """The answer to `request`, its body unread; connecting may take `seconds` from now on, None: no limit.

        Raises httpx's exceptions: what fails while connecting is `ConnectTimeout`, `ConnectError` or `ProxyError`.
        """
        import httpx

        steps = _Steps(seconds)
        request.extensions["trace"] = steps.trace
        task = self._begin(self._client.send(request, stream=True))
        steps.task = task
        try:
            await asyncio.wait((task,))
        except BaseException:  # cancelled, or dropped with its loop
            task.add_done_callback(self._close_late)
            task.add_done_callback(lambda _task: steps.stop())
            steps.leave(at_once=not (self._patient or steps.told))
            raise
        finally:
            self._patient = self._patient or steps.told
        steps.stop()
        if task.cancelled():
            raise (httpx.ConnectTimeout if steps.expired else httpx.ReadError)("", request=request)
        try:
            return task.result()
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            if not steps.connecting:
                raise
            why = f"its proxy did not open the way: {type(error).__name__}"
            raise httpx.ConnectError(why, request=request) from None

    async def close(self, response: httpx.Response) -> None:
        """Close an answer, to the end even if the caller is cancelled meanwhile."""
        task = self._begin(response.aclose())
        await asyncio.wait((task,))
        if not task.cancelled():  # as by `aclose`, which closes everything
            task.result()

    async def aclose(self) -> None:
        """Close the connections; nothing that was left goes on."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._client.aclose()

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # a loop does not keep its tasks alive
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is raised where somebody waits, and else it is nobody's

    def _close_late(self, task: asyncio.Task[httpx.Response]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._begin(task.result().aclose())


class _Left(Exception):
    """Nobody waits for this request any more."""


class _Steps:
    """How far a request is. `told`: it has told a step; `connecting`: a connection is being made for it; `expired`:
    that took too long.
    """

    def __init__(self, seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = None if seconds is None else self._loop.time() + seconds
        self._timer: asyncio.TimerHandle | None = None
        self._over = self._left = self._speaks = False
        self.connecting = self.expired = self.told = False
        self.task: asyncio.Task[Any] | None = None

    async def trace(self, step: str, told: Mapping[str, Any]) -> None:
        """A step begins or has ended. One that writes or reads a message names its request, a proxy's own included."""
        self.told = True
        asked = told.get("request")
        # What begins a connection of HTTP/2 is everybody's who waits for it: it names the first one's request.
        speaks = asked is not None and ".send_connection_init." not in step
        begins = step.endswith(".started")
        self._speaks = begins and speaks
        if self._left and begins and (speaks or step.endswith(".connect_tcp.started")):
            raise _Left
        if self._over:
            return
        if asked is not None and asked.method != b"CONNECT":
            self._over, self.connecting = True, False
            self.stop()
        elif not self.connecting:
            self.connecting = True
            if self._end is not None:
                self._timer = self._loop.call_at(self._end, self._doubt)

    def leave(self, *, at_once: bool) -> None:
        """Nobody waits any more: cancel it where that loses nothing; else it fails at its next step."""
        self._left = True
        if self.task is not None and (at_once or self._speaks):
            self.task.cancel()
        elif self._timer is None:
            self._timer = self._loop.call_later(_LINGERS, self._expire)

    def stop(self) -> None:
        """It is no longer limited."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _doubt(self) -> None:
        self._timer = self._loop.call_later(DOUBT, self._expire)

    def _expire(self) -> None:
        self.expired = True
        if self.task is not None:
            self.task.cancel()
