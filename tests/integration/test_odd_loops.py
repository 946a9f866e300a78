"""Loops, threads and exceptions that are not as one would wish: hung, full, closed, or raised again and again."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors import default_host, open_call_stream
from allm_actors.actors.calls.call import call_spec
from allm_actors.actors.protocol import Ready
from allm_actors.actors.sessions.handle import SessionHandle
from allm_actors.actors.stateless import StatelessCall
from allm_actors.actors.store import MemoryStore
from allm_actors.actors.streams import watched
from allm_actors.actors.streams.stream import EventStream, Turn
from allm_actors.actors.streams.watched import Watched
from allm_actors.actors.turns.turn import thread_of, turn_spec
from allm_actors.engine.adapter import Delay
from allm_actors.testing import script
from allm_actors.testing.loopback import LoopbackServer, Reply
from supervisors import Future
from tests.integration.stage import HeldStore, Hold, until

LONG = 20.0


class Embedder:
    """Asks for its key on the event loop of all calls."""

    name = "embedder"

    async def embed(self, request: Any, call: Any) -> Any:
        if callable(call.api_key):
            call.api_key()
        made = [allm.Embedding(vector=[1.0], index=index) for index in range(len(request.input))]
        return allm.EmbeddingResponse(embeddings=made)


def answering() -> allm.Engine:
    return allm.Engine(
        adapter="fake", adapter_opts={"scripts": [[script.text("done"), script.finish("stop")]]}
    )


def embedding() -> allm.Engine:
    return allm.Engine(embed_adapter=Embedder())


class Begun:
    """Work on a daemon thread of its own, so that a test that hangs fails."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self._value = work, None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - it is the outcome
            self._error = error

    def result(self) -> Any:
        """What it gives, or raises."""
        self._thread.join(LONG)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._value


def in_time(work: Callable[[], Any]) -> Any:
    """What `work` gives, or raises, on a thread of its own."""
    return Begun(work).result()


# A function that has the key, and a file, that keep a call waiting.


def speaking(url: str = "http://127.0.0.1:9/") -> allm.Engine:
    return allm.Engine(speech_adapter="elevenlabs", adapter_opts={"base_url": url})


def hearing() -> allm.Engine:
    return allm.Engine(transcription_adapter="elevenlabs", adapter_opts={"base_url": "http://127.0.0.1:9/"})


HANGING = {
    "a vault": "allm.embed(odd.embedding(), 'x', api_key=threading.Event().wait, request_timeout=0.1)",
    "a vault of a stream": (
        "allm.stream_synthesize(odd.speaking(), 'x', api_key=threading.Event().wait, request_timeout=0.1).result()"
    ),
    "a file": "allm.transcribe(odd.hearing(), allm.Audio.from_file(pipe), api_key='k', request_timeout=0.1)",
}


