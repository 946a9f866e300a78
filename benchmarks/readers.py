"""Ways to read one stream of a provider: each is a function from a base URL to an asynchronous reader of its texts.

Rule of this file: a peer is used as its own documentation would have it, with its pool's limits opened, and pays for
its own imports only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

__all__ = ["Reader", "aiohttp_reader", "httpx_reader", "openai_reader", "raw_reader"]

Reader = Callable[[], AsyncIterator[str]]

_PATH = "/chat/completions"
_BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],"stream":true}'
_HEADERS = {"content-type": "application/json"}
_MARK = b'"content":"'


def raw_reader(base: str) -> Reader:
    """asyncio's own streams and a search for the text in the bytes: no HTTP, no JSON. What is left is the floor."""
    host, _, path = base.removeprefix("http://").partition("/")
    address, _, port = host.partition(":")
    head = f"POST /{path}{_PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(_BODY)}\r\n\r\n"
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def read() -> AsyncIterator[str]:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(address, int(port))
        writer.write(head.encode() + _BODY)
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            texts, rest = _search(rest + await reader.read(65536))
            for text in texts:
                yield text
        idle.append((reader, writer))

    return read


def httpx_reader(base: str) -> Reader:
    """httpx's `AsyncClient`, and the same search: what the HTTP library alone costs."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    client = httpx.AsyncClient(limits=limits, timeout=300, trust_env=False)

    async def read() -> AsyncIterator[str]:
        rest = b""
        async with client.stream("POST", base + _PATH, content=_BODY, headers=_HEADERS) as response:
            async for chunk in response.aiter_raw():
                texts, rest = _search(rest + chunk)
                for text in texts:
                    yield text

    return read


def aiohttp_reader(base: str) -> Reader:
    """aiohttp line by line, each line's JSON decoded by msgspec."""
    import aiohttp
    import msgspec

    decode = msgspec.json.Decoder().decode
    sessions: list[aiohttp.ClientSession] = []

    async def read() -> AsyncIterator[str]:
        if not sessions:
            connector = aiohttp.TCPConnector(limit=0)
            sessions.append(aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)))
        async with sessions[0].post(base + _PATH, data=_BODY, headers=_HEADERS) as response:
            async for line in response.content:
                if line.startswith(b"data: {") and (text := _text(decode(line[6:]))):
                    yield text

    return read


def openai_reader(base: str) -> Reader:
    """OpenAI's SDK."""
    import openai

    client = openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0)
    said: Any = [{"role": "user", "content": "hi"}]

    async def read() -> AsyncIterator[str]:
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=said, stream=True)
        async for chunk in stream:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    return read


def _search(data: bytes) -> tuple[list[str], bytes]:
    """The texts of the events that are complete, and what is left."""
    *events, rest = data.split(b"\n\n")
    texts = []
    for event in events:
        _, _, after = event.partition(_MARK)
        if after and (text := after[: after.index(b'"')]):
            texts.append(text.decode())
    return texts, rest


def _text(chunk: Any) -> str | None:
    choices = chunk["choices"]
    text: str | None = choices[0]["delta"].get("content") if choices else None
    return text
