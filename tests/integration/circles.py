"""Calls of one kind with the garbage collector off, and what they left behind that only a collection would free.

    python -m tests.integration.circles chat|aio|host|http|raises|policy

Rule of this file: a program of its own, because the collector sees the whole process.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import itertools
import sys
from contextlib import AsyncExitStack

import allm_actors as allm
from allm_actors.testing import script
from allm_actors.testing.loopback import LoopbackServer, Reply

ASK = [allm.user("go")]
SAID = (
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
)


def add(a: int, b: int = 1) -> int:
    """A sum."""
    return a + b


async def divide(a: int) -> float:
    """A division by zero."""
    return a / 0


TOOLS = [allm.tool(add), allm.tool(divide), allm.tool(name="halve")(lambda a: a / 0)]


def engine(*names, **params):
    """A model that calls tools at once, `add` twice if none is named, and then answers."""
    calls = [script.tool_call(name, {"a": n}) for n, name in enumerate(names or ["add"] * 2)]
    scripts = [[*calls, script.finish("tool_calls")], [script.text("done"), script.finish("stop")]]
    return allm.Engine("fake", tools=TOOLS, adapter_opts={"scripts": scripts}, params=params)


async def chat(stack):
    return lambda: asyncio.to_thread(lambda: allm.chat(engine(), ASK).halted_reason)


async def aio(stack):
    async def call():
        return (await allm.aio.chat(engine(), ASK)).halted_reason

    return call


async def host(stack):
    attached = await stack.enter_async_context(allm.Host())

    async def call():
        return (await attached.session("s", engine()).reply("go")).halted_reason

    return call


async def raises(stack):
    return lambda: asyncio.to_thread(lambda: allm.chat(engine("divide", "halve"), ASK).halted_reason)


async def policy(stack):
    def decide(call, error):
        return "continue"

    async def call():
        return (await allm.aio.chat(engine("divide", "halve", on_tool_error=decide), ASK)).halted_reason

    return call


async def http(stack):
    reply = Reply(chunks=SAID, headers={"content-type": "text/event-stream"})
    server = stack.enter_context(LoopbackServer(itertools.repeat(reply)))
    remote = allm.Engine("openai", model="m", adapter_opts={"base_url": f"{server.url}/v1"})

    async def call():
        return (await allm.aio.chat(remote, ASK, api_key="k")).halted_reason

    return call


async def main(make):
    async with AsyncExitStack() as stack:
        call = await make(stack)
        for _ in range(3):
            await call()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        for _ in range(5):
            assert await call() == "completed"
        gc.collect()  # what the last call has not ended yet is in use, and no garbage
        left = collections.Counter(type(each).__qualname__ for each in gc.garbage)
        gc.set_debug(0)
        sys.stdout.write(str(dict(left)))


if __name__ == "__main__":
    doors = {"chat": chat, "aio": aio, "host": host, "http": http, "raises": raises, "policy": policy}
    asyncio.run(main(doors[sys.argv[1]]))
