"""Many streams at once, each one chunk per 20 ms; and one stream at full speed.

    python -m benchmarks.streams [-n 50,200,1000] [-r 3] [subject ...]
    python -m benchmarks.streams -n 1            one stream at full speed

The client has CPU 0, the provider CPU 1. "S" has been read of all streams when the meters are read first: opening is
not in the CPU per chunk. Lag is the time from the provider's write to the reader's hands; slowdown is the length of
the paced part over what it would have been if the client had kept up. "Waited" is how much of that part the client
was ready to run and had no CPU, because others had it: where it is not near zero, lag and slowdown are theirs.
"First" is the time from the call to the first text. `allm …` are sessions of one host: sockets, decoding, actors, the
store and the fold included; `allm, httpx's stack` is the same over httpx's own connections. All are told of by OpenAI's
chat completions, but for the last four: ours and the provider's own SDK, each in Anthropic's and in Gemini's format.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from benchmarks.measure import Column, Subject, arguments, cpu, measure, percentile, rss, show, starved
from benchmarks.provider import TEXT_LENGTH, provider
from benchmarks.readers import (
    Reader,
    aiohttp_reader,
    anthropic_reader,
    genai_reader,
    httpx_reader,
    langchain_reader,
    litellm_reader,
    openai_agents_reader,
    openai_reader,
    pydantic_ai_reader,
    raw_reader,
)

__all__ = ["COLUMNS", "SUBJECTS", "chunks_for"]

PACE = 20  # milliseconds
REFERENCE = "raw asyncio"


class Meter:
    """What N streams bring, and what that costs."""

    def __init__(self, streams: int, chunks: int) -> None:
        self.streams, self.chunks = streams, chunks
        self.lags: list[int] = []
        self._opened = 0
        self._memory = rss()

    def text(self, text: str) -> None:
        """One text has reached its reader."""
        now = time.monotonic_ns()
        if text == "S":
            self._opened += 1
            if self._opened == self.streams:
                self.open()
        else:
            self.lags.append(now - int(text))

    def open(self) -> None:
        """All streams are open."""
        self._cpu, self._clock, self._starved = cpu(), time.monotonic(), starved()
        self._memory = rss() - self._memory

    def numbers(self) -> dict[str, float]:
        """What it came to, now that all streams are over."""
        used, wall = cpu() - self._cpu, time.monotonic() - self._clock - 0.3  # the provider's pause
        waited = starved() - self._starved
        total = self.streams * self.chunks
        numbers = {
            "cpu": used / total * 1e6,
            "slowdown": wall / (self.chunks * PACE / 1000),
            "waited": waited / wall * 100,
            "memory": self._memory / self.streams / 1024,
        }
        if self.lags:
            assert len(self.lags) == total, f"{len(self.lags)} chunks arrived instead of {total}"
            numbers |= {"p50": percentile(self.lags, 50) / 1e6, "p99": percentile(self.lags, 99) / 1e6}
        return numbers


# Subjects: peers.


def peer(make: Callable[[str], Reader]) -> Callable[..., dict[str, float]]:
    """A subject that reads with one of the peers."""

    def run(server: str, streams: int, chunks: int) -> dict[str, float]:
        async def main() -> dict[str, float]:
            if streams == 1:
                readers = {n: make(f"{server}/0/{n}/1") for n in (1, chunks)}
                return await _full_speed(lambda n: readers[n](), chunks)
            async for _ in make(f"{server}/0/2/1")():
                pass  # imports and first-call caches
            read, meter = make(f"{server}/{PACE}/{chunks}/{streams}"), Meter(streams, chunks)
            await asyncio.gather(*[_read(read(), meter) for _ in range(streams)])
            return meter.numbers()

        return asyncio.run(main())

    return run


async def _read(texts: AsyncIterator[str], meter: Meter) -> None:
    async for text in texts:
        meter.text(text)


# Subjects: this library.


def engine(base: str, model: str = "openai-compatible:gpt-4o-mini", **options: Any) -> Any:
    """An engine for the provider at `base`."""
    import allm_actors as allm

    return allm.Engine(model, adapter_opts={"base_url": base, **options}, retry=False)


def attached(
    model: str = "openai-compatible:gpt-4o-mini",
    *,
    path: str = "",
    own: bool = True,
    dispatcher: str = "loop",
) -> Callable[..., dict[str, float]]:
    """`async with Host`, every turn read by a task of the same loop; `path` goes after the provider's base URL."""

    def run(server: str, streams: int, chunks: int) -> dict[str, float]:
        return asyncio.run(_attached(model, path, server, streams, chunks, own=own, dispatcher=dispatcher))

    return run


async def _attached(
    model: str, path: str, server: str, streams: int, chunks: int, *, own: bool, dispatcher: str
) -> dict[str, float]:
    import allm_actors as allm
    from allm_actors.engine.http.transport import HttpxTransport

    stack = {} if own else {"transport": HttpxTransport(own=False)}

    def made(pace: int, n: int, group: int) -> Any:
        return engine(f"{server}/{pace}/{n}/{group}{path}", model, **stack)

    async with allm.Host(dispatcher=dispatcher) as host:
        if streams == 1:
            return await _full_speed(lambda n: _texts(host.session(f"s{n}", made(0, n, 1))), chunks)
        async for _ in _texts(host.session("warm", made(0, 2, 1))):
            pass
        asked, meter = made(PACE, chunks, streams), Meter(streams, chunks)
        sessions = [host.session(f"s{number}", asked) for number in range(streams)]
        await asyncio.gather(*[_read(_texts(session), meter) for session in sessions])
        return meter.numbers()


