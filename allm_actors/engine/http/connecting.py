"""One limit for all of httpx's connecting, as our own stack has it.

Rule of this file: httpx limits each step by itself, and a proxy's answer to CONNECT or SOCKS not at all. What its
transport tells while it works (the request extension `trace`) says which step it is at: from the first step of a
connection until the request itself is written, it is connecting. A transport that tells nothing is not limited.

Source: https://www.encode.io/httpcore/extensions/#trace.
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .doubt import DOUBT

if TYPE_CHECKING:
    import httpx

__all__ = ["send"]


async def send(client: httpx.AsyncClient, request: httpx.Request, seconds: float | None) -> httpx.Response:
    """The answer to `request`, its body unread; connecting may take `seconds` from now on, None: no limit.

    Raises httpx's exceptions: what fails while it is connecting is `ConnectTimeout`, `ConnectError` or `ProxyError`.
    """
    import httpx

    limit = asyncio.timeout(None)
    connecting = _Connecting(limit, seconds)
    request.extensions["trace"] = connecting.trace
    try:
        async with limit:
            return await client.send(request, stream=True)
    except TimeoutError:
        if not limit.expired():
            raise
        raise httpx.ConnectTimeout("", request=request) from None
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
        if not connecting.going_on:
            raise
        why = f"its proxy did not open the way: {type(error).__name__}"
        raise httpx.ConnectError(why, request=request) from None
    finally:
        connecting.stop()


class _Connecting:
    """How far a request is. `going_on`: a connection is being made for it."""

    def __init__(self, limit: asyncio.Timeout, seconds: float | None) -> None:
        self._limit, self._loop = limit, asyncio.get_running_loop()
        self._end = None if seconds is None else self._loop.time() + seconds
        self._timer: asyncio.TimerHandle | None = None
        self._over = self.going_on = False

    async def trace(self, _step: str, told: Mapping[str, Any]) -> None:
        """A step begins or has ended. One that writes or reads a message names its request, a proxy's own included."""
        asked = told.get("request")
        if self._over:
            return
        if asked is not None and asked.method != b"CONNECT":
            self._over, self.going_on = True, False
            self.stop()
            self._limit.reschedule(None)
        elif not self.going_on:
            self.going_on = True
            if self._end is not None:
                self._timer = self._loop.call_at(self._end, self._doubt)

    def stop(self) -> None:
        """It is no longer limited."""
        if self._timer is not None:
            self._timer.cancel()

    def _doubt(self) -> None:
        self._limit.reschedule(self._loop.time() + DOUBT)
