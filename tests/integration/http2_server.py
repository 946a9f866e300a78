"""A server that speaks HTTP/2 over TLS on 127.0.0.1, and does to its clients what a server of HTTP/2 can do.

The rule of this file: a test says what each stream does, in a coroutine on the server's own loop; what the server has
seen is a fact that can be waited for.
"""

import asyncio
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.settings
import msgspec
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from allm_actors.testing.loopback import Gate, Reply, Request

from .stacks import server_tls

BEGUN = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun"
STREAM = {"content-type": "text/event-stream"}


@dataclass
class Seen:
    """What the server has seen so far. `resets` are those of its clients, by connection and stream."""

    requests: list[Request] = field(default_factory=list)
    accepted: int = 0
    protocols: list[str | None] = field(default_factory=list)
    resets: list[tuple[int, int, ErrorCodes]] = field(default_factory=list)
    open: set["Peer"] = field(default_factory=set)

    @property
    def connections(self) -> int:
        return len(self.open)


class Http2Server:
    """Serves until its `with` block ends, from a daemon thread of its own.

    `answer` is called with each stream once its request is whole. `streams` is how many a connection may have at once,
    None: that is never said. A `mute` one shakes hands and says nothing. While `early` is set it is the answer to
    whatever begins, before its body has come. A connection for which `tls` chooses HTTP/1.1 gets half of an answer.
    """

    def __init__(
        self,
        answer: Callable[["Stream"], Coroutine[Any, Any, None]],
        *,
        streams: int | None = 100,
        mute: bool = False,
    ) -> None:
        self._answer, self._streams, self.mute = answer, streams, mute
        self.early: Reply | None = None
        self.tls = server_tls()
        self.tls.set_alpn_protocols(["h2", "http/1.1"])
        self._seen, self._changed = Seen(), threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def seen(self) -> Seen:
        return self._seen

    def wait_for(self, condition: Callable[[Seen], bool], timeout: float = 10.0) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._seen), timeout):
                raise TimeoutError(f"not so within {timeout} s: {self._seen}")

    def note(self, change: Callable[[Seen], object]) -> None:
        with self._changed:
            change(self._seen)
            self._changed.notify_all()

    def in_loop(self, act: Callable[[], object]) -> None:
        """Let the server do something now."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(act)

    def __enter__(self) -> Self:
        listening: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="http2-server", daemon=True
        )
        self._thread.start()
        self._port = listening.result(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self.in_loop(self._closing.set)
        self._thread.join(timeout=10)

    async def _serve(self, listening: "Future[int]") -> None:
        self._loop = asyncio.get_running_loop()
        server = await self._loop.create_server(
            lambda: Peer(self, self._answer, self._streams), "127.0.0.1", 0, ssl=self.tls
        )
        listening.set_result(server.sockets[0].getsockname()[1])
        await self._closing.wait()
        server.close()
        peers = tuple(self._seen.open)
        for peer in peers:
            peer.transport.abort()
        tasks = [task for peer in peers for task in peer.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Peer(asyncio.Protocol):
    """One connection of a client."""

    def __init__(
        self,
        server: Http2Server,
        answer: Callable[["Stream"], Coroutine[Any, Any, None]],
        streams: int | None,
    ) -> None:
        self.server, self.answer = server, answer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        if streams is None:
            del self.h2.local_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS]
        else:
            self.h2.local_settings = h2.settings.Settings(
                client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams}
            )
        self.streams: dict[int, Stream] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        protocol = transport.get_extra_info("ssl_object").selected_alpn_protocol()

        def joined(seen: Seen) -> None:
            self.number = seen.accepted
            seen.accepted += 1
            seen.protocols.append(protocol)
            seen.open.add(self)

        self.server.note(joined)
        self.old = protocol == "http/1.1"
        if not (self.old or self.server.mute):
            self.h2.initiate_connection()
            self.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        self.server.note(lambda seen: seen.open.discard(self))
        for task in self.tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        if self.old:
            self.transport.write(BEGUN)
        if self.old or self.server.mute:
            return
        try:
            events = self.h2.receive_data(data)
        except ProtocolError:
            self.transport.abort()
            raise
        for event in events:
            self.happened(event)
        self.flush()

    def happened(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self.streams[event.stream_id] = Stream(self, event.stream_id, event.headers)
                if self.server.early is not None:
                    self.start(
                        self.streams[event.stream_id], self.streams[event.stream_id].say(self.server.early)
                    )
            case h2.events.DataReceived():
                stream = self.streams[event.stream_id]
                stream.body += event.data
                if stream.task is None:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                else:  # whoever has answered needs no more
                    stream.unread += event.flow_controlled_length
            case h2.events.StreamEnded() if self.streams[event.stream_id].task is None:
                stream = self.streams[event.stream_id]
                self.server.note(lambda seen: seen.requests.append(stream.request(self.number)))
                self.start(stream, self.answer(stream))
            case h2.events.StreamReset():
                stream = self.streams.pop(event.stream_id)
                stream.gone = True
                self.h2.acknowledge_received_data(stream.unread, stream.id)
                if stream.task is not None:
                    stream.task.cancel()
                code = ErrorCodes(event.error_code)
                self.server.note(lambda seen: seen.resets.append((self.number, event.stream_id, code)))
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for stream in self.streams.values():
                    stream.room.set()

    def start(self, stream: "Stream", answer: Coroutine[Any, Any, None]) -> None:
        stream.task = asyncio.get_running_loop().create_task(answer)
        self.tasks.add(stream.task)
        stream.task.add_done_callback(self.tasks.discard)

    def flush(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.h2.data_to_send())

    def goaway(self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Say that no stream after `last` will be answered. Written by hand: h2 takes it for the end of everything."""
        self.transport.write(struct.pack(">I", 8)[1:] + b"\x07\0\0\0\0\0" + struct.pack(">II", last, code))