@pytest.mark.parametrize("what", HANGING)
def test_what_hangs_does_not_keep_the_interpreter(what: str, tmp_path: Path) -> None:
    program = f"""
        import os, threading
        import allm_actors as allm
        import tests.integration.test_odd_loops as odd

        pipe = {str(tmp_path / "clip.mp3")!r}
        os.mkfifo(pipe)  # which nobody writes to
        try:
            {HANGING[what]}
        except allm.AllmError:
            print("over")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    assert done.stdout == "over\n"


def test_vaults_that_hang_do_not_starve_the_others() -> None:
    hold = threading.Event()
    try:
        for _ in range(40):  # no executor has so many threads
            with pytest.raises(allm.AllmError):
                allm.embed(embedding(), "x", api_key=hold.wait, request_timeout=0.01)
        assert allm.embed(embedding(), "x", api_key=lambda: "key", request_timeout=LONG).vectors() == [[1.0]]
    finally:
        hold.set()


def test_vaults_that_hang_do_not_starve_other_clips() -> None:
    hold, clip = threading.Event(), Reply(headers={"content-type": "audio/mpeg"}, body=b"clip")
    with LoopbackServer([clip]) as server:
        try:
            for _ in range(40):  # no executor has so many threads
                with pytest.raises(allm.AllmError):
                    allm.stream_synthesize(speaking(), "x", api_key=hold.wait, request_timeout=0.01).result()
            stream = allm.stream_synthesize(
                speaking(server.url), "x", api_key=lambda: "key", request_timeout=LONG
            )
            assert stream.result().audio.to_bytes() == b"clip"
        finally:
            hold.set()


def test_a_vault_that_runs_dry_is_an_error() -> None:
    keys: Any = iter(())
    with pytest.raises(allm.AllmError, match="StopIteration"):
        in_time(lambda: allm.embed(embedding(), "x", api_key=lambda: next(keys)))


# An event loop that was closed, with a host on it.


class Endless:
    """Begins to answer, and never ends."""

    name = "endless"

    def play(self, _request: Any, _call: Any) -> Any:
        yield allm.MessageStarted()
        yield Delay(1000.0)

    stream = play


def stranded() -> tuple[allm.Host, Any]:
    """A host whose event loop was closed under it, and a turn that was running there."""
    host, loop = allm.Host(), asyncio.new_event_loop()

    async def begin() -> Any:
        await host.__aenter__()
        turn = host.session("a", allm.Engine(adapter=Endless())).reply("x")
        await turn.__anext__()
        return turn

    turn = loop.run_until_complete(begin())
    loop.close()
    return host, turn


def test_a_turn_of_a_closed_loop_says_so_and_does_not_hang() -> None:
    host, turn = stranded()
    try:
        with pytest.raises(allm.EngineError, match="is closed"):
            in_time(turn.result)
        with pytest.raises(allm.EngineError, match="is closed"):
            in_time(lambda: asyncio.run(turn.aresult()))
        in_time(turn.close)
    finally:
        host.stop()


class Shut(HeldStore):
    """A store that loads no session before it is let."""

    def load(self, id: str) -> Any:
        self.hold.wait()
        return self._inner.load(id)


async def awaited(awaitable: Any) -> Any:
    return await awaitable


WAITERS: dict[str, Callable[[allm.Host, Any, Any], Any]] = {
    "turn.result": lambda _host, _chat, turn: turn.result(),
    "turn": lambda _host, _chat, turn: list(turn),
    "await turn": lambda _host, _chat, turn: asyncio.run(awaited(turn)),
    "host.session": lambda host, _chat, _turn: host.session("new", answering()),
    "await host.session": lambda host, chat, _turn: asyncio.run(awaited(chat)),
    "await chat.recover": lambda _host, chat, _turn: asyncio.run(awaited(chat.recover())),
    "chat.recover": lambda _host, chat, _turn: chat.recover().get(),
    "host.session_ids": lambda host, _chat, _turn: host.session_ids().get(),
    "host.session_ids.map": lambda host, _chat, _turn: host.session_ids().map(str).get(),
    "await host.session_ids.map": lambda host, _chat, _turn: asyncio.run(
        awaited(host.session_ids().map(str))
    ),
    "await chat.fork": lambda _host, chat, _turn: asyncio.run(awaited(chat.fork("b"))),
}


def interrupted(work: Any) -> None:
    """What Ctrl-C does to a program that has no `async with` around its host."""

    async def main() -> None:
        await work
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def closed(work: Any) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(work)
    loop.close()


@pytest.mark.parametrize("close", [closed, interrupted])
@pytest.mark.parametrize("name", WAITERS)
def test_who_waits_already_when_the_loop_is_closed_hears_of_it(
    name: str, close: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looked, look = Shut(), threading.Event(), Watched._look
    host = allm.Host(store=store)
    waiting: list[Begun] = []

    def looking(future: Watched[Any]) -> None:
        looked.set()  # so it waits
        look(future)

    monkeypatch.setattr(watched, "_LOOK", 0.01)
    monkeypatch.setattr(Watched, "_look", looking)

    async def main() -> None:
        await host.__aenter__()
        chat = host.session("a", answering())
        turn = chat.reply("x")
        assert await asyncio.to_thread(store.hold.reached.wait, LONG)
        waiting.append(Begun(lambda: WAITERS[name](host, chat, turn)))
        assert await asyncio.to_thread(looked.wait, LONG)

    try:
        close(main())
        with pytest.raises(allm.EngineError, match="is closed"):
            waiting[0].result()
    finally:
        store.hold.open()
        host.stop()


def test_a_turn_of_a_closed_loop_can_be_left() -> None:
    host, turn = stranded()
    try:
        in_time(lambda: asyncio.run(turn.aclose()))
    finally:
        host.stop()


def test_a_host_whose_loop_is_closed_does_not_run() -> None:
    host, _turn = stranded()
    try:
        assert not host.running
    finally:
        host.stop()


def test_a_stateless_stream_outlives_the_loop_it_was_begun_on() -> None:
    """It lives in the process-wide host, which has a loop of its own."""

    async def begin() -> Any:
        stream = allm.aio.stream(answering(), [allm.user("x")])
        await stream.__anext__()
        return stream

    assert in_time(asyncio.run(begin()).result).thread.messages[-1].content == "done"


# A stream that is closed while its reader begins it.


class LateStore(MemoryStore):
    """A store that opens when it is let, or then fails to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.opening, self._error = Hold(), error

    def open(self) -> None:
        self.opening.wait()
        if self._error is not None:
            raise self._error
        super().open()


