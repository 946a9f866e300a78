"""A real HTTP server on 127.0.0.1 that answers like a provider, well or badly, with given replies.

Rule of this file: it performs replies and decides nothing. The sockets are real, and so are the resets and the silence.
What providers answer is not known here; see `allm_actors.testing.exchanges`.

    with LoopbackServer([Reply(chunks=[b"data: one\\n\\n"], then="reset")]) as server:
        ...                                         # a client that talks to server.url
        server.wait_for(lambda s: s.connections == 0)
        assert server.requests[0].json["stream"] is True
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from . import http1
from .replies import Answer, Gate, Reply, Request, Then

if TYPE_CHECKING:
    import ssl

__all__ = ["Answer", "Gate", "LoopbackServer", "Reply", "Request", "Then"]


class LoopbackServer:
    """Serves until its `with` block ends, from a daemon thread of its own.

    `replies` is a function from request to reply, or an iterable that is consumed in order of arrival, over
    all connections; after its end every answer is a 500 that says so. `itertools.repeat(reply)` never ends.
    `tls` is a context that has a certificate; then it speaks HTTPS.
    Thread: any.
    """

    def __init__(self, replies: Answer | Iterable[Reply], *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._answer = replies if callable(replies) else _in_order(replies)
        self._log = _Log()
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:40213`: no path, no slash at the end."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, in order of arrival."""
        with self._log.changed:
            return tuple(self._log.requests)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        with self._log.changed:
            return len(self._log.open)

    @property
    def abandoned(self) -> int:
        """How many answers had no end because their client went away first."""
        with self._log.changed:
            return self._log.abandoned

    def wait_for(self, condition: Callable[[LoopbackServer], bool], timeout: float = 5.0) -> None:
        """Return once `condition(server)` holds; it is checked whenever a request or a connection comes or goes.

        Raises: `TimeoutError` after `timeout` seconds, with what the server had seen by then.
        """
        log = self._log
        with log.changed:
            if not log.changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(
                    f"the condition did not hold within {timeout} s; seen so far: {len(log.requests)} "
                    f"requests, {len(log.open)} open connections, {log.abandoned} abandoned answers"
                )

    def start(self) -> Self:
        """Listen; returns when clients can connect. A `with` block does this."""
        listening: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="loopback-server", daemon=True
        )
        self._thread.start()
        self._port = listening.result(timeout=10)
        return self

    def close(self) -> None:
        """Stop listening, drop every connection and end the thread. Closing twice is harmless."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(self._closing.set)
            thread.join(timeout=10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _serve(self, listening: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        server = await self._loop.create_server(self._meet, "127.0.0.1", 0, backlog=4096)
        listening.set_result(server.sockets[0].getsockname()[1])
        await self._closing.wait()
        # Some tasks may be of clients that just arrive: what is accepted when the server closes, asyncio leaves open.
        while tasks := asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}:
            clients: list[_Connection | _Greeting] = [*self._log.open, *self._log.greeting]
            for client in clients:
                client.drop()
            await asyncio.wait(tasks, timeout=0.01)
        server.close()

    def _meet(self) -> asyncio.Protocol:
        connection = _Connection(self._answer, self._log)
        return connection if self._tls is None else _Greeting(connection, self._tls)


class _Log:
    """What a server has seen. Written by its own thread, read by any, always under `changed`."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: list[Request] = []
        self.greeting: set[_Greeting] = set()
        self.open: set[_Connection] = set()
        self.accepted = 0
        self.abandoned = 0

    def opened(self, connection: _Connection) -> int:
        with self.changed:
            self.open.add(connection)
            self.accepted += 1
            self.changed.notify_all()
            return self.accepted - 1

    def asked(self, request: Request) -> None:
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()

    def closed(self, connection: _Connection, *, abandoned: bool) -> None:
        with self.changed:
            self.open.discard(connection)
            self.abandoned += abandoned
            self.changed.notify_all()


