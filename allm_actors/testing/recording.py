"""What a provider really said, kept in files, and said again without a network.

    engine = allm.Engine("openai:gpt-4.1-mini", adapter_opts={"transport": Recorder("tests/exchanges/weather")})
    engine = allm.Engine("openai:gpt-4.1-mini", adapter_opts={"transport": Replayer("tests/exchanges/weather")})

Rule of this file: what is written is what `exchanges.load_exchange` reads, and never a key: of the headers only those
that are listed here are kept, and what looks like a key is taken out of the bodies.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from allm_actors.data import AdapterError
from allm_actors.data.redaction import redact
from allm_actors.engine.transport import HttpxTransport
from allm_actors.engine.wire import Deadlines, HttpRequest, Transport

from .exchanges import Exchange, load_exchange
from .replies import Gate

__all__ = ["Recorder", "Replayer"]

_OF_A_REQUEST = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type"})
_OF_A_RESPONSE = frozenset({"content-type", "retry-after", "retry-after-ms"})


class Recorder:
    """A transport that asks the provider, and keeps each exchange in a file of `folder`: `001.json`, `002.json`, …

    An answer is handed on when it is complete; one that breaks off is not kept. `transport` is who really asks.
    Raises FileExistsError for a folder with exchanges: delete it to record anew. Thread: safe.
    """

    def __init__(self, folder: str | Path, transport: Transport | None = None) -> None:
        self._folder = Path(folder)
        if _files(self._folder):
            raise FileExistsError(
                f"{self._folder} has recorded exchanges already; delete it to record them anew"
            )
        self._given = transport
        self._count = 0
        self._lock = threading.Lock()

    @asynccontextmanager
    async def open(self, request: HttpRequest, deadlines: Deadlines) -> AsyncIterator[_Answer]:
        """The provider's answer. Raises `AdapterError`, as the transport that asks, and OSError."""
        # One of our own for each exchange: nobody tells us when the last one was, to close what it keeps open.
        inner = self._given if self._given is not None else HttpxTransport()
        try:
            async with inner.open(request, deadlines) as response, aclosing(response.chunks()) as chunks:
                body = [chunk async for chunk in chunks]
                status, headers = response.status, response.headers
        finally:
            if inner is not self._given:
                await inner.aclose()
        await asyncio.to_thread(self._keep, _written(request, status, headers, b"".join(body)))
        yield _Answer(status, headers, body)

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        if self._given is not None:
            await self._given.aclose()

    def _keep(self, exchange: Mapping[str, Any]) -> None:
        text = msgspec.json.format(msgspec.json.encode(exchange), indent=1)
        with self._lock:
            self._count += 1
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{self._count:03}.json").write_bytes(text + b"\n")


class Replayer:
    """A transport that answers from the files of `folder`, and from nowhere else.

    A request gets the answer of the first exchange in order of names with the same method, path and JSON, each of which
    is used once. One that was not recorded ends the call with `AdapterError("no_scripted_response")`, which says what
    is different. Keys are neither needed nor looked at, but a provider's adapter wants one: `api_key="none"`.
    Raises FileNotFoundError for a folder without exchanges. Thread: safe.
    """

    def __init__(self, folder: str | Path) -> None:
        files = _files(Path(folder))
        if not files:
            raise FileNotFoundError(f"there are no recorded exchanges in {folder}; make them with Recorder")
        self._folder = Path(folder)
        self._left = [load_exchange(file) for file in files]
        self._lock = threading.Lock()

    @property
    def left(self) -> list[str]:
        """The names of the exchanges that nobody has asked for yet."""
        with self._lock:
            return [exchange.name for exchange in self._left]

    @asynccontextmanager
    async def open(self, request: HttpRequest, deadlines: Deadlines) -> AsyncIterator[_Answer]:  # noqa: ARG002
        """The recorded answer. Raises `AdapterError`."""
        reply = self._take(request).reply
        chunks = [chunk for chunk in reply.chunks or [reply.body] if not isinstance(chunk, Gate)]
        yield _Answer(reply.status, reply.headers, chunks)

    async def aclose(self) -> None:
        """Nothing was connected."""

    def _take(self, request: HttpRequest) -> Exchange:
        asked = request.method, _target(request.url), _json(request.body)
        with self._lock:
            for exchange in self._left:
                if (exchange.method, exchange.target, exchange.json) == asked:
                    self._left.remove(exchange)
                    return exchange
            message = (
                f"{request.method} {asked[1]} was not recorded so in {self._folder}: {self._why(asked[2])}"
            )
        raise AdapterError("no_scripted_response", message=f"{message}; delete the folder and record it anew")

    def _why(self, body: Any) -> str:
        if not self._left:
            return "every exchange is used up"
        next_one = self._left[0]
        if not (isinstance(body, dict) and isinstance(next_one.json, dict)):
            return f"the next one, {next_one.name}, is another request"
        fields = sorted(name for name in {*body, *next_one.json} if body.get(name) != next_one.json.get(name))
        return f"the next one, {next_one.name}, differs in {', '.join(fields) or 'its path'}"


class _Answer:
    """An answer that is there as a whole."""

    def __init__(self, status: int, headers: Mapping[str, str], chunks: Sequence[bytes]) -> None:
        self.status, self.headers, self._chunks = status, headers, chunks

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it was kept."""
        for chunk in self._chunks:
            yield chunk

    async def body(self, limit: int, seconds: float | None = None) -> bytes:  # noqa: ARG002 - nothing is waited for
        """At most `limit` bytes of it."""
        return b"".join(self._chunks)[:limit]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _written(request: HttpRequest, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    url = urlsplit(request.url)
    host = url.netloc.rpartition("@")[2]
    return {
        "provider": url.hostname or "",
        "request": {
            "method": request.method,
            "url": redact(f"{url.scheme}://{host}{_target(request.url)}"),
            "headers": _kept(request.headers, _OF_A_REQUEST),
            "body": _json(request.body),
        },
        "response": {
            "status": status,
            "headers": _kept(headers, _OF_A_RESPONSE),
            "body_text": redact(body.decode("utf-8", "replace")),
        },
    }


def _kept(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() in names}


def _target(url: str) -> str:
    parts = urlsplit(url)
    return redact(f"{parts.path}?{parts.query}" if parts.query else parts.path)


def _json(body: bytes) -> Any:
    """The body as it is kept: what looks like a key is not in it."""
    return msgspec.json.decode(redact(body.decode("utf-8", "replace"))) if body else None