class Stream:
    """A request, and what its answer is made of."""

    def __init__(self, peer: Peer, number: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.peer, self.id = peer, number
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.body = bytearray()
        self.room = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.gone = False
        self.sent = self.unread = 0

    @property
    def json(self) -> object:
        return msgspec.json.decode(self.body) if self.body else None

    def request(self, connection: int) -> Request:
        return Request(
            method=self.headers[":method"],
            target=self.headers[":path"],
            headers=self.headers,
            body=bytes(self.body),
            json=self.json,
            connection=connection,
            at=time.monotonic(),
        )

    def head(self, status: int = 200, headers: dict[str, str] = STREAM, *, end: bool = False) -> None:
        self.peer.h2.send_headers(self.id, [(":status", str(status)), *headers.items()], end_stream=end)
        self.peer.flush()

    async def data(self, data: bytes) -> None:
        """Send, as fast as the client allows."""
        while data:
            while (room := self.peer.h2.local_flow_control_window(self.id)) <= 0:
                self.room.clear()
                await self.room.wait()
            size = min(room, self.peer.h2.max_outbound_frame_size)
            self.peer.h2.send_data(self.id, data[:size])
            self.sent += len(data[:size])
            data = data[size:]
            self.peer.flush()

    def end(self) -> None:
        self.peer.h2.end_stream(self.id)
        self.peer.flush()

    def reset(self, code: ErrorCodes) -> None:
        self.peer.h2.reset_stream(self.id, code)
        self.peer.flush()

    async def say(self, reply: Reply) -> None:
        """A reply as a server of HTTP/1.1 would give it: its status, headers and chunks, and its end."""
        self.head(reply.status, reply.all_headers())
        for piece in [reply.body] if reply.chunks is None else reply.chunks:
            await (piece.passed() if isinstance(piece, Gate) else self.data(piece))
        if reply.then == "end":
            self.end()
