"""A future is settled once, tells everybody, and never raises into whoever settles it."""

import asyncio
import logging
import threading

import pykka
import pytest

from supervisors.errors import ProcessKilled
from supervisors.runtime.future import Future, Wait


def test_the_first_set_wins_and_later_ones_are_counted():
    future = Future()
    future.set(1)
    future.set(2)
    future.fail(ValueError())
    assert future.get() == 1
    assert future.late == 2


def test_an_exception_is_raised_by_every_get():
    future = Future()
    try:
        raise ValueError("no")
    except ValueError:
        future.set_exception()
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            future.get()


def test_get_times_out_and_forgets_the_waiter():
    future = Future()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0)
    future.set(1)
    assert future.get(timeout=0) == 1


def test_an_await_that_is_cancelled_forgets_the_waiter():
    future = Future()

    async def give_up():
        async with asyncio.timeout(0):
            await future

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert not future._callbacks


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often a thread woke it."""

    woken = 0

    def call_soon_threadsafe(self, callback, *args, context=None):
        self.woken += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


def test_an_answer_from_the_loops_own_thread_wakes_nobody_and_one_from_another_does():
    async def wait(settle):
        future = Future()
        asyncio.get_running_loop().call_soon(settle, future)
        return await future

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert runner.run(wait(lambda future: future.set("here"))) == "here"
        assert loop.woken == 0
        elsewhere = runner.run(
            wait(lambda future: threading.Thread(target=future.set, args=["there"]).start())
        )
        assert (elsewhere, loop.woken) == ("there", 1)


def test_callbacks_run_once_each_before_and_after_and_survive_each_other(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")
    seen = []
    future = Future()
    future.add_done_callback(lambda each: 1 / 0)
    future.add_done_callback(lambda each: seen.append(each.get()))
    future.set(1)
    future.add_done_callback(lambda each: seen.append(each.get()))
    assert seen == [1, 1]


def test_pykkas_ways_to_compose_futures_work():
    future = Future()
    other = Future()
    mapped = future.map(lambda each: each * 10)
    joined = future.join(other)
    listed = Future()
    evens = listed.filter(lambda each: each % 2 == 0)
    total = listed.reduce(lambda a, b: a + b, 100)
    future.set(1)
    other.set(2)
    listed.set([1, 2, 3, 4])
    assert mapped.get() == 10
    assert list(joined.get()) == [1, 2]
    assert list(evens.get()) == [2, 4]
    assert total.get() == 110


def test_a_computed_value_is_computed_once():
    calls = []
    future = Future()
    future.set_get_hook(lambda timeout: calls.append(timeout) or 7)
    assert [future.get(timeout=1), future.get()] == [7, 7]
    assert calls == [1]


def test_a_future_is_a_pykka_future_with_a_short_repr():
    future = Future()
    assert isinstance(future, pykka.Future)
    assert not future.done()
    assert repr(future) == "<Future pending>"
    future.set()
    assert repr(future) == "<Future done>"


def test_a_wait_can_be_woken_twice():
    wait = Wait(None)
    wait.wake()
    wait.wake()
    assert wait.lock.acquire(False)


@pytest.mark.parametrize("error", [asyncio.CancelledError, ProcessKilled, SystemExit, GeneratorExit])
def test_a_callback_may_raise_what_it_likes(error, caplog):
    def fail(_future):
        raise error

    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")
    seen = []
    future = Future()
    future.add_done_callback(fail)
    future.add_done_callback(seen.append)
    future.set(1)
    assert seen == [future]


def test_ctrl_c_in_a_callback_goes_on_when_the_others_have_been_called():
    def ctrl_c(_future):
        raise KeyboardInterrupt

    seen = []
    future = Future()
    for callback in (ctrl_c, seen.append, ctrl_c, seen.append):
        future.add_done_callback(callback)
    with pytest.raises(KeyboardInterrupt):
        future.set(1)
    assert seen == [future, future]
