"""However a reader leaves, and wherever in a turn: what worked for them stops, once, and the conversation can go on."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import pytest

import allm_actors as allm
from allm_actors.actors import default_host
from allm_actors.testing import script
from allm_actors.testing.loopback import LoopbackServer, Reply, Request
from tests.integration.stage import (
    AGAIN,
    KEY,
    PROMPT,
    QUESTION,
    SOON,
    HeldFake,
    Hold,
    Place,
    Provider,
    Tools,
    named,
    until,
    valid_for_provider,
)

BOTH = ["thermometer", "barometer"]
COUNT = 30  # events of the recorded run; the first test looks that it is so
CALLED = 11  # so many come before the model says that it has finished
ASKED = 15  # so many of the model's first answer
STARTED = 17  # so many until both tools run
ANSWERED = 22  # so many until the step is complete
ALMOST = 26  # so many until the model's last answer is said
SCRIPTED = 22  # events of the same conversation from a script, which says it in fewer pieces
SAYING = 17  # so many of them until the last answer begins


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")
    caplog.set_level(logging.CRITICAL + 1, logger="allm_actors")


CURRENT: list[Provider] = []


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    def reply(request: Request) -> Reply:
        return CURRENT[0].reply(request)

    with LoopbackServer(reply) as server:
        yield server


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Place("loop") as place:
        yield place


@pytest.fixture(scope="module")
def async_place() -> Iterator[Place]:
    with Place("async") as place:
        yield place


class Street:
    """Where chats run that no host knows by name: they are the process-wide host's."""

    def __init__(self, place: Place) -> None:
        self.loop, self.run = place.loop, place.run

    def session(self, _id: str, engine: allm.Engine) -> Any:
        """A chat of nobody's."""
        return Unnamed(engine)


class Unnamed:
    """Each question begins anew, in the place of a session."""

    status = "idle"

    def __init__(self, engine: allm.Engine) -> None:
        self._engine = engine

    def reply(self, text: str) -> allm.EventStream:
        """A chat of one question."""
        return allm.stream(self._engine, [allm.user(text)], api_key=KEY)


class Scene:
    """A session whose turn is held where a reader is going to leave: after so many events."""

    numbers = itertools.count()

    def __init__(self, place: Place | Street, server: LoopbackServer, after: int) -> None:
        self.place, self.server, self.after = place, server, after
        self.tools = Tools()
        self.provider = Provider(self.tools, BOTH, server)
        CURRENT[:] = [self.provider]
        self._shut()
        self.abandoned, self.connections = server.abandoned, server.connections
        self.requests = len(server.requests)
        self.almost = ALMOST  # whoever has read so many may find that all of it was said
        self.insisted = False  # whether the reader asked for more before it left
        self.chat = place.session(f"s{next(self.numbers)}", self.provider.engine())

    def _shut(self) -> None:
        if self.after <= CALLED:
            self.provider.finish = Hold()
        elif ASKED < self.after <= STARTED:
            self.tools.sync, self.tools.asynchronous = Hold(), Hold()
        elif STARTED < self.after <= STARTED + 2:
            self.tools.asynchronous = Hold()
        elif ANSWERED < self.after <= ALMOST:
            self.provider.closing = Hold()

    def held(self) -> Hold:
        """Where the turn is held."""
        holds = (self.provider.finish, self.provider.closing, self.tools.asynchronous)
        return next(hold for hold in holds if not hold.is_open)

    def is_let_go(self) -> None:
        """Whoever worked for the turn stops soon, and once; and what the reader had not asked for was never begun."""
        if not self.insisted:
            asked = 0 if self.after == 0 else 1 if self.after <= ANSWERED else 2
            assert len(self.server.requests) - self.requests <= asked
            assert len(self.tools.ran) <= (2 if self.after > ASKED else 0)
        if self.after <= CALLED or ANSWERED < self.after <= ALMOST:
            if self.after not in (0, 1, ANSWERED + 1):  # the request may not have been sent yet
                self.server.wait_for(lambda server: server.abandoned > self.abandoned, PROMPT)
            self.server.wait_for(lambda server: server.connections <= self.connections, PROMPT)
            assert self.server.abandoned <= self.abandoned + 1
        if self.after == STARTED:
            until(lambda: sorted(self.tools.stopped) == sorted(self.tools.ran), PROMPT)
        elif STARTED < self.after <= STARTED + 2:
            until(
                lambda: self.tools.stopped == [name for name in self.tools.ran if name == "barometer"], PROMPT
            )

    def goes_on(self) -> None:
        """The user's message was kept, with what the model had said, and the next question is answered."""
        self.provider.open_all()
        chat, place = self.chat, self.place
        turn = place.run(lambda: chat.reply(AGAIN))
        result = turn.result() if place.loop is None else place.run(lambda: awaited(turn))
        assert result.halted_reason == "completed"
        assert len(self.tools.ran) == len(set(self.tools.ran))
        if isinstance(chat, Unnamed):
            return
        valid_for_provider(chat.messages)
        said = [message.content for message in chat.messages if message.role == "user"]
        assert said == [QUESTION, AGAIN]
        words = [m for m in chat.messages if m.role == "assistant" and m.metadata.get("partial")]
        if 2 <= self.after <= CALLED:
            said_something = [["Let me "], ["Let me look. "]]
            assert [m.content for m in words] in ([[], *said_something] if self.insisted else said_something)
        elif ANSWERED < self.after <= ALMOST:
            assert [m.content for m in words] in ([], ["It "], ["It is "], ["It is sunny."])