def stream_of(host: allm.Host) -> Any:
    spec = turn_spec("chat", allm.Engine(adapter=Endless()), {}, thread=thread_of([allm.user("x")]))
    return EventStream(StatelessCall(host, spec), spec.channel)


def test_closing_a_stream_whose_reader_fails_to_begin_it() -> None:
    store = LateStore(OSError("no threads left"))
    stream = stream_of(allm.Host(store=store))
    reader = Begun(lambda: next(stream))
    assert store.opening.reached.wait(LONG)
    closer = Begun(stream.close)
    until(lambda: stream.left)
    store.opening.open()
    with pytest.raises(OSError, match="no threads left"):
        reader.result()
    closer.result()
    assert in_time(stream.result).halted_reason == "cancelled"


def test_closing_a_stream_whose_reader_is_cancelled_while_it_begins_it() -> None:
    store = LateStore()
    host = allm.Host(store=store)
    stream = stream_of(host)

    async def main() -> str:
        reader = asyncio.ensure_future(stream.__anext__())
        await asyncio.to_thread(store.opening.reached.wait, LONG)
        closer = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0)
        assert stream.left
        reader.cancel()
        await asyncio.wait([reader])
        try:
            async with asyncio.timeout(3.0):
                await closer
                result = await stream
        finally:
            store.opening.open()
        return str(result.halted_reason)

    try:
        assert asyncio.run(main()) == "cancelled"
    finally:
        host.start().stop()


# An executor that is full.


def test_a_host_is_entered_used_and_left_while_the_executor_of_the_loop_is_full() -> None:
    hold = threading.Event()

    async def main() -> str:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1) as full:
            loop.set_default_executor(full)
            loop.run_in_executor(None, hold.wait, LONG)
            try:
                async with asyncio.timeout(2.0), allm.Host(shutdown_timeout=1.0) as host:
                    result = await host.session("a", answering()).reply("x")
            finally:
                hold.set()
        return str(result.thread.messages[-1].content)

    assert asyncio.run(main()) == "done"


def test_a_full_executor_does_not_keep_the_process_wide_host_from_its_start() -> None:
    hold = threading.Event()

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1) as full:
            loop.set_default_executor(full)
            loop.run_in_executor(None, hold.wait, LONG)
            try:
                async with asyncio.timeout(2.0):
                    await allm.aio.chat(answering(), [allm.user("x")])
                    default_host().stop()
                    return await allm.aio.embed(embedding(), "x")
            finally:
                hold.set()

    default_host().stop()
    assert asyncio.run(main()).vectors() == [[1.0]]


# A host that is entered by somebody who is cancelled, or after its loop was closed.


def test_a_host_that_is_cancelled_twice_while_it_is_entered_does_not_run() -> None:
    store = LateStore()
    host = allm.Host(store=store)

    async def main() -> tuple[bool, bool]:
        entering = asyncio.ensure_future(host.__aenter__())
        await asyncio.to_thread(store.opening.reached.wait, LONG)
        for _ in range(3):
            entering.cancel()
            for _ in range(5):  # so that it hears of it
                await asyncio.sleep(0)
        was_over = entering.done()
        store.opening.open()
        await asyncio.wait([entering])
        return was_over, entering.cancelled()

    assert asyncio.run(main()) == (False, True)
    assert not host.running
    assert not host.attached


