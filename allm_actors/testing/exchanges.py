"""Replies of providers, for a loopback server: recorded exchanges, generated streams, and typical faults.

Rule of this file: an exchange is data, in a file or made here. Streams have one chunk per server-sent event.

Source: OpenAI API reference, "Chat completions: the chat completion chunk object" and "Error codes"; WHATWG HTML,
"Server-sent events", section 9.2.5.
"""

from __future__ import annotations

import base64
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from allm_actors.data import ToolCall

from .replies import Reply

__all__ = ["FAULTS", "Exchange", "chat_completions", "load_exchange", "load_exchanges", "refusal", "sse"]

# The loopback connection has its own; and a recorded body is never compressed.
_OF_THE_CONNECTION = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request that was once sent to a provider, and the reply that came."""

    name: str
    provider: str
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    json: Any = field(repr=False)
    reply: Reply = field(repr=False)


def load_exchange(path: str | Path) -> Exchange:
    """The recorded exchange in a file that holds one. Raises ValueError for a file that holds none, or several.

    Its format, and that of files with several, is in the documentation: reference/recordings.md.
    """
    found = load_exchanges(Path(path))
    if len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} exchanges; read it with load_exchanges")
    return found[0]


def load_exchanges(path: str | Path) -> list[Exchange]:
    """Every recorded exchange of a file, or of a folder's `.json` files by their names, in order.

    Raises ValueError for a file that is no recording, and FileNotFoundError.
    """
    path = Path(path)
    if path.is_dir():
        return [exchange for file in sorted(path.glob("*.json")) for exchange in load_exchanges(file)]
    try:
        recorded = msgspec.json.decode(path.read_bytes())
        several = recorded.get("exchanges")
        if several is None:
            return [_exchange(path.stem, recorded)]
        name = f"{path.stem}__{{:02}}of{len(several):02}"
        return [_exchange(name.format(number), each) for number, each in enumerate(several, 1)]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a recording of exchanges: {type(error).__name__}: {error}") from None


def sse(*payloads: object, done: bool = True) -> tuple[bytes, ...]:
    """A stream of `data:` events, one chunk each: the payloads as JSON and, if `done`, OpenAI's `[DONE]`."""
    events = tuple(b"data: %b\n\n" % msgspec.json.encode(payload) for payload in payloads)
    return (*events, b"data: [DONE]\n\n") if done else events


def chat_completions(
    *,
    text: str | Sequence[str] = "",
    tool_calls: Sequence[ToolCall] = (),
    finish: str | None = None,
    usage: Mapping[str, Any] | None = None,
    model: str = "gpt-4.1-mini",
    id: str = "chatcmpl-loopback",
) -> tuple[bytes, ...]:
    """A streamed reply in OpenAI's chat completions dialect, as chunks for `Reply`.

    A text is sent word by word, or in the pieces given. Arguments are sent in fragments of a few characters,
    which split JSON at inconvenient places. `finish` is derived from the calls unless it is given; `usage` is
    a chunk of its own.
    """
    frame = {"id": id, "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    pieces = re.findall(r"\S+\s*|\s+", text) if isinstance(text, str) else text
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if tool_calls and not text else ""}]
    deltas += [{"content": piece} for piece in pieces]
    deltas += [
        {"tool_calls": [delta]}
        for index, call in enumerate(tool_calls)
        for delta in _call_deltas(index, call)
    ]
    payloads = [frame | {"choices": [_choice(delta, None)]} for delta in deltas]
    payloads.append(frame | {"choices": [_choice({}, finish or ("tool_calls" if tool_calls else "stop"))]})
    if usage is not None:
        payloads.append(frame | {"choices": [], "usage": dict(usage)})
    return sse(*payloads)


