"""A server that speaks HTTP/2 over TLS on 127.0.0.1, for tests: every request is answered by a coroutine of theirs.

Rule of this file: it performs and decides nothing. h2 knows the protocol; here are the sockets.
"""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset

from .stacks import server_tls


class Stream:
    """A request, and the way to answer it. Thread: the server's."""

    def __init__(self, connection: "_Connection", id: int, headers: dict[str, str]) -> None:
        self.connection, self.id, self.headers, self.body = connection, id, headers, b""

    def head(self, status: int = 200, **headers: str) -> None:
        """Begin the answer."""
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.connection.h2.send_headers(self.id, [(":status", str(status)), *named])
        self.connection.flush()

    def say(self, *chunks: bytes) -> None:
        """More of it."""
        for chunk in chunks:
            self.connection.h2.send_data(self.id, chunk)
        self.connection.flush()

    def end(self) -> None:
        """Its regular end."""
        self.connection.h2.end_stream(self.id)
        self.connection.flush()

    def reset(self, code: ErrorCodes) -> None:
        """End it with RST_STREAM."""
        self.connection.h2.reset_stream(self.id, code)
        self.connection.flush()

    def go_away(self, last: int = 0) -> None:
        """Say GOAWAY, with the `last` stream that was taken care of, and hang up."""
        self.connection.h2.close_connection(last_stream_id=last)
        self.connection.flush()
        self.connection.transport.close()

    def drop(self) -> None:
        """Cut the connection."""
        self.connection.transport.abort()


class Http2Server:
    """Serves until its `with` block ends, from a thread of its own. `connections` and `resets` count up."""

    def __init__(self, answer: Callable[[Stream], Awaitable[None]]) -> None:
        self.answer = answer
        self.changed = threading.Condition()
        self.streams: list[Stream] = []
        self.resets: list[int] = []
        self.connections = self.open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def call(self, function: Callable[[], object]) -> None:
        """Run `function` on the server's thread, and wait for it."""

        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    def note(self, change: Callable[[], object]) -> None:
        """Change what tests look at."""
        with self.changed:
            change()
            self.changed.notify_all()

    def wait_for(self, condition: Callable[["Http2Server"], bool]) -> None:
        """Return once it holds. Raises: TimeoutError after 5 seconds."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), 5):
                raise TimeoutError(
                    f"{len(self.streams)} streams, {self.open} open connections, {self.resets=}"
                )

    def __enter__(self) -> Self:
        self._thread.start()
        tls = server_tls()
        tls.set_alpn_protocols(["h2"])
        self._server = asyncio.run_coroutine_threadsafe(self._listen(tls), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self, tls: ssl.SSLContext) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, ssl=tls, ssl_shutdown_timeout=0.1
        )

    async def _close(self) -> None:
        self._server.close()
        for stream in self.streams:
            stream.drop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Connection(asyncio.Protocol):
    def __init__(self, server: Http2Server) -> None:
        self.server, self.streams, self.tasks = server, {}, set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self.transport = transport
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.flush()
        self.server.note(lambda: self._count(1))

    def connection_lost(self, _error: Exception | None) -> None:
        self.server.note(lambda: self._count(-1))

    def _count(self, more: int) -> None:
        self.server.connections += max(0, more)
        self.server.open += more

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case RequestReceived(stream_id=id, headers=headers):
                    told = {name.decode(): value.decode() for name, value in headers}
                    self.streams[id] = Stream(self, id, told)
                case DataReceived(stream_id=id, data=body):
                    self.streams[id].body += body
                    self.h2.acknowledge_received_data(event.flow_controlled_length, id)
                case StreamEnded(stream_id=id):
                    stream = self.streams[id]
                    self.server.note(lambda stream=stream: self.server.streams.append(stream))
                    task = asyncio.get_running_loop().create_task(self.server.answer(stream))
                    self.tasks.add(task)
                case StreamReset(stream_id=id):
                    self.server.note(lambda id=id: self.server.resets.append(id))
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())