@pytest.mark.parametrize("again", ["with", "async with"])
def test_a_host_whose_loop_is_closed_can_be_entered_again(again: str) -> None:
    host, _turn = stranded()

    async def main() -> Any:
        async with host:
            return await host.session("b", answering()).reply("x")

    def plainly() -> Any:
        with host:
            assert not host.attached
            return host.session("b", answering()).reply("x").result()

    result = in_time(plainly if again == "with" else lambda: asyncio.run(main()))
    assert result.thread.messages[-1].content == "done"
    assert not host.running


# An asynchronous adapter that asks another engine without `await`, on the event loop of all calls.


class GivesUp:
    """Cancels itself, as one does whose own task was cancelled by somebody else."""

    name = "gives_up"

    async def stream(self, _request: Any, _call: Any) -> Any:
        yield allm.MessageStarted()
        raise asyncio.CancelledError


def test_an_adapter_that_cancels_itself_is_said_to_have_done_so() -> None:
    result = in_time(lambda: allm.chat(allm.Engine(GivesUp()), [allm.user("x")]))
    assert result.halted_reason == "error"
    assert "the adapter raised CancelledError, although the call was not cancelled" in str(
        result.metadata["error"]
    )


class EmbeddingRouter:
    """Hands its call on, as it must not."""

    name = "router"

    async def embed(self, _request: Any, _call: Any) -> Any:
        return allm.embed(embedding(), "x")


class Router:
    """Begins to answer, and calls on the loop."""

    name = "router"

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.met: list[BaseException] = []

    async def stream(self, _request: Any, _call: Any) -> Any:
        try:
            self._call()
        except RuntimeError as error:
            self.met.append(error)
        yield allm.MessageStarted()
        yield allm.TextCompleted("routed")
        yield allm.MessageCompleted(allm.assistant("routed"), "stop")


def test_a_call_that_an_adapter_waits_for_on_the_loop_of_all_calls_is_refused() -> None:
    with pytest.raises(allm.AllmError, match="waiting here would block the event loop"):
        in_time(lambda: allm.embed(allm.Engine(embed_adapter=EmbeddingRouter()), "x"))
    assert in_time(lambda: allm.embed(embedding(), "x")).vectors() == [[1.0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: allm.chat(answering(), [allm.user("x")]),
        lambda: list(allm.stream(answering(), [allm.user("x")])),
        lambda: allm.generate(answering(), [allm.user("x")]),
    ],
    ids=["chat", "stream", "generate"],
)
def test_a_turn_that_an_adapter_waits_for_on_the_loop_of_all_calls_is_refused(call: Any) -> None:
    router = Router(call)
    assert in_time(lambda: allm.chat(allm.Engine(adapter=router), [allm.user("x")])).halted_reason is not None
    assert "allm.aio" in str(router.met[0])


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_session_that_an_adapter_of_its_host_waits_for_is_refused(known: bool) -> None:
    host = allm.Host()

    def call() -> Any:
        return (inner or host.session("c", answering())).reply("x").result()

    router = Router(call)
    with host:
        inner = host.session("b", answering()) if known else None
        in_time(lambda: host.session("a", allm.Engine(adapter=router)).reply("x").result())
        assert "waiting here" in str(router.met[0])
        assert in_time(lambda: host.session("b", answering()).reply("x").result()).halted_reason
        in_time(host.stop)


# What waits, and what does not, of the public methods of a host and a session.

