"""A transport that records what passes through it, so that it can be played back without a network.

    engine = Engine(adapter="openai:gpt-4.1-mini", adapter_opts={"transport": Recorder("recordings/hello.json")})

Rule of this file: what passes is not changed, and nothing that identifies the caller is written (see
`redacting`). The file is complete at every moment: each exchange that ends replaces the file by one that
includes it.
"""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from allm_actors.data import AdapterError
from allm_actors.engine.wire import Deadlines, HttpRequest, HttpResponse, Transport

from .poured import Poured
from .redacting import Redact, kept_request, kept_response_headers, masked, secrets_in

__all__ = ["Recorder"]


class Recorder:
    """Sends through `transport` (None: the network) and writes each exchange that gets an answer to the file `path`.

    Each read of the socket is a chunk of the recording, with the time before it, in seconds. `redact` is
    called with each exchange as plain data, already without keys, before it is written; a `Player` of that
    file needs the same hook. `provider` is the provider's name in the recording; by default it is the host's
    name. An existing path raises FileExistsError; with `overwrite` the old recording is replaced when the
    first exchange has ended.
    Thread: any, and any number of event loops.
    """

    def __init__(
        self,
        path: str | Path,
        transport: Transport | None = None,
        *,
        provider: str | None = None,
        redact: Redact | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path: Path = Path(path)
        if self.path.exists() and not overwrite:
            raise FileExistsError(
                f"{self.path} already exists, and may hold a recording; pass overwrite=True to replace it, or "
                "play it with Player"
            )
        self._transport = transport
        self._provider = provider
        self._redact = redact
        self._lock = threading.Lock()
        self._exchanges: list[dict[str, Any]] = []

    @asynccontextmanager
    async def open(self, request: HttpRequest, deadlines: Deadlines) -> AsyncIterator[HttpResponse]:
        """As the transport's own. A request that gets no answer is not recorded."""
        began = time.monotonic()
        async with self._through().open(request, deadlines) as response:
            taken = _Taken(response, began)
            try:
                yield taken
            finally:
                await taken.close()
                self._keep(request, taken)

    async def aclose(self) -> None:
        """Close what belongs to the running loop."""
        await self._through().aclose()

    def __repr__(self) -> str:
        return f"Recorder({str(self.path)!r})"

    def _through(self) -> Transport:
        if self._transport is None:
            from allm_actors.engine.http.transport import default_transport

            self._transport = default_transport()
        return self._transport

    def _keep(self, request: HttpRequest, taken: _Taken) -> None:
        made: dict[str, Any] = {
            "source": "recorded with allm_actors.testing.Recorder",
            "provider": self._provider or urlsplit(request.url).hostname or "",
            "request": kept_request(request),
            "response": taken.kept(secrets_in(request.headers, request.url)),
        }
        if self._redact is not None:
            made = self._redact(made) or made
        with self._lock:
            self._exchanges.append(made)
            text = msgspec.json.format(msgspec.json.encode({"exchanges": self._exchanges}), indent=1)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            beside.write_bytes(text + b"\n")
            beside.replace(self.path)


class _Taken(Poured):
    """A response on its way through."""

    def __init__(self, response: HttpResponse, began: float) -> None:
        super().__init__()
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._last = time.monotonic()
        self._delay = self._last - began
        self._reads: list[tuple[float, int]] = []
        self._body = bytearray()
        self._then = "half_close"  # until it ends: whoever left early cannot say what would have come

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes."""
        try:
            async with aclosing(self._response.chunks()) as chunks:
                async for chunk in chunks:
                    self._take(chunk)
                    yield chunk
            self._then = "end"
        except AdapterError as error:
            self._then = "stall" if error.reason == "timeout" else "reset"
            raise

    def kept(self, secrets: list[bytes]) -> dict[str, Any]:
        """What is written of it."""
        return {
            "status": self.status,
            "headers": kept_response_headers(self.headers, secrets),
            "first_byte_delay": round(self._delay, 3),
            "reads": self._reads,
            "then": self._then,
            **_text(masked(bytes(self._body), secrets)),
        }

    def _take(self, chunk: bytes) -> None:
        now = time.monotonic()
        self._reads.append((round(now - self._last, 3), len(chunk)))
        self._last = now
        self._body += chunk


def _text(body: bytes) -> dict[str, str]:
    try:
        return {"body_text": body.decode()}
    except UnicodeDecodeError:
        return {"body_b64": base64.b64encode(body).decode()}