async def _texts(session: Any) -> AsyncIterator[str]:
    import allm_actors as allm

    async for event in session.reply("hi", api_key="none"):
        if type(event) is allm.TextDelta:
            yield event.delta


def drained(server: str, streams: int, chunks: int) -> dict[str, float]:
    """`with Host`, and a thread per turn that waits for its `result()`."""
    import allm_actors as allm

    with allm.Host() as host:
        if streams == 1:
            return _full_speed_result(host, server, chunks)
        host.session("warm", engine(f"{server}/0/2/1")).reply("hi").result()
        base, meter = f"{server}/{PACE}/{chunks}/{streams}", Meter(streams, chunks)
        sessions = [host.session(f"s{number}", engine(base)) for number in range(streams)]
        threading.stack_size(256 * 1024)
        waiting = [threading.Thread(target=_wait_for_result, args=(session, chunks)) for session in sessions]
        for thread in waiting:
            thread.start()
        urllib.request.urlopen(f"{base}/opened").read()
        meter.open()
        for thread in waiting:
            thread.join()
        return meter.numbers()


def _wait_for_result(session: Any, chunks: int) -> None:
    result = session.reply("hi").result()
    assert len(result.final_response.output_text) == 1 + chunks * TEXT_LENGTH


# One stream.


async def _full_speed(start: Callable[[int], AsyncIterator[str]], chunks: int) -> dict[str, float]:
    firsts: list[float] = []

    async def once(n: int) -> float:
        before, called, count = cpu(), time.monotonic(), 0
        async for _ in start(n):
            if not count:
                firsts.append(time.monotonic() - called)
            count += 1
        assert count == n + 1, f"{count - 1} chunks arrived instead of {n}"
        return cpu() - before

    for n in (1, chunks, 1, chunks):
        await once(n)
    firsts.clear()
    short = [await once(1) for _ in range(40)]
    first = statistics.median(firsts)
    long = [await once(chunks) for _ in range(20)]
    return {**_per_chunk(short, long, chunks), "first": first * 1e3}


def _full_speed_result(host: Any, server: str, chunks: int) -> dict[str, float]:
    def once(n: int) -> float:
        session = host.session(f"s{n}", engine(f"{server}/0/{n}/1"))
        before = cpu()
        session.reply("hi").result()
        return cpu() - before

    for n in (1, chunks, 1, chunks):
        once(n)
    return _per_chunk([once(1) for _ in range(40)], [once(chunks) for _ in range(20)], chunks)


def _per_chunk(short: list[float], long: list[float], chunks: int) -> dict[str, float]:
    request = statistics.median(short)
    return {"cpu": (statistics.median(long) - request) / (chunks - 1) * 1e6, "request": request * 1e3}


SUBJECTS = {
    "raw asyncio": Subject(peer(raw_reader)),
    "aiohttp": Subject(peer(aiohttp_reader), ("aiohttp",)),
    "httpx": Subject(peer(httpx_reader)),
    "allm async for": Subject(attached()),
    "allm, httpx's stack": Subject(attached(own=False)),
    "allm result()": Subject(drained),
    "openai SDK": Subject(peer(openai_reader), ("openai",)),
    "litellm": Subject(peer(litellm_reader), ("litellm",)),
    "pydantic-ai": Subject(peer(pydantic_ai_reader), ("pydantic_ai", "openai")),
    "openai-agents": Subject(peer(openai_agents_reader), ("agents",)),
    "langchain-openai": Subject(peer(langchain_reader), ("langchain_openai",)),
    "allm, Anthropic": Subject(attached("anthropic:claude-sonnet-4-5", path="/v1")),
    "anthropic SDK": Subject(peer(anthropic_reader), ("anthropic",)),
    "allm, Gemini": Subject(attached("gemini:gemini-2.0-flash", path="/v1beta")),
    "google-genai": Subject(peer(genai_reader), ("google.genai",)),
}
COLUMNS = (
    Column("cpu", "CPU µs per chunk", ratio=True),
    Column("request", "CPU ms per request", ".2f"),
    Column("first", "first ms", ".2f"),
    Column("p50", "lag p50 ms", ".2f"),
    Column("p99", "lag p99 ms"),
    Column("slowdown", "slowdown", ".2f"),
    Column("waited", "waited %", ".0f"),
    Column("memory", "KB per stream", ".0f"),
)


def chunks_for(streams: int) -> int:
    """Chunks per stream: 1000 at full speed, else two to four seconds of them."""
    return 1000 if streams == 1 else 200 if streams <= 50 else 100


def _sizes(asked: str) -> Iterator[int]:
    return map(int, asked.split(","))


if __name__ == "__main__":
    asked = arguments(__doc__, SUBJECTS, {"-n": {"default": "1,50,200,1000", "metavar": "N,N,…"}})
    with provider() as server:
        for streams in _sizes(asked.n):
            chunks = chunks_for(streams)
            samples = measure(
                "benchmarks.streams", SUBJECTS, asked, server=server, streams=streams, chunks=chunks
            )
            what = "One stream at full speed" if streams == 1 else f"{streams} streams, a chunk per {PACE} ms"
            show(f"{what}, {chunks} chunks", COLUMNS, samples, REFERENCE)
