"""A channel hands out events in order, acts for a reader who asks, and ends exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import traceback
from weakref import ReferenceType, ref

import pytest

from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.streams.window import Window
from allm_actors.data import EngineError, TextDelta

ONE, TWO, THREE = TextDelta("1"), TextDelta("2"), TextDelta("3")


def test_events_come_out_in_order_and_the_end_after_them() -> None:
    channel = Channel()
    channel.publish([ONE, TWO])
    channel.end("result", last=[THREE])

    taken = [*channel.take(), *channel.take()]

    assert taken == [ONE, TWO, THREE]
    assert channel.wait_result() == "result"


def test_the_end_comes_once() -> None:
    channel = Channel()

    assert channel.end("first", last=[ONE]) is True
    assert channel.end("second", last=[TWO]) is False
    assert list(channel.take()) == [ONE]
    assert channel.wait_result() == "first"


def test_an_error_is_raised_in_the_reader_after_the_events() -> None:
    channel = Channel()
    channel.publish([ONE])
    channel.end(error=EngineError("missing_key"))

    assert list(channel.take()) == [ONE]
    with pytest.raises(EngineError):
        channel.take()
    with pytest.raises(EngineError):
        channel.wait_result()


def test_an_error_keeps_nothing_of_those_to_whom_it_was_raised_before() -> None:
    def frames() -> int:
        with pytest.raises(EngineError) as raised:
            channel.wait_result()
        return len(traceback.extract_tb(raised.value.__traceback__))

    channel = Channel()
    channel.end(error=EngineError("missing_key"))
    assert frames() == frames()


def test_nothing_may_act_before_the_reader_has_everything_and_asks() -> None:
    channel, asked = Channel(), threading.Event()
    channel.accept(asked.set, lambda: None)

    assert channel.may_act() is False
    channel.publish([ONE])
    assert channel.may_act() is False
    assert list(channel.take()) == [ONE]
    assert not asked.is_set()

    reader = threading.Thread(target=channel.take)
    reader.start()
    assert asked.wait(5)
    assert channel.may_act() is True
    channel.end()
    reader.join(5)


def test_a_drained_channel_lets_everything_happen_and_keeps_nothing() -> None:
    channel = Channel(limit=1)
    channel.accept(lambda: None, lambda: None)
    channel.drain()

    channel.publish([ONE, TWO, THREE])

    assert channel.may_act() is True
    assert channel.has_room() is True
    channel.end("result", last=[THREE])
    assert channel.wait_result() == "result"
    assert list(channel.take()) == []


def test_a_reader_far_behind_shuts_the_window_and_opens_it_when_it_has_caught_up() -> None:
    channel, asked = Channel(limit=2), []
    channel.accept(lambda: asked.append(1), lambda: None)

    channel.publish([ONE, TWO])
    assert channel.has_room() is False
    channel.take()

    assert asked == [1]
    assert channel.has_room() is True


def test_a_cancel_before_the_admission_is_passed_on_at_the_admission() -> None:
    channel, cancelled = Channel(), []
    channel.cancel()
    channel.accept(lambda: None, lambda: cancelled.append(1))

    assert cancelled == [1]


def test_a_cancel_that_a_signal_has_struck_can_be_repeated() -> None:
    def told() -> None:
        cancelled.append(1)
        if len(cancelled) == 1:
            raise KeyboardInterrupt

    channel, cancelled = Channel(), list[int]()
    channel.accept(lambda: None, told)
    with pytest.raises(KeyboardInterrupt):
        channel.cancel()
    channel.cancel()
    assert cancelled == [1, 1]
    channel.end(None)
    channel.cancel()
    assert cancelled == [1, 1]


class Struck(Channel):
    """A signal's handler ends the turn, on the thread that is about to wait for its end."""

    __slots__ = ()

    def _refuse_in_vain(self) -> None:
        self.end("by the handler")


def test_a_reader_whose_turn_is_ended_as_it_is_about_to_wait_does_not_wait() -> None:
    assert Struck().wait_result() == "by the handler"
    assert asyncio.run(asyncio.wait_for(Struck().await_result(), 5)) == "by the handler"


def test_a_waiting_thread_and_a_waiting_task_are_woken_alike() -> None:
    async def read(channel: Channel) -> list[object]:
        return list(await channel.atake())

    for channel in (Channel(), Channel()):
        writer = threading.Thread(target=channel.publish, args=([ONE],))
        writer.start()
        assert asyncio.run(read(channel)) == [ONE]
        writer.join(5)

    channel, taken = Channel(), []
    reader = threading.Thread(target=lambda: taken.extend(channel.take()))
    reader.start()
    channel.publish([TWO])
    reader.join(5)
    assert taken == [TWO]


def test_a_wait_that_was_given_up_keeps_nothing_of_its_event_loop() -> None:
    async def give_up() -> ReferenceType[object]:
        waits = asyncio.create_task(channel.await_result())
        await asyncio.sleep(0)  # so that it has begun
        waits.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waits
        return ref(asyncio.get_running_loop())

    channel = Channel()
    loop = asyncio.run(give_up())
    gc.collect()
    assert loop() is None


def test_an_admission_wakes_whoever_waits_for_it_and_a_refusal_is_raised() -> None:
    admitted, refused = Channel(), Channel()
    writer = threading.Thread(target=admitted.accept, args=(lambda: None, lambda: None))
    writer.start()
    admitted.wait_accepted()
    writer.join(5)

    refused.end(error=EngineError("missing_key"))
    with pytest.raises(EngineError):
        refused.wait_accepted()
    with pytest.raises(EngineError):
        asyncio.run(refused.await_accepted())


def test_a_window_is_woken_once_and_only_by_a_consumer_that_opens_it() -> None:
    window = Window(4)
    for _ in range(4):
        assert window.is_open()
        window.send()

    assert not window.is_open()
    assert window.take() is False
    assert window.take() is True
    assert window.take() is False
    assert window.is_open()
