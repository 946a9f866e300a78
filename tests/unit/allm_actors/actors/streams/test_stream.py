"""Whoever reads a stream and whoever closes it may be two: what came after the close is nobody's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.streams.stream import EventStream
from allm_actors.data import EngineError, TextDelta

SOON = 5.0


async def _read(stream: EventStream) -> list[Any]:
    return [event async for event in stream]


@pytest.mark.parametrize("read", [list, lambda stream: asyncio.run(_read(stream))], ids=["for", "async for"])
def test_what_comes_while_another_thread_closes_is_not_read(read: Callable[[EventStream], list[Any]]) -> None:
    channel, waits = Channel(), threading.Event()
    stream = EventStream(None, channel)
    seen: list[Any] = []
    reader = threading.Thread(target=lambda: seen.extend(read(stream)), daemon=True)

    def answers_at_once() -> None:
        channel.publish([TextDelta("too late")])
        channel.end("what it came to", last=[TextDelta("later still")])

    channel.accept(waits.set, answers_at_once)
    assert not channel.may_act()  # so that the reader's asking is told
    reader.start()
    assert waits.wait(SOON)
    stream.close()
    reader.join(SOON)
    assert not reader.is_alive()
    assert seen == []
    assert stream.result() == "what it came to"


def test_who_closes_a_stream_that_could_not_be_begun_does_not_wait_for_its_end() -> None:
    closing = threading.Event()

    class Refuses:
        def begin(self, channel: Channel) -> None:
            channel.accept(lambda: None, closing.set)
            closer.start()
            assert closing.wait(SOON)
            raise EngineError("missing_key")

        def unbegun(self) -> str:
            return "nothing"

    stream = EventStream(Refuses(), Channel())  # type: ignore[arg-type] - it is begun on a thread
    closer = threading.Thread(target=stream.close, daemon=True)
    with pytest.raises(EngineError):
        next(stream)
    closer.join(SOON)
    assert not closer.is_alive()
    assert stream.result() == "nothing"


class Interrupted(Channel):
    """Ctrl-C strikes whoever waits for the result."""

    __slots__ = ()

    def wait_result(self) -> Any:
        raise KeyboardInterrupt


def test_who_is_interrupted_as_he_waits_for_the_result_ends_the_call() -> None:
    channel, cancelled = Interrupted(), list[int]()
    channel.accept(lambda: None, lambda: cancelled.append(1))
    stream = EventStream(None, channel)
    with pytest.raises(KeyboardInterrupt):
        stream.result()
    assert cancelled == [1]