def refusal(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """An error as OpenAI words it: `{"error": {"message", "type", "param", "code"}}`."""
    kind = (
        "invalid_request_error" if status < 429 else "server_error" if status >= 500 else "rate_limit_error"
    )
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Reply(status=status, headers=headers or {}, body=msgspec.json.encode({"error": error}))


def _exchange(name: str, recorded: Mapping[str, Any]) -> Exchange:
    request = recorded["request"]
    url = urlsplit(request["url"])
    binary = request.get("body_b64")
    return Exchange(
        name=name,
        provider=recorded["provider"],
        method=request["method"],
        target=f"{url.path}?{url.query}" if url.query else url.path,
        headers=request.get("headers") or {},
        json=base64.b64decode(binary) if binary else request.get("body"),
        reply=_recorded_reply(recorded["response"]),
    )


def _recorded_reply(response: Mapping[str, Any]) -> Reply:
    headers = {name.lower(): value for name, value in (response.get("headers") or {}).items()}
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    encoded = response.get("body_b64")
    body = base64.b64decode(encoded) if encoded else (response.get("body_text") or "").encode()
    reads = response.get("reads")
    chunks = _events(body) if reads is None and streamed else None if reads is None else _cut(body, reads)
    return Reply(
        status=response["status"],
        headers={name: value for name, value in headers.items() if name not in _OF_THE_CONNECTION},
        body=b"" if chunks is not None else body,
        chunks=chunks,
        waits=[float(wait) for wait, _ in reads or ()],
        pace=response.get("pace", 0.0),
        first_byte_delay=response.get("first_byte_delay", 0.0),
        then=response.get("then", "end"),
    )


def _cut(body: bytes, reads: Sequence[tuple[float, int]]) -> list[bytes]:
    """The body in the pieces in which it was read; what a hook made longer or shorter is settled in the last one."""
    ends = list(itertools.accumulate(size for _, size in reads))[:-1]
    return [body[start:end] for start, end in itertools.pairwise([0, *ends, len(body)])] if reads else []


def _events(body: bytes) -> list[bytes]:
    return re.findall(rb".+?(?:\r?\n\r?\n|\Z)", body, re.DOTALL)


def _call_deltas(index: int, call: ToolCall) -> list[dict[str, Any]]:
    arguments = call.raw_arguments or msgspec.json.encode(call.arguments).decode()
    opening = {
        "index": index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": ""},
    }
    fragments = re.findall(r".{1,7}", arguments, re.DOTALL)
    return [opening, *({"index": index, "function": {"arguments": fragment}} for fragment in fragments)]


def _choice(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


_HELLO = chat_completions(text="Hello there, how are you?")
_HTML = {"content-type": "text/html; charset=utf-8"}
_OVERLOADED = {
    "error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}
}

FAULTS: Mapping[str, Reply] = MappingProxyType(
    {
        "401": refusal(401, "Incorrect API key provided.", code="invalid_api_key"),
        "429": refusal(429, "Rate limit reached.", code="rate_limit_exceeded", headers={"retry-after": "1"}),
        "500": refusal(500, "The server had an error."),
        "502 from a proxy": Reply(status=502, headers=_HTML, body=b"<html><h1>502 Bad Gateway</h1></html>\n"),
        "never answers": Reply(first_byte_delay=math.inf),
        "head, then silence": Reply(chunks=(), then="stall"),
        "stalls mid-stream": Reply(chunks=_HELLO[:3], then="stall"),
        "resets mid-stream": Reply(chunks=_HELLO[:3], then="reset"),
        "closes mid-stream": Reply(chunks=_HELLO[:3], then="half_close"),
        "closes mid-event": Reply(chunks=(*_HELLO[:3], _HELLO[3][:20]), then="half_close"),
        "ends without a finish": Reply(chunks=_HELLO[:3]),
        "error mid-stream": Reply(chunks=(*_HELLO[:3], *sse(_OVERLOADED))),
        "event that is not JSON": Reply(
            chunks=(*_HELLO[:3], b'data: {"choices": [{"delta"\n\n', *_HELLO[3:])
        ),
        "8 MiB line": Reply(chunks=(b"data: ", *[b"x" * 65536] * 128, b"\n\n")),
        "HTML with status 200": Reply(headers=_HTML, body=b"<html><h1>Please log in</h1></html>\n"),
        "empty body": Reply(),
    }
)
"""Faulty replies to a chat completions request, by what is wrong with them."""