WAITS: dict[str, Callable[[allm.Host, Any, Any], Any]] = {
    "Host.session": lambda host, _chat, _turn: host.session("new", answering()),
    "Host.session_ids": lambda host, _chat, _turn: host.session_ids(),
    "Host.stored_sessions": lambda host, _chat, _turn: host.stored_sessions(),
    "Host.delete_session": lambda host, _chat, _turn: host.delete_session("b"),
    "Host.asked": lambda host, _chat, _turn: host.asked(Future),
    "Host.stop": lambda host, _chat, _turn: host.stop(),
    "SessionHandle.reply": lambda _host, chat, _turn: chat.reply("y"),
    "SessionHandle.continue_": lambda _host, chat, _turn: chat.continue_("y"),
    "SessionHandle.step": lambda _host, chat, _turn: chat.step(),
    "SessionHandle.submit_tool_result": lambda _host, chat, _turn: chat.submit_tool_result("c0", "y"),
    "SessionHandle.submit_tool_results": lambda _host, chat, _turn: chat.submit_tool_results([("c0", "y")]),
    "SessionHandle.recover": lambda _host, chat, _turn: chat.recover(),
    "SessionHandle.replace_messages": lambda _host, chat, _turn: chat.replace_messages([]),
    "SessionHandle.fork": lambda _host, chat, _turn: chat.fork("c"),
    "SessionHandle.stop": lambda _host, chat, _turn: chat.stop(),
    "Turn.result": lambda _host, _chat, turn: turn.result(),
    "Turn.partials": lambda _host, _chat, turn: list(turn.partials(str)),
}
WAITS_NOT: dict[str, Callable[[allm.Host, Any, Any], Any]] = {
    "Host.start": lambda host, _chat, _turn: host.start(),
    "Host.tree": lambda host, _chat, _turn: host.tree(),
    "Host.stats": lambda host, _chat, _turn: host.stats(),
    "Host.run": lambda host, _chat, _turn: host.run(
        turn_spec("chat", answering(), {}, thread=thread_of([allm.user("x")]))
    ),
    "Host.call": lambda host, _chat, _turn: host.call(
        call_spec("embed", embedding(), "x", {}, transport=host.transport)
    ),
    "Host.tool_loop": lambda host, _chat, _turn: host.tool_loop(),
    "Host.new_id": lambda host, _chat, _turn: host.new_id(),
    "Host.check_home": lambda host, _chat, _turn: host.check_home(),
    "Host.may_wait": lambda host, _chat, _turn: host.may_wait(),
    "Host.check_turn": lambda host, _chat, _turn: host.check_turn(
        turn_spec("chat", answering(), {}, thread=thread_of([allm.user("x")]))
    ),
    "SessionHandle.cancel": lambda _host, chat, _turn: chat.cancel(),
    "SessionHandle.ask": lambda _host, chat, _turn: chat.ask(Ready()),
    "SessionHandle.ensure": lambda _host, chat, _turn: chat.ensure(),
    "Turn.close": lambda _host, _chat, turn: turn.close(),
}
REFUSES_BY_TRADE = {"Host.check_waiting", "Host.check_asking"}


def public(*classes: type) -> set[str]:
    return {
        f"{cls.__name__}.{name}"
        for cls in classes
        for name in dir(cls)
        if not name.startswith("_") and inspect.isroutine(getattr(cls, name))
        if not inspect.iscoroutinefunction(getattr(cls, name))
    }


def test_every_public_method_waits_or_waits_not() -> None:
    assert public(allm.Host, SessionHandle, Turn) == {*WAITS, *WAITS_NOT, *REFUSES_BY_TRADE}


def called_on_the_loop_of_all_calls(call: Callable[[allm.Host, Any, Any], Any]) -> list[BaseException]:
    """What `call` raises in an adapter of a host, about another session of it, which is as it was afterwards."""
    with allm.Host(shutdown_timeout=1.0) as host:
        chat = host.session("b", answering())
        turn = chat.reply("x")
        router = Router(lambda: call(host, chat, turn))
        in_time(lambda: host.session("a", allm.Engine(adapter=router)).reply("x").result())
        assert host.running
        in_time(turn.result)
        assert in_time(host.session_ids) == ["a", "b"]
        in_time(host.stop)
    return router.met


@pytest.mark.parametrize("name", WAITS)
def test_what_waits_is_refused_on_the_loop_of_all_calls(name: str) -> None:
    (error,) = called_on_the_loop_of_all_calls(WAITS[name])
    assert "would block the event loop" in str(error)


@pytest.mark.parametrize("name", WAITS_NOT)
def test_what_does_not_wait_is_done_on_the_loop_of_all_calls(name: str) -> None:
    assert called_on_the_loop_of_all_calls(WAITS_NOT[name]) == []


def test_a_call_may_be_waited_for_on_any_other_loop() -> None:
    async def main() -> Any:
        return allm.embed(embedding(), "x")

    assert asyncio.run(main()).vectors() == [[1.0]]


# An error that is raised again and again.


