"""A transport that answers from a recording, and needs neither a network nor a key.

    engine = Engine(adapter="openai:gpt-4.1-mini", adapter_opts={"transport": Player("recordings/hello.json")})

Rule of this file: each exchange answers once; of several that match a request, the first one is used. A
request that matches none is an error that says where it differs, and is never retried.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from allm_actors.data import AdapterError
from allm_actors.engine.adapter import Delay
from allm_actors.engine.wire import Deadlines, HttpRequest, HttpResponse

from .differing import differences
from .exchanges import Exchange, load_exchanges
from .poured import Poured
from .redacting import Redact, kept_request
from .replies import Gate, Reply

if TYPE_CHECKING:
    from .played import PlayedAdapter

__all__ = ["Player"]

Asked = tuple[str, str, Any]


class Player:
    """Answers from `recording`: a file, a folder of files, or exchanges.

    A request is matched by its method, its path with the query, and its body; hosts and headers may differ.
    `pace` multiplies the recorded times, and waits between attempts: 0 is at once, 1 as recorded, 0.5 twice
    as fast. `redact` is the hook that the `Recorder` was given. Raises ValueError for what is no recording.
    Thread: any, and any number of event loops.
    """

    needs_no_key = True

    def __init__(
        self,
        recording: str | Path | Iterable[Exchange],
        *,
        pace: float = 0.0,
        redact: Redact | None = None,
    ) -> None:
        from_disk = isinstance(recording, str | Path)
        self._name = str(recording) if from_disk else "these exchanges"
        self._exchanges = load_exchanges(recording) if isinstance(recording, str | Path) else list(recording)
        self._pace = pace
        self._redact = redact
        self._pass_time: Callable[[float], Awaitable[object]] = asyncio.sleep
        self._lock = threading.Lock()
        self._left = list(range(len(self._exchanges)))

    @property
    def left(self) -> tuple[Exchange, ...]:
        """The exchanges that have not been used yet."""
        with self._lock:
            return tuple(self._exchanges[index] for index in self._left)

    def adapter(self, name: str) -> PlayedAdapter:
        """The provider of that name, answering from here without an event loop: for a `SimHost`, in virtual time."""
        from .played import PlayedAdapter

        return PlayedAdapter(name, self)

    @asynccontextmanager
    async def open(self, request: HttpRequest, deadlines: Deadlines) -> AsyncIterator[HttpResponse]:
        """The recorded response. Raises `AdapterError`: `no_scripted_response` when nothing matches."""
        reply = self._take(request).reply
        limit = deadlines.first_byte
        if limit is not None and reply.first_byte_delay > limit and self._pace:
            await self.sleep(limit)
            raise _silent(limit)
        await self.sleep(min(reply.first_byte_delay, 1e9))
        played = _Played(reply, deadlines, self)
        try:
            yield played
        finally:
            await played.close()

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass, at this player's pace."""
        if seconds and self._pace:
            await self._pass_time(seconds * self._pace)

    def noting(self, waits: list[Delay]) -> Player:
        """This player, with what is left in common, writing down what it would wait for."""

        async def note(seconds: float) -> None:
            waits.append(Delay(seconds))

        other = copy.copy(self)
        other._pass_time = note  # noqa: SLF001 - it is one of us
        return other

    def __repr__(self) -> str:
        return f"Player({self._name!r}, left={len(self.left)})"

    def _take(self, request: HttpRequest) -> Exchange:
        asked = self._asked(request)
        with self._lock:
            for index in self._left:
                if _recorded(self._exchanges[index]) == asked:
                    self._left.remove(index)
                    return self._exchanges[index]
            message = self._why(asked)
        raise AdapterError("no_scripted_response", message=message, metadata={"retry": False})

    def _asked(self, request: HttpRequest) -> Asked:
        kept = kept_request(request)
        if self._redact is not None:
            made: dict[str, Any] = {"provider": urlsplit(request.url).hostname or "", "request": kept}
            kept = dict((self._redact(made) or made)["request"])
        url = urlsplit(kept["url"])
        target = f"{url.path}?{url.query}" if url.query else url.path
        body = kept["body"] if "body" in kept else base64.b64decode(kept["body_b64"])
        return kept["method"], target, body

    def _why(self, asked: Asked) -> str:
        method, target, body = asked
        head = f"{self._name} has no exchange left for {method} {target}"
        if not self._left:
            return f"{head}: all {len(self._exchanges)} were used. Record it again, with this request in it"
        candidates = [(index, _recorded(self._exchanges[index])) for index in self._left]
        found = next((each for each in candidates if each[1][:2] == (method, target)), None)
        if found is None:
            targets = ", ".join(sorted({f"{m} {t}" for _, (m, t, _) in candidates}))
            return f"{head}; the remaining exchanges are for {targets}. Make the same requests, or record it again"
        lines = "".join(f"\n  {line}" for line in differences(found[1][2], body))
        name = self._exchanges[found[0]].name
        return f"{head}; the next one, {name}, differs. Make the same request, or record it again:{lines}"


class _Played(Poured):
    """A recorded response, as if it came."""

    def __init__(self, reply: Reply, deadlines: Deadlines, player: Player) -> None:
        super().__init__()
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.all_headers()
        self._reply = reply
        self._idle = deadlines.idle
        self._player = player

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, in the pieces in which it was read."""
        reply = self._reply
        for index, piece in enumerate([reply.body] if reply.chunks is None else reply.chunks):
            wait = reply.wait_before(index)
            if self._idle is not None and wait > self._idle:
                await self._player.sleep(self._idle)
                raise _silent(self._idle)
            await self._player.sleep(wait)
            if isinstance(piece, Gate):
                await piece.passed()
            elif piece:
                yield piece
        if reply.then == "stall":
            await self._player.sleep(self._idle or 0.0)
            raise _silent(self._idle or 0.0)
        if reply.then != "end":
            message = "the recorded connection broke here; the answer is not complete"
            raise AdapterError("network_error", message=message, metadata={"partial": True})


def _silent(limit: float) -> AdapterError:
    message = f"the recorded answer is silent here for {limit:g} s; stream_timeout allows more, in seconds"
    return AdapterError("timeout", message=message, metadata={"phase": "silence"})


def _recorded(exchange: Exchange) -> Asked:
    """What was asked, with a body that was kept as text read as JSON if it is JSON."""
    body = exchange.json
    if isinstance(body, str):
        try:
            body = msgspec.json.decode(body)
        except msgspec.DecodeError:
            pass
    return exchange.method, exchange.target, body
