"""A provider that streams OpenAI chat chunks at a pace, in a process of its own.

    POST /{pace}/{chunks}/{group}/chat/completions      a stream; `pace` is milliseconds, 0 is full speed
    GET  /{pace}/{chunks}/{group}/opened                answers when all streams of the group are open

Rule of this file: cheap enough that the client is what is measured. A paced stream says "S" at once and waits until the
whole group is there; then each stream gets one chunk per pace, the streams spread evenly over it. A chunk's text is the
monotonic time at which it was sent, in nanoseconds, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import ROOT, SERVER_CPU, pin

__all__ = ["TEXT_LENGTH", "provider"]

TEXT_LENGTH = 20
_START_DELAY = 0.3  # seconds after the last stream has opened: time for a client to read its meters
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def provider() -> Iterator[str]:
    """The base URL of a provider that serves until the block ends."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _event(delta: dict[str, str], finish: str | None = None, **more: object) -> bytes:
    chunk = {
        "id": "chatcmpl-9f3",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }
    return _framed(f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode())


def _framed(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


_USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
_FIRST = _event({"role": "assistant", "content": ""}) + _event({"content": "S"})
_BEFORE, _, _AFTER = _event({"content": "#" * TEXT_LENGTH}).partition(b"#" * TEXT_LENGTH)
_LAST = (
    _event({}, "stop") + _event({}, choices=[], usage=_USAGE) + _framed(b"data: [DONE]\n\n") + _framed(b"")
)


def _chunk(number: int) -> bytes:
    return b"%s%0*d%s" % (_BEFORE, TEXT_LENGTH, number, _AFTER)


class _Group:
    """Streams that are paced together, once all are open."""

    def __init__(self, key: str, pace: int, chunks: int, size: int) -> None:
        self.key, self.pace, self.chunks, self.size = key, pace, chunks, size
        self.streams: list[asyncio.Transport] = []
        self.watchers: list[asyncio.Transport] = []

    def open(self, stream: asyncio.Transport) -> None:
        stream.write(_HEAD + _FIRST)
        self.streams = [*(each for each in self.streams if not each.is_closing()), stream]
        self._tell()

    def watch(self, watcher: asyncio.Transport) -> None:
        self.watchers.append(watcher)
        self._tell()

    def _tell(self) -> None:
        if len(self.streams) < self.size:
            return
        for watcher in self.watchers:
            watcher.write(_EMPTY)
        self.watchers.clear()
        if len(self.streams) == self.size:
            task = asyncio.get_running_loop().create_task(self._pace(self.streams))
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)

    async def _pace(self, streams: list[asyncio.Transport]) -> None:
        # Every millisecond its share of the streams.
        shares = [streams[first :: self.pace] for first in range(self.pace)]
        due = time.monotonic() + _START_DELAY
        for tick in range(self.pace * (self.chunks + 1)):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += 0.001
            for stream in shares[tick % self.pace]:
                if not stream.is_closing():
                    stream.write(_LAST if tick >= self.pace * self.chunks else _chunk(time.monotonic_ns()))
        del _groups[self.key]


_tasks: set[asyncio.Task[None]] = set()
_groups: dict[str, _Group] = {}


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, end, body = self._held.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head.lower()):
            self._held = b""
            method, path, _ = head.split(b" ", 2)
            self._answer(method == b"GET", path.decode())

    def _answer(self, watches: bool, path: str) -> None:
        _, pace, chunks, size, *_ = path.split("/")
        if pace == "0":
            self._transport.write(_HEAD + _FIRST + b"".join(map(_chunk, range(int(chunks)))) + _LAST)
            return
        key = f"{pace}/{chunks}/{size}"
        group = _groups.get(key)
        if group is None:
            group = _groups[key] = _Group(key, int(pace), int(chunks), int(size))
        if watches:
            group.watch(self._transport)
        else:
            group.open(self._transport)


def _length(head: bytes) -> int:
    _, found, rest = head.partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # whoever started us is gone: so are we


if __name__ == "__main__":
    pin(SERVER_CPU)
    asyncio.run(_serve())