class Refusing:
    """Refuses whatever it is asked, and breaks off what it has begun to say."""

    name = "refusing"

    async def embed(self, _request: Any, _call: Any) -> Any:
        raise allm.EmbeddingAdapterError("invalid_request", message="no")

    async def stream_synthesize(self, _request: Any, _call: Any) -> Any:
        yield allm.AudioDelta(b"x")
        raise allm.SpeechAdapterError("network_error", message="cut")

    synthesize = embed


def depth_of(result: Callable[[], Any]) -> int:
    with pytest.raises(allm.AllmError) as raised:
        result()
    return sum(1 for _ in walk_tb(raised.value.__traceback__))


def test_an_error_does_not_grow_each_time_it_is_raised() -> None:
    stream = open_call_stream("embed", allm.Engine(embed_adapter=Refusing()), "x", {})
    first = depth_of(stream.result)
    assert [depth_of(stream.result) for _ in range(5)] == [first] * 5


def test_an_error_does_not_grow_each_time_it_is_awaited() -> None:
    async def main() -> list[int]:
        stream = open_call_stream("embed", allm.Engine(embed_adapter=Refusing()), "x", {})
        return [await adepth_of(stream) for _ in range(5)]

    async def adepth_of(stream: Any) -> int:
        with pytest.raises(allm.AllmError) as raised:
            await stream
        return sum(1 for _ in walk_tb(raised.value.__traceback__))

    _first, second, *others = asyncio.run(main())
    assert others == [second] * 3


def test_an_error_that_came_in_the_middle_does_not_grow() -> None:
    stream = open_call_stream("speech", allm.Engine(speech_adapter=Refusing()), "x", {}, streamed=True)
    first = depth_of(stream.result)
    assert [depth_of(stream.result) for _ in range(5)] == [first] * 5


# An asynchronous tool that waits, without `await`, for a turn whose own tools need its loop.


@allm.tool
async def inner() -> str:
    """Needs the loop."""
    return "inner"


@allm.tool
def plain() -> str:
    """Needs no loop, unless an executor does."""
    return "plain"


class Executor:
    """Runs every tool on the loop."""

    async def execute(self, tool: Any, args: Any, _context: Any) -> Any:
        return tool.handler(**args)


def calling(tool: Any, **options: Any) -> allm.Engine:
    scripts = [
        [script.tool_call(tool.name, {}), script.finish("tool_calls")],
        [script.text("done"), script.finish("stop")],
    ]
    return allm.Engine(adapter="fake", tools=[tool], adapter_opts={"scripts": scripts}, **options)


def answer_of(result: Any) -> str:
    return next(str(message.content) for message in result.thread.messages if message.role == "tool")


def test_a_call_whose_executor_needs_the_loop_is_refused_there() -> None:
    @allm.tool
    async def outer() -> str:
        """Waits on the loop."""
        engine = calling(plain, tool_executor=Executor())
        return str(allm.chat(engine, [allm.user("x")]).halted_reason)

    result = in_time(lambda: allm.chat(calling(outer), [allm.user("x")], tool_timeout=2.0))
    assert "its own asynchronous tools need" in answer_of(result)


@pytest.mark.parametrize("read", [lambda turn: turn.result(), list], ids=["result", "events"])
@pytest.mark.parametrize("other", [inner, plain], ids=["tool", "executor"])
def test_a_session_whose_tools_need_the_loop_is_not_waited_for_there(other: Any, read: Any) -> None:
    executor = {"tool_executor": Executor()} if other is plain else {}

    @allm.tool
    async def outer() -> str:
        """Waits on the loop."""
        return str(read(host.session("b", calling(other, **executor)).reply("x")))

    with allm.Host() as host:
        session = host.session("a", calling(outer))
        answer = answer_of(in_time(session.reply("x", tool_timeout=2.0).result))
        assert "waiting here would block the event loop" in answer
        in_time(host.stop)


def test_a_session_whose_tools_need_the_loop_can_be_awaited_there() -> None:
    @allm.tool
    async def outer() -> str:
        """Waits as it should."""
        return answer_of(await host.session("b", calling(inner)).reply("x"))

    with allm.Host() as host:
        session = host.session("a", calling(outer))
        assert answer_of(in_time(session.reply("x", tool_timeout=LONG).result)) == "inner"


# --- where there are no threads, or no loops, of the kind that is needed ------------------------------------------


