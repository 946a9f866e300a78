"""Ways to read one stream of a provider: each is a function from a base URL to an asynchronous reader of its texts.

Rule of this file: a peer is used as its own documentation would have it, with its pool's limits opened, and pays for
its own imports only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

__all__ = [
    "Reader",
    "aiohttp_reader",
    "anthropic_reader",
    "genai_reader",
    "httpx_reader",
    "langchain_reader",
    "litellm_reader",
    "openai_agents_reader",
    "openai_reader",
    "pydantic_ai_reader",
    "raw_reader",
]

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


def anthropic_reader(base: str) -> Reader:
    """Anthropic's SDK."""
    import anthropic

    client = anthropic.AsyncAnthropic(base_url=base, api_key="none", max_retries=0)
    said: Any = [{"role": "user", "content": "hi"}]

    async def read() -> AsyncIterator[str]:
        stream = await client.messages.create(
            model="claude-sonnet-4-5", max_tokens=1024, messages=said, stream=True
        )
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text

    return read


def genai_reader(base: str) -> Reader:
    """Google's SDK for Gemini: over aiohttp where that is installed, else over httpx; without a limit."""
    import google.genai as genai
    import httpx
    from google.genai import types

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    options = types.HttpOptions(base_url=base, api_version="v1beta", async_client_args={"limits": limits})
    client = genai.Client(api_key="none", http_options=options)

    async def read() -> AsyncIterator[str]:
        model = "gemini-2.0-flash"
        async for chunk in await client.aio.models.generate_content_stream(model=model, contents="hi"):
            if chunk.text:
                yield chunk.text

    return read


def litellm_reader(base: str) -> Reader:
    """litellm, asking an OpenAI model."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import asks the network
    os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT", "100000")
    os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT_PER_HOST", "100000")
    import litellm

    litellm.suppress_debug_info = True
    said: Any = [{"role": "user", "content": "hi"}]

    async def read() -> AsyncIterator[str]:
        stream: Any = await litellm.acompletion(
            model="openai/gpt-4o-mini",
            api_base=base,
            api_key="none",
            messages=said,
            stream=True,
            max_retries=0,
        )
        async for chunk in stream:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    return read


def pydantic_ai_reader(base: str) -> Reader:
    """pydantic-ai's `Agent.run_stream` over OpenAI's SDK."""
    import openai
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0)
    agent = Agent(OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client)))

    async def read() -> AsyncIterator[str]:
        async with agent.run_stream("hi") as run:
            async for text in run.stream_text(delta=True, debounce_by=None):
                yield text

    return read


def openai_agents_reader(base: str) -> Reader:
    """openai-agents' `Runner.run_streamed` over OpenAI's SDK."""
    import openai
    from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled

    set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0)
    agent = Agent(name="a", model=OpenAIChatCompletionsModel("gpt-4o-mini", openai_client=client))

    async def read() -> AsyncIterator[str]:
        async for event in Runner.run_streamed(agent, "hi").stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                yield event.data.delta

    return read


def langchain_reader(base: str) -> Reader:
    """langchain-openai's `ChatOpenAI.astream`, over OpenAI's SDK."""
    from langchain_openai import ChatOpenAI

    key: Any = "none"
    model = ChatOpenAI(model="gpt-4o-mini", base_url=base, api_key=key, max_retries=0)

    async def read() -> AsyncIterator[str]:
        async for chunk in model.astream("hi"):
            if isinstance(chunk.content, str) and chunk.content:
                yield chunk.content

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
