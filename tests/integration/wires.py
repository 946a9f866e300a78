"""Every dialect of the catalogue over real sockets: how it is asked, and a stream of its own to be answered with.

Rule of this file: nothing here names a dialect. A new one needs a sample in `tests/exchanges`, and is met everywhere.
"""

import asyncio
import functools
import re
from contextlib import aclosing
from pathlib import Path

from allm_actors.data import Message, Request
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.routes import ENDPOINTS, dialects_of
from allm_actors.testing.loopback import Reply
from tests.conformance import aws_frames

KEY = "sk-canary-0123456789abcdef"
EXCHANGES = Path(__file__).parents[1] / "exchanges"
ROWS = {dialect: row for row in reversed(PROVIDERS.values()) for dialect in dialects_of(row)}
DIALECTS = sorted(ROWS)
ASK = Request(messages=[Message(role="user", content="hi")], model="m")


@functools.cache
def sample(dialect):
    return next(EXCHANGES.glob(f"{dialect}.*")).read_bytes()


def is_binary(dialect):
    return next(EXCHANGES.glob(f"{dialect}.*")).suffix == ".bin"


@functools.cache
def frames(dialect):
    """The sample in pieces that end where events do."""
    stream = sample(dialect)
    if is_binary(dialect):
        return aws_frames.split(stream)
    mark = rb"\n\n" if b"\n\n" in stream else rb"\n"
    return re.findall(rb".+?(?:%b|\Z)" % mark, stream, re.DOTALL)


def begun(dialect):
    """The beginning of the sample, with a text in it and more to come."""
    decoder, kept = find_dialect(dialect).decoder(ROWS[dialect]), []
    for frame in frames(dialect):
        kept.append(frame)
        if any(event.tag == "text_delta" for event in decoder.feed(frame)):
            return kept
    raise AssertionError(f"the sample of {dialect} has no text")


def nothing_much(dialect):
    """A piece that a stream may have as often as it likes."""
    if is_binary(dialect):
        return begun(dialect)[-1]  # more of the text
    return b": ping\n\n" if b"\n\n" in sample(dialect) else b"\n"


def stream_type(dialect):
    return min(find_dialect(dialect).stream_types)


def streamed(dialect, chunks, **how):
    return Reply(**{"chunks": chunks, "headers": {"content-type": stream_type(dialect)}} | how)


def options_for(dialect, row, url):
    endpoints = {name: endpoint for endpoint, name in ENDPOINTS.items()}
    return {"base_url": url} | ({"endpoint": endpoints[dialect]} if dialect in endpoints else {})


async def ask(transport, dialect, url, *, row=None, retry=False, **options):
    """Everything that one call says, event by event."""
    row = row or ROWS[dialect]
    opts = options_for(dialect, row, url) | options
    call = Call(request_id="r1", api_key=KEY, retry=retry, transport=transport, options=opts)
    async with aclosing(find_adapter(row.name).batches(ASK, call)) as answer:
        return [event async for batch in answer for event in batch]


def asked(dialect, url, **options):
    """The same, for one call alone."""

    async def run():
        transport = HttpxTransport()
        try:
            return await ask(transport, dialect, url, **options)
        finally:
            await transport.aclose()

    return asyncio.run(run())
