"""What fails in the program around a host, or leaves it no room, is the trouble of whoever it struck."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.testing import script

SOON = 20.0
SAYS = [script.text("Fine."), script.finish("stop")]


def engine() -> allm.Engine:
    return allm.Engine("fake", adapter_opts={"scripts": [[*SAYS]] * 2000})


class Breaking:
    """Its process crashes, and that is logged."""

    name = "breaking"

    async def stream(self, _request: Any, _call: Any) -> AsyncIterator[Any]:
        yield allm.MessageStarted()
        raise ConnectionError("gone")


@pytest.fixture
def picky_log() -> Iterator[list[logging.LogRecord]]:
    """A log with an everyday mistake: a filter that expects of all records what those of its program have."""
    seen: list[logging.LogRecord] = []

    def has_request_id(record: logging.LogRecord) -> bool:
        seen.append(record)
        return record.request_id is not None  # type: ignore[attr-defined,no-any-return]

    handler = logging.StreamHandler()
    handler.addFilter(has_request_id)
    loggers = [logging.getLogger(name) for name in ("supervisors", "allm_actors")]
    for logger in loggers:
        logger.addHandler(handler)
    yield seen
    for logger in loggers:
        logger.removeHandler(handler)


def test_a_log_that_fails_harms_no_session(picky_log: list[logging.LogRecord]) -> None:
    with allm.Host() as host:
        bad, good = host.session("bad", allm.Engine(Breaking())), host.session("good", engine())
        for _ in range(2):
            assert bad.reply("hi").result().halted_reason == "error"
            assert good.reply("hi").result().halted_reason == "completed"
            bad.recover()
    assert picky_log


def test_a_log_that_fails_harms_no_event_loop(picky_log: list[logging.LogRecord]) -> None:
    async def main() -> None:
        async with allm.Host() as host:
            bad = await host.session("bad", allm.Engine(Breaking()))
            good = await host.session("good", engine())
            assert (await bad.reply("hi")).halted_reason == "error"
            assert (await good.reply("hi")).halted_reason == "completed"

    asyncio.run(asyncio.wait_for(main(), SOON))
    assert picky_log


def test_a_log_that_fails_harms_nobody_who_hears_of_a_failing_telemetry_handler(
    picky_log: list[logging.LogRecord],
) -> None:
    def fails(_event: telemetry.Event) -> None:
        raise ValueError("no")

    telemetry.attach("fails", fails, "allm.chat.start")
    assert allm.chat(engine(), [allm.user("hi")]).halted_reason == "completed"
    assert [record.name for record in picky_log] == ["allm_actors.telemetry.bus"]


def deep(levels: int, call: Callable[[], object]) -> object:
    """The call, so many levels further up the stack."""
    return call() if levels <= 0 else deep(levels - 1, call)


@pytest.mark.parametrize("what", ["result", "iterate", "close", "cancel", "chat"])
def test_a_call_that_has_no_room_on_the_stack_ends_alone(what: str) -> None:
    fitting = engine()
    with allm.Host() as host:
        session = host.session("s", fitting)
        session.reply("hi").result()
        calls: dict[str, Callable[[], object]] = {
            "result": lambda: session.reply("hi").result(),
            "iterate": lambda: list(session.reply("hi")),
            "close": lambda: session.reply("hi").close(),
            "cancel": session.cancel,
            "chat": lambda: allm.chat(fitting, [allm.user("hi")]),
        }
        struck = 0

        def sweep() -> None:
            nonlocal struck
            for room in range(120, 0, -1):
                try:
                    deep(sys.getrecursionlimit() - room, calls[what])
                except RecursionError:
                    struck += 1
                except TypeError:  # "nested too deeply", for there is no room for even a few levels
                    pass
                if session.status == "error":
                    session.recover()
                assert session.reply("And now?").result().halted_reason == "completed", room
                if len(session.messages) > 40:
                    host.delete_session("s")

        thread = threading.Thread(target=sweep)
        thread.start()
        thread.join(SOON)
        assert not thread.is_alive()
        assert struck