async def awaited(turn: Any) -> Any:
    return await turn


def is_one_end(scene: Scene, seen: list[Any], result: Any) -> None:
    """What was read, and what is read after leaving, holds at most one end; and the session is at rest."""
    ends = [event for event in seen if isinstance(event, allm.ChatCompleted)]
    if ends:
        assert (ends, result.halted_reason) == (seen[-1:], "completed")
    else:
        assert result.halted_reason in ("cancelled", "completed")
        assert result.halted_reason == "cancelled" or scene.after >= scene.almost
    assert scene.chat.status in ("idle", "completed")


# --- a reader on a thread ----------------------------------------------------------------------------------------


def read(turn: Any, count: int) -> list[Any]:
    return list(itertools.islice(turn, count))


def close(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    seen = read(turn, scene.after)
    turn.close()
    assert list(turn) == []
    is_one_end(scene, seen, turn.result())
    turn.close()


def leave_the_block(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    seen: list[Any] = []
    with turn:
        for event in turn if scene.after else ():
            seen.append(event)
            if len(seen) == scene.after:
                break
    is_one_end(scene, seen, turn.result())


def raise_in_the_block(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    seen: list[Any] = []
    with pytest.raises(ZeroDivisionError), turn:  # noqa: PT012
        seen += read(turn, scene.after)
        raise ZeroDivisionError
    is_one_end(scene, seen, turn.result())


def press_ctrl_c(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    seen: list[Any] = []
    with pytest.raises(KeyboardInterrupt), turn:  # noqa: PT012
        seen += read(turn, scene.after)
        signal.raise_signal(signal.SIGINT)
    is_one_end(scene, seen, turn.result())


def cancel_the_turn(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    seen = read(turn, scene.after)
    scene.chat.cancel()
    seen += turn
    assert [event for event in seen if isinstance(event, allm.ChatCompleted)] == seen[-1:]
    assert seen[-1].result.halted_reason in ("cancelled", "completed")


def forget(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    read(turn, scene.after)


def be_collected(scene: Scene, turns: list[Any]) -> None:
    cycle = [turns.pop()]
    read(cycle[0], scene.after)
    cycle.append(cycle)
    del cycle
    gc.collect()


def die(scene: Scene, turns: list[Any]) -> None:
    def reads(turn: Any) -> None:
        with suppress(ZeroDivisionError):  # whoever reports it would keep its frames, and the turn in them
            read(turn, scene.after)
            raise ZeroDivisionError

    reader = threading.Thread(target=reads, args=(turns.pop(),))
    reader.start()
    reader.join(SOON)
    assert not reader.is_alive()


def close_from_another_thread(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    seen = read(turn, scene.after)
    closer = threading.Thread(target=turn.close)
    closer.start()
    closer.join(SOON)
    assert not closer.is_alive()
    is_one_end(scene, seen, turn.result())


def outlive_the_loop(scene: Scene, turns: list[Any]) -> None:
    """Read on an event loop that ends in the middle."""
    turn = turns.pop()
    seen = asyncio.run(aread(turn, scene.after))
    turn.close()
    is_one_end(scene, seen, turn.result())


GONE = [forget, be_collected, die]
SYNC = [close, leave_the_block, raise_in_the_block, press_ctrl_c, cancel_the_turn, *GONE]
SYNC += [close_from_another_thread, outlive_the_loop]


@pytest.mark.parametrize("leave", SYNC, ids=lambda leave: leave.__name__)
def test_a_reader_may_leave_after_every_event(
    leave: Callable[[Scene, list[Any]], None], place: Place, server: LoopbackServer
) -> None:
    for after in range(COUNT + 1):
        with named(leave.__name__, f"after {after} events"):
            scene = Scene(place, server, after)
            leave(scene, [scene.chat.reply(QUESTION)])
            scene.is_let_go()
            scene.goes_on()


def test_the_recorded_run_is_what_the_others_cut(place: Place, server: LoopbackServer) -> None:
    scene = Scene(place, server, COUNT)
    tags = [event.tag for event in scene.chat.reply(QUESTION)]
    assert len(tags) == COUNT
    assert tags[CALLED - 1 : CALLED + 1] == ["tool_call_delta", "tool_call_completed"]
    assert tags[ASKED - 1] == "message_completed"
    assert tags[STARTED - 2 : STARTED + 1] == ["tool_execution_started"] * 2 + ["tool_execution_completed"]
    assert tags[ANSWERED - 1] == "step_completed"
    assert tags[ALMOST - 1] == "text_delta"


# --- a reader on an event loop -----------------------------------------------------------------------------------


async def aread(turn: Any, count: int) -> list[Any]:
    seen: list[Any] = []
    while len(seen) < count:
        seen.append(await anext(turn))
    return seen


async def aclose(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    seen = await aread(turn, scene.after)
    await turn.aclose()
    assert [event async for event in turn] == []
    is_one_end(scene, seen, await turn)
    await turn.aclose()


async def leave_the_async_block(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    async with turn:
        seen = await aread(turn, scene.after)
    is_one_end(scene, seen, await turn)


async def cancel_the_task(scene: Scene, turns: list[Any]) -> None:
    scene.insisted, there = True, asyncio.Event()

    async def reads(turn: Any) -> None:
        await aread(turn, scene.after)
        there.set()
        async for _ in turn:
            pass

    await cancelled(asyncio.create_task(reads(turns.pop())), there)


async def cancel_the_wait(scene: Scene, turns: list[Any]) -> None:
    scene.insisted, there = True, asyncio.Event()

    async def waits(turn: Any) -> None:
        await aread(turn, scene.after)
        there.set()
        await turn

    await cancelled(asyncio.create_task(waits(turns.pop())), there)


async def cancelled(task: asyncio.Task[None], there: asyncio.Event) -> None:
    await there.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def forget_it(scene: Scene, turns: list[Any]) -> None:
    turn = turns.pop()
    await aread(turn, scene.after)


async def break_out(scene: Scene, turns: list[Any]) -> None:
    seen: list[Any] = []
    async for event in turns.pop() if scene.after else nothing():
        seen.append(event)
        if len(seen) == scene.after:
            break
    turns.clear()


async def nothing() -> Any:
    return
    yield


async def die_as_a_task(scene: Scene, turns: list[Any]) -> None:
    async def reads(turn: Any) -> None:
        await aread(turn, scene.after)
        raise ZeroDivisionError

    task = asyncio.create_task(reads(turns.pop()))
    await asyncio.wait([task])
    assert isinstance(task.exception(), ZeroDivisionError)


ASYNC = [aclose, leave_the_async_block, cancel_the_task, cancel_the_wait, forget_it, break_out, die_as_a_task]


@pytest.mark.parametrize(
    "leave", [close, leave_the_block, raise_in_the_block, *GONE, *ASYNC], ids=lambda leave: leave.__name__
)
def test_a_stream_of_no_session_may_be_left_after_every_event(
    leave: Any, place: Place, async_place: Place, server: LoopbackServer
) -> None:
    street = Street(async_place if leave in ASYNC else place)
    for after in range(COUNT + 1):
        with named(leave.__name__, f"after {after} events"):
            scene = Scene(street, server, after)
            street.run(lambda scene=scene: leave(scene, [scene.chat.reply(QUESTION)]))
            scene.is_let_go()
            scene.goes_on()


@pytest.mark.parametrize("leave", ASYNC, ids=lambda leave: leave.__name__)
def test_a_task_may_leave_after_every_event(leave: Any, async_place: Place, server: LoopbackServer) -> None:
    for after in range(COUNT + 1):
        with named(leave.__name__, f"after {after} events"):
            scene = Scene(async_place, server, after)
            async_place.run(lambda scene=scene: leave(scene, [scene.chat.reply(QUESTION)]))
            scene.is_let_go()
            scene.goes_on()


# --- who cleans up ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [*SYNC, *ASYNC], ids=lambda leave: leave.__name__)
def test_every_model_call_that_was_opened_is_cleaned_up_once(
    leave: Any, place: Place, async_place: Place, server: LoopbackServer
) -> None:
    where = async_place if leave in ASYNC else place
    calls = 0
    for after in range(SCRIPTED + 1):
        with named(leave.__name__, f"after {after} events"):
            calls = left_and_cleaned_up(leave, where, Scene(where, server, after))
    if leave in (close, aclose):  # who reads to the end has seen both calls
        assert calls == 2


def left_and_cleaned_up(leave: Any, where: Place, scene: Scene) -> int:
    """The same conversation without a socket, left; how many model calls were opened, each of which was cleaned up."""
    opened: list[Any] = []
    cleaned: list[int] = []
    hooks = {"record": opened, "cleanup_observer": lambda: cleaned.append(1)}
    scripts = scene.provider.scripts()
    scene.provider.open_all()
    scene.almost = SAYING
    engine = allm.Engine(adapter="fake", tools=scene.tools.all, adapter_opts={"scripts": scripts, **hooks})
    scene.chat = where.session(f"s{next(scene.numbers)}", engine)
    where.run(lambda: leave(scene, [scene.chat.reply(QUESTION)]))
    until(lambda: len(cleaned) == len(opened), PROMPT)
    where.run(scene.chat.stop)  # after which nobody is left who could do it again
    assert len(cleaned) == len(opened) <= 2
    return len(opened)


# --- Ctrl-C while it waits ---------------------------------------------------------------------------------------


@contextmanager
def ctrl_c(hold: Hold, loop: asyncio.AbstractEventLoop | None = None) -> Iterator[None]:
    """Press Ctrl-C once the main thread waits for what is held.

    A signal that comes right before a thread blocks is not seen until it wakes: it is pressed again, as people do.
    """
    over = threading.Event()

    def press() -> None:
        assert hold.reached.wait(SOON)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if loop is not None:
            loop.call_soon_threadsafe(over.set)
        while not over.wait(PROMPT):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    presses = threading.Thread(target=press)
    presses.start()
    try:
        yield
    finally:
        over.set()
        presses.join(SOON)


@pytest.mark.parametrize("wait", [list, lambda turn: turn.result()], ids=["iterate", "result"])
@pytest.mark.parametrize("after", [CALLED, STARTED, ALMOST])
def test_ctrl_c_gets_through_to_a_thread_that_waits(
    wait: Any, after: int, place: Place, server: LoopbackServer
) -> None:
    scene = Scene(place, server, after)
    with pytest.raises(KeyboardInterrupt), scene.chat.reply(QUESTION) as turn, ctrl_c(scene.held()):
        wait(turn)
    assert turn.result().halted_reason == "cancelled"
    scene.insisted = True
    scene.is_let_go()
    scene.goes_on()


@pytest.mark.parametrize("after", [CALLED, STARTED, ALMOST])
def test_ctrl_c_gets_through_to_an_event_loop_that_waits(after: int, server: LoopbackServer) -> None:
    scenes: list[Scene] = []

    async def main() -> None:
        async with Here() as here:
            scenes.append(scene := Scene(here, server, after))  # type: ignore[arg-type]
            with ctrl_c(scene.held(), asyncio.get_running_loop()):
                await scene.chat.reply(QUESTION)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    (scene,) = scenes
    scene.insisted = True
    scene.is_let_go()
    assert scene.chat.messages[0].content == QUESTION
    valid_for_provider(scene.chat.messages)


class Here:
    """A host on the loop that runs."""

    loop = None

    async def __aenter__(self) -> Self:
        self._host = await allm.Host().__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._host.__aexit__(*exc)

    def session(self, id: str, engine: allm.Engine) -> Any:
        return self._host.session(id, engine, api_key=KEY)


# --- a caller without a handle ------------------------------------------------------------------------------------


class Slow:
    """A model that takes its time before it asks for a refund, and two ways to ask it that keep no handle."""

    def __init__(self) -> None:
        self.refunded: list[int] = []
        self.answers = Hold()

    def engine(self) -> allm.Engine:
        @allm.tool
        def refund(n: int) -> str:
            """Pay it back."""
            self.refunded.append(n)
            return "done"

        calls = [
            script.raw_chunk(self.answers),
            script.tool_call("refund", {"n": 1}),
            script.finish("tool_calls"),
        ]
        scripts = [calls, [script.text("Done."), script.finish("stop")]]
        return allm.Engine(adapter=HeldFake(scripts=scripts), tools=[refund])

    def is_over(self) -> bool:
        kinds = {ref.actor_class.__name__ for ref in default_host().system.processes()}
        return not kinds & {"SessionActor", "AdapterActor", "ToolActor"}


HANDLELESS: list[Any] = [
    pytest.param(allm.chat, allm.aio.chat, id="chat"),
    pytest.param(allm.step, allm.aio.step, id="step"),
    pytest.param(allm.session.start, allm.aio.session.start, id="session"),
]


@pytest.mark.parametrize(("call", "acall"), HANDLELESS)
def test_a_task_that_is_cancelled_ends_its_call_although_its_error_is_kept(call: Any, acall: Any) -> None:
    slow = Slow()

    async def main() -> None:
        task = asyncio.create_task(acall(slow.engine(), [allm.user(QUESTION)]))
        await asyncio.to_thread(slow.answers.reached.wait, SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as kept:
            await asyncio.wait_for(task, SOON)
        slow.answers.open()
        await asyncio.to_thread(until, slow.is_over)
        assert slow.refunded == []
        del kept

    asyncio.run(main())


@pytest.mark.parametrize(("call", "acall"), HANDLELESS)
def test_ctrl_c_ends_a_call_although_its_error_is_kept(call: Any, acall: Any) -> None:
    slow = Slow()
    with pytest.raises(KeyboardInterrupt) as kept, ctrl_c(slow.answers):
        call(slow.engine(), [allm.user(QUESTION)])
    slow.answers.open()
    until(slow.is_over)
    assert slow.refunded == []
    del kept


# --- a reader that is not there ----------------------------------------------------------------------------------


def test_a_turn_that_nobody_reads_does_nothing(place: Place, server: LoopbackServer) -> None:
    scene = Scene(place, server, COUNT)
    turn = scene.chat.reply(QUESTION)
    other = Scene(place, server, COUNT)  # whose whole turn passes through the same processes meanwhile
    assert other.chat.reply(QUESTION).result().halted_reason == "completed"
    assert len(server.requests) == scene.requests + 2
    assert scene.tools.ran == []
    turn.close()
    CURRENT[:] = [scene.provider]
    scene.goes_on()


def test_a_reader_whose_thread_ends_is_gone(place: Place, server: LoopbackServer) -> None:
    scene = Scene(place, server, CALLED)
    reader = threading.Thread(target=lambda turn: read(turn, CALLED), args=(scene.chat.reply(QUESTION),))
    reader.start()
    reader.join(SOON)
    del reader
    scene.is_let_go()
    scene.goes_on()


class Fountain:
    """An adapter that says words as fast as they are taken, and counts them."""

    name = "fountain"
    words = 20_000

    def __init__(self) -> None:
        self.said = 0
        self.closed = 0

    def requires_structured_finalize(self, _request: Any) -> bool:
        return False

    def stream(self, request: Any, call: Any) -> Any:
        """For those who do not know `batches`."""
        raise NotImplementedError

    async def batches(self, _request: Any, _call: Any) -> Any:
        try:
            yield [allm.MessageStarted()]
            for _ in range(self.words):
                self.said += 1
                yield [allm.TextDelta("w ")]
            yield [allm.MessageCompleted(message=allm.assistant("w " * self.words), finish_reason="stop")]
        finally:
            self.closed += 1


class Spring(Fountain):
    """The same, for an adapter with only a plain, blocking `stream`."""

    batches = None  # type: ignore[assignment]

    def stream(self, _request: Any, _call: Any) -> Any:
        try:
            yield allm.MessageStarted()
            for _ in range(self.words):
                self.said += 1
                yield allm.TextDelta("w ")
            yield allm.MessageCompleted(message=allm.assistant("w " * self.words), finish_reason="stop")
        finally:
            self.closed += 1


@pytest.mark.parametrize("kind", [Fountain, Spring])
def test_nobody_runs_far_ahead_of_a_slow_reader(kind: type[Fountain], place: Place) -> None:
    adapter = kind()
    chat = place.session(f"slow-{kind.__name__}", allm.Engine(adapter=adapter))
    turn, window = chat.reply(QUESTION), 2 * 256 + 32  # what the reader has in hand, and what waits for it
    for taken, _ in enumerate(itertools.islice(turn, 5000)):
        if taken % 500 == 0:
            quiet(place)
            assert adapter.said <= taken + window
    turn.close()
    until(lambda: adapter.closed == 1)
    assert adapter.said <= 5000 + window


def quiet(place: Place) -> None:
    """Return once whatever was under way on the host's loop has come to rest."""
    loop = place.host.system.dispatcher("loop").loop
    for _ in range(20):
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(SOON)