class _Greeting(asyncio.Protocol):
    """A client before TLS is agreed on. `create_server(ssl=…)` knows nobody before that, and could not drop them."""

    def __init__(self, connection: _Connection, tls: ssl.SSLContext) -> None:
        self.connection = connection
        self.greeting = connection.log.greeting
        self.tls = tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()  # what comes is for the handshake, which begins in the task
        self.greeting.add(self)
        self.task = asyncio.get_running_loop().create_task(self.shake_hands())

    async def shake_hands(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            agreed = await loop.start_tls(self.transport, self.connection, self.tls, server_side=True)
        except OSError:
            return  # they have not agreed, or the client has left
        finally:
            self.greeting.discard(self)
        if agreed is not None and not self.connection.lost:
            self.connection.connection_made(agreed)

    def drop(self) -> None:
        self.transport.abort()


class _Connection(asyncio.Protocol):
    """One client: its requests are answered one after the other, and an answer ends at once when its client leaves."""

    def __init__(self, answer: Answer, log: _Log) -> None:
        self.answer = answer
        self.log = log
        self.received = bytearray()
        self.arrived = asyncio.Event()
        self.flushed = asyncio.Event()
        self.flushed.set()
        self.owing = False
        self.lost = False
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # A limit of zero makes `flushed` mean it: a reset cannot overtake bytes that are still in this process.
        # asyncio's TLS takes zero for a limit that even an empty buffer has reached.
        self.transport.set_write_buffer_limits(high=1 if transport.get_extra_info("ssl_object") else 0, low=0)
        self.number = self.log.opened(self)
        self.task = asyncio.get_running_loop().create_task(self.serve())

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.arrived.set()

    def pause_writing(self) -> None:
        self.flushed.clear()

    def resume_writing(self) -> None:
        self.flushed.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost = True
        if self.task is not None:
            self.task.cancel()
            self.log.closed(self, abandoned=self.owing)

    def drop(self, *, reset: bool = False) -> None:
        """End the connection from this side; with `reset` the client gets an error instead of an end."""
        self.owing = False
        if reset:
            # Closing with a linger time of zero is how a socket is told to send a reset.
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    async def serve(self) -> None:
        keep_alive = True
        while keep_alive:
            try:
                request = await self.next_request()
            except ValueError as error:
                await self.send(_failure(400, str(error)))
                break
            self.log.asked(request)
            self.owing = True
            await self.send(self.decide(request), head_only=request.method == "HEAD")
            self.owing = False
            keep_alive = request.headers.get("connection", "").lower() != "close"
        self.transport.close()

    async def next_request(self) -> Request:
        while (parsed := http1.parse(self.received)) is None:
            self.arrived.clear()
            await self.arrived.wait()
        del self.received[: parsed.length]
        return Request(
            method=parsed.method,
            target=parsed.target,
            headers=parsed.headers,
            body=parsed.body,
            json=_json(parsed.body),
            connection=self.number,
            at=time.monotonic(),
        )

    def decide(self, request: Request) -> Reply:
        try:
            reply: object = self.answer(request)
        except Exception as error:  # noqa: BLE001 - a mistake in the test's own function; its client hears of it
            return _failure(500, f"{type(error).__name__}: {error}")
        if isinstance(reply, Reply):
            return reply
        return _failure(500, f"the answering function must return a Reply, got: {type(reply).__name__}")

    async def send(self, reply: Reply, *, head_only: bool = False) -> None:
        await _pause(reply.first_byte_delay)
        if reply.raw is not None:
            await self.send_pieces(reply.raw, reply.wait_before, chunked=False)
            await self.conclude(reply.then, chunked=False)
            return
        chunked = reply.chunks is not None or reply.then != "end"
        await self.write(http1.head(reply.status, _headers(reply, chunked=chunked)))
        if head_only:
            return
        await self.send_pieces(
            [reply.body] if reply.chunks is None else reply.chunks, reply.wait_before, chunked=chunked
        )
        await self.conclude(reply.then, chunked=chunked)

    async def send_pieces(
        self, pieces: Sequence[bytes | Gate], wait_before: Callable[[int], float], *, chunked: bool
    ) -> None:
        for index, piece in enumerate(pieces):
            await _pause(wait_before(index))
            if isinstance(piece, Gate):
                await piece.passed()
            else:
                await self.write(http1.chunk(piece) if chunked else piece)

    async def conclude(self, then: Then, *, chunked: bool) -> None:
        match then:
            case "end":
                await self.write(http1.LAST_CHUNK if chunked else b"")
                return
            case "half_close":
                self.owing = False
                if self.transport.can_write_eof():
                    self.transport.write_eof()
                else:  # TLS has no half of a connection to close
                    self.transport.close()
            case "reset":
                self.drop(reset=True)
            case "stall":
                pass
        await _pause(math.inf)

    async def write(self, data: bytes) -> None:
        if self.transport.is_closing():
            await asyncio.sleep(0)  # here whoever answers hears that nobody listens any more
            return
        self.transport.write(data)
        await self.flushed.wait()


def _in_order(replies: Iterable[Reply]) -> Answer:
    remaining = iter(replies)

    def answer(request: Request) -> Reply:
        reply = next(remaining, None)
        if reply is None:
            return _failure(500, f"no reply is left for {request.method} {request.target}")
        return reply

    return answer


def _failure(status: int, message: str) -> Reply:
    return Reply(
        status=status, body=msgspec.json.encode({"error": {"message": f"loopback server: {message}"}})
    )


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None


def _headers(reply: Reply, *, chunked: bool) -> dict[str, str]:
    framing = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(reply.body))}
    return reply.all_headers() | framing


async def _pause(seconds: float) -> None:
    if seconds == math.inf:
        await asyncio.get_running_loop().create_future()
    elif seconds:
        await asyncio.sleep(seconds)
