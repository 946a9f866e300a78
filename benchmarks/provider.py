"""A provider that streams chunks of text at a pace, in a process of its own, as OpenAI, Anthropic or Gemini do.

    POST /{pace}/{chunks}/{group}/chat/completions      a stream; `pace` is milliseconds, 0 is full speed
    POST /{pace}/{chunks}/{group}/v1/messages           the same, as Anthropic says it
    POST /{pace}/{chunks}/{group}/v1beta/models/…       the same, as Gemini does
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.measure import ROOT, SERVER_CPU, pin

__all__ = ["TEXT_LENGTH", "provider"]

TEXT_LENGTH = 20
_START_DELAY = 0.3  # seconds after the last stream has opened: time for a client to read its meters
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_NOTHING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


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


class Dialect(NamedTuple):
    """The bytes of one provider's stream: its beginning with the text "S", what is around a chunk's text, its end."""

    first: bytes
    before: bytes
    after: bytes
    last: bytes

    def chunk(self, number: int) -> bytes:
        """One chunk; its text is `number`."""
        return b"%s%0*d%s" % (self.before, TEXT_LENGTH, number, self.after)


def _dialect(first: bytes, chunk: bytes, last: bytes) -> Dialect:
    before, _, after = chunk.partition(_NUMBER)
    return Dialect(first, before, after, last + _framed(b""))


def _framed(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def _sse(data: Mapping[str, object], event: str = "") -> bytes:
    name = f"event: {event}\n" if event else ""
    return _framed(f"{name}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode())


def _openai() -> Dialect:
    def event(delta: Mapping[str, str], finish: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {
            "id": "chatcmpl-9f3",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "gpt-4o-mini",
            "system_fingerprint": "fp_1",
            "choices": [choice],
        }
        return _sse({**chunk, **more})

    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    first = event({"role": "assistant", "content": ""}) + event({"content": "S"})
    last = event({}, "stop") + event({}, choices=[], usage=usage) + _framed(b"data: [DONE]\n\n")
    return _dialect(first, event({"content": _NUMBER.decode()}), last)


def _anthropic() -> Dialect:
    def event(kind: str, **fields: object) -> bytes:
        return _sse({"type": kind, **fields}, kind)

    def text(said: str) -> bytes:
        return event("content_block_delta", index=0, delta={"type": "text_delta", "text": said})

    message = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    first = event("message_start", message=message) + event(
        "content_block_start", index=0, content_block=block
    )
    stopped = {"stop_reason": "end_turn", "stop_sequence": None}
    last = event("content_block_stop", index=0)
    last += event("message_delta", delta=stopped, usage={"output_tokens": 9}) + event("message_stop")
    return _dialect(first + text("S"), text(_NUMBER.decode()), last)


def _gemini() -> Dialect:
    def event(said: str, finish: str | None = None) -> bytes:
        candidate: dict[str, object] = {"content": {"parts": [{"text": said}], "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18}
        said_by = {"modelVersion": "gemini-2.0-flash", "responseId": "r1"}
        return _sse({"candidates": [candidate], "usageMetadata": usage, **said_by})

    return _dialect(event("S"), event(_NUMBER.decode()), event("", "STOP"))


_NUMBER = b"#" * TEXT_LENGTH
_DIALECTS = {"chat": _openai(), "v1": _anthropic(), "v1beta": _gemini()}


class _Group:
    """Streams that are paced together, once all are open."""

    def __init__(self, key: str, pace: int, chunks: int, size: int) -> None:
        self.key, self.pace, self.chunks, self.size = key, pace, chunks, size
        self.streams: list[tuple[asyncio.Transport, Dialect]] = []
        self.watchers: list[asyncio.Transport] = []

    def open(self, stream: asyncio.Transport, dialect: Dialect) -> None:
        stream.write(_HEAD + dialect.first)
        self.streams = [*(each for each in self.streams if not each[0].is_closing()), (stream, dialect)]
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

    async def _pace(self, streams: list[tuple[asyncio.Transport, Dialect]]) -> None:
        # Every millisecond its share of the streams.
        shares = [streams[first :: self.pace] for first in range(self.pace)]
        due = time.monotonic() + _START_DELAY
        for tick in range(self.pace * (self.chunks + 1)):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += 0.001
            over = tick >= self.pace * self.chunks
            for stream, dialect in shares[tick % self.pace]:
                if not stream.is_closing():
                    stream.write(dialect.last if over else dialect.chunk(time.monotonic_ns()))
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
        _, pace, chunks, size, place, *_ = path.split("/")
        if not watches and place not in _DIALECTS:
            self._transport.write(_NOTHING)
            return
        if pace == "0":
            said = _DIALECTS[place]
            self._transport.write(
                b"".join([_HEAD, said.first, *map(said.chunk, range(int(chunks))), said.last])
            )
            return
        key = f"{pace}/{chunks}/{size}"
        group = _groups.get(key)
        if group is None:
            group = _groups[key] = _Group(key, int(pace), int(chunks), int(size))
        if watches:
            group.watch(self._transport)
        else:
            group.open(self._transport, _DIALECTS[place])


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
