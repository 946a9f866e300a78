"""A body that falls silent is given up; one that nobody could look at meanwhile is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from allm_actors.data import AdapterError
from allm_actors.engine.http import inflow
from allm_actors.engine.http.inflow import Inflow, ReadSource


class Source:
    def pour(self, sink: Inflow) -> None:
        """It has nothing yet."""

    def hold(self) -> None:
        """It holds nothing."""


class Limits:
    def silence_ends(self, since: float) -> float | None:
        """Long ago: whoever looks is late."""
        return 0.0

    def is_over(self, _now: float) -> bool:
        return False

    def silent(self) -> AdapterError:
        return AdapterError("timeout")

    def failure(self, error: Exception) -> Exception:
        return error


async def read(after: float | None) -> list[bytes]:
    """What is read of a body whose bytes come so late."""
    loop, got = asyncio.get_running_loop(), []
    body = Inflow(Source(), Limits())  # type: ignore[arg-type]

    def keep(data: bytes) -> bool:
        got.append(data)
        return False

    if after is not None:
        loop.call_later(after, body.put, b"x")
    await body.pour(keep)
    return got


def test_what_lay_there_when_the_process_woke_up_is_read() -> None:
    assert asyncio.run(read(0.001)) == [b"x"]


def test_a_body_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflow, "_DOUBT", 0.001)
    with pytest.raises(AdapterError, match="timeout"):
        asyncio.run(read(None))


def test_a_body_that_comes_for_too_long_is_given_up() -> None:
    async def scenario() -> None:
        body = Inflow(Source(), Limits())  # type: ignore[arg-type]
        for number in range(10):
            asyncio.get_running_loop().call_later(number * 0.02, body.put, b"x")
        with pytest.raises(AdapterError, match="timeout"):
            await body.pour(lambda data: got.append(data) is None)

    got: list[bytes] = []
    asyncio.run(scenario())
    assert 1 < len(got) < 10


def test_what_has_taken_too_long_as_a_whole_is_over_also_when_its_reader_was_never_kept_waiting():
    class Held(Source):
        def pour(self, sink: Inflow) -> None:
            """It has always something."""
            sink.put(b"x")

    class Patient(Limits):
        over = False

        def is_over(self, _now: float) -> bool:
            return self.over

    async def main() -> None:
        limits = Patient()
        body = Inflow(Held(), limits)  # type: ignore[arg-type]
        assert await body.pour(lambda _data: False)
        limits.over = True
        with pytest.raises(AdapterError, match="timeout"):
            await body.pour(lambda _data: False)
        with pytest.raises(AdapterError, match="timeout"):
            await body.pour(lambda _data: False)

    asyncio.run(main())


def test_what_nobody_reads_is_read_ahead_of_within_a_bound() -> None:
    taken: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            taken.append(1024)
            yield bytes(1024)
            await asyncio.sleep(0)

    async def main() -> None:
        async with ReadSource(chunks()):
            for _ in range(1000):
                await asyncio.sleep(0)

    asyncio.run(main())
    assert sum(taken) == 64 * 1024


def test_a_body_that_nobody_reads_any_more_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(Limits):
        def silence_ends(self, since: float) -> float | None:
            return since + 60

    async def main() -> list[asyncio.TimerHandle]:
        loop, set_at = asyncio.get_running_loop(), []
        call_at = loop.call_at
        monkeypatch.setattr(loop, "call_at", lambda *args: set_at.append(call_at(*args)) or set_at[-1])
        body = Inflow(Source(), Later())  # type: ignore[arg-type]
        loop.call_soon(body.put, b"x")
        assert await body.pour(lambda _data: False)
        body.close()
        return set_at

    (timer,) = asyncio.run(main())
    assert timer.cancelled()