def in_a_program(source: str) -> list[str]:
    """What a program prints before it ends, which it does in time."""
    program = [sys.executable, "-W", "error", "-c", textwrap.dedent(source)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=LONG, check=False)
    return [*ended.stdout.splitlines(), *ended.stderr.splitlines()]


def test_a_call_in_a_finalizer_at_the_end_of_the_interpreter_does_not_keep_it() -> None:
    told = in_a_program(
        """
        import allm_actors as allm
        from allm_actors.testing import script

        engine = allm.Engine("fake", adapter_opts={"scripts": [[script.text("hi"), script.finish("stop")]] * 2})

        class Late:
            def __del__(self):
                try:
                    allm.chat(engine, [allm.user("hi")])
                except BaseException as error:
                    print(type(error).__name__)

        late = Late()
        print(allm.chat(engine, [allm.user("hi")]).text())
        """
    )
    assert told[0] == "hi"
    assert len(told) == 2  # which error it is, the version of Python decides
    assert told[1].endswith("Error")


@pytest.mark.parametrize("patched", ["threading", "select", "socket"])
def test_green_threads_are_refused(patched: str) -> None:
    told = in_a_program(
        f"""
        import sys, types
        import allm_actors as allm

        monkey = types.ModuleType("gevent.monkey")  # as much of it as is asked
        monkey.is_module_patched = [{patched!r}].__contains__
        sys.modules["gevent.monkey"] = monkey
        try:
            with allm.Host():
                print("runs")
        except RuntimeError as error:
            print(error)
        """
    )
    if patched == "socket":
        assert told == ["runs"]
    else:
        assert len(told) == 1
        assert "patch with thread=False, select=False" in told[0]


FINE = allm.Engine("fake", adapter_opts={"scripts": [[script.text("hi"), script.finish("stop")]] * 9})


@pytest.mark.parametrize(
    "call",
    [
        lambda: allm.aio.chat(FINE, [allm.user("hi")]),
        lambda: allm.Host().__aenter__(),
        lambda: allm.stream(FINE, [allm.user("hi")]).__anext__(),
    ],
    ids=["call", "host", "stream"],
)
def test_whoever_awaits_without_an_event_loop_of_asyncio_is_told_so(call: Callable[[], Any]) -> None:
    with pytest.raises(RuntimeError, match=r"running asyncio event loop.*trio\.to_thread\.run_sync"):
        call().send(None)


def test_a_tool_that_ends_with_its_loop_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    @allm.tool
    async def endless() -> str:
        """It waits for ever."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    async def main() -> None:
        await host.__aenter__()
        chat = await host.session("s", engine)
        asked.append(asyncio.create_task(chat.reply("Go").aresult()))
        await begun.wait()

    begun, asked, host = asyncio.Event(), [], allm.Host()
    calls = [script.tool_call("endless"), script.finish("tool_calls")]
    engine = allm.Engine("fake", tools=[endless], adapter_opts={"scripts": [calls]})
    asyncio.run(main())  # it cancels what is left
    host.stop()
    assert asked[0].cancelled()
    told = [record.getMessage() for record in caplog.records]
    assert [each for each in told if "AsyncToolActor" in each] == []


@contextmanager
def no_files() -> Iterator[None]:
    """Inside the block no file can be opened."""
    resource = pytest.importorskip("resource")
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 8, hard))
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
        for each in held:
            os.close(each)


def test_a_host_without_a_file_for_the_loop_of_its_tools_says_so_and_goes_on_when_there_is_one() -> None:
    with allm.Host() as host:
        session = host.session("s", answering())
        with no_files():
            for _ in range(2):
                with pytest.raises(allm.EngineError, match=r"ulimit -n"):
                    session.reply("Hi")
        gc.collect()  # a loop that got half of its files would complain, and that is an error
        assert session.messages == []
        assert session.reply("Hi").result().thread.messages[-1].content == "done"


@pytest.mark.parametrize("dispatcher", ["loop", "threads"])
def test_a_host_that_cannot_have_an_event_loop_says_so_and_can_be_started_later(dispatcher: Any) -> None:
    host = allm.Host(dispatcher=dispatcher)
    with no_files(), pytest.raises(allm.EngineError, match=r"ulimit -n"):
        host.start().session("s", answering()).reply("Hi")
    gc.collect()
    with host:
        assert host.session("s", answering()).reply("Hi").result().thread.messages[-1].content == "done"
