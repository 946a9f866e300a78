"""A stage for conversations that are disturbed: a provider that can be held, tools that can be held, a store that can.

Rule of this file: everything is real (actors, sockets, threads, files); only *when* something goes on is in the test's
hand. A hold is reached (`Hold.reached`) and let go (`Hold.open`), so that no test has to guess how long anything takes.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import allm_actors as allm
from allm_actors.actors.store import MemoryStore
from allm_actors.data import Message, Request, ToolCall
from allm_actors.engine.adapter import Call, Delay
from allm_actors.engine.fake import FakeAdapter
from allm_actors.testing import script
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply

__all__ = [
    "AGAIN",
    "ANSWER",
    "KEY",
    "PROMPT",
    "QUESTION",
    "SOON",
    "HeldStore",
    "Hold",
    "Place",
    "Provider",
    "Reader",
    "Tools",
    "leaves_nothing",
    "named",
    "one_end",
    "until",
    "valid_for_provider",
]

SOON, PROMPT = 2.0, 0.5
KEY = "sk-loopback-0123456789"
QUESTION, AGAIN = "What is the weather like?", "And once more?"
FIRST, LAST, ANSWER = ("Let me ", "look. "), "It is sunny.", "Still sunny."


class Hold(Gate):
    """A place where a server, a tool or a store waits until the test lets it go on."""

    def __init__(self, *, shut: bool = True) -> None:
        super().__init__()
        self.reached = threading.Event()
        if not shut:
            self.open()

    @property
    def is_open(self) -> bool:
        """Whether nothing is held here any more."""
        return self._opened.done()

    def wait(self, seconds: float = 30.0) -> bool:
        """Be held here for at most so long; whether it was opened. Thread: one that may block."""
        self.reached.set()
        try:
            self._opened.result(seconds)
        except TimeoutError:
            return False
        return True

    async def passed(self) -> None:
        """Be held here, on an event loop."""
        self.reached.set()
        await super().passed()


def until(condition: Callable[[], object], seconds: float = SOON) -> None:
    """Return once `condition()` holds; for what tells nobody when it changes.

    Raises: AssertionError after `seconds`.
    """
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        pause.wait(0.001)


class Tools:
    """Two tools, a blocking one and an asynchronous one, each of which can be held; and what they did."""

    def __init__(self) -> None:
        self.sync, self.asynchronous = Hold(shut=False), Hold(shut=False)
        self.ran: list[str] = []
        self.stopped: list[str] = []
        stage = self

        @allm.tool
        def thermometer(city: str, context: Any) -> dict[str, Any]:
            """Measure the temperature."""
            stage.ran.append("thermometer")
            while not stage.sync.wait(0.002):
                if context.cancelled:
                    stage.stopped.append("thermometer")
                    break
            return {"city": city, "celsius": 21}

        @allm.tool
        async def barometer(city: str) -> dict[str, Any]:
            """Measure the pressure."""
            stage.ran.append("barometer")
            try:
                await stage.asynchronous.passed()
            except asyncio.CancelledError:
                stage.stopped.append("barometer")
                raise
            return {"city": city, "hectopascal": 1013}

        self.all = [thermometer, barometer]


def calls(names: Sequence[str]) -> list[ToolCall]:
    """One call of each of these tools."""
    return [ToolCall(id=f"c{i}", name=name, arguments={"city": "Paris"}) for i, name in enumerate(names)]


class HeldFake(FakeAdapter):
    """The scripted provider, which stays where its script says `("raw_chunk", hold)` until that is open."""

    def play(self, request: Request, call: Call) -> Iterator[Any]:  # type: ignore[override]
        return self._held(super().play(request, call))

    def _held(self, playback: Any) -> Iterator[Any]:
        try:
            for item in playback:
                hold = getattr(item, "payload", None)
                if not isinstance(hold, Hold):
                    yield item
                    continue
                hold.reached.set()
                while not hold.is_open:
                    yield Delay(0.002)
        finally:
            playback.close()


class Provider:
    """Who answers, over a real socket or from a script, with one conversation: words and calls; then an answer.

    It can be held before the first byte (`opening`), between the words (`middle`) and before the end (`finish`) of what
    it says first, and, over a socket only, before the beginning of any later words (`reopening`) and the end
    of its last ones (`closing`).
    """

    def __init__(self, tools: Tools, wanted: Sequence[str], server: LoopbackServer | None) -> None:
        self.opening, self.middle = Hold(shut=False), Hold(shut=False)
        self.finish, self.closing = Hold(shut=False), Hold(shut=False)
        self.reopening = Hold(shut=False)
        self._wanted = calls(wanted)
        self.server = server
        self.tools = tools

    def engine(self, *, again: bool = False) -> allm.Engine:
        """Who answers the question, or, later, the question after it."""
        if self.server is not None:
            options = {"base_url": self.server.url + "/v1"}
            return allm.Engine(
                adapter="openai",
                model="gpt-4.1-mini",
                tools=self.tools.all,
                adapter_opts=options,
                retry=False,
            )
        scripts = [[script.text(ANSWER), script.finish("stop")]] if again else self.scripts()
        return allm.Engine(adapter=HeldFake(scripts=scripts), tools=self.tools.all)

    def scripts(self) -> list[list[Any]]:
        """The conversation, for the scripted provider."""
        asked = [script.tool_call(call.name, call.arguments, id=call.id) for call in self._wanted]
        first = [
            script.raw_chunk(self.opening),
            script.text(FIRST[0]),
            script.raw_chunk(self.middle),
            script.text(FIRST[1]),
            *asked,
            script.raw_chunk(self.finish),
            script.finish("tool_calls" if asked else "stop"),
        ]
        return [first, [script.text(LAST), script.finish("stop")]]

    def reply(self, request: Any) -> Reply:
        """What the server says to a request."""
        messages = request.json["messages"]
        if messages[-1]["content"] == AGAIN:
            return Reply(chunks=[self.reopening, *chat_completions(text=[ANSWER])])
        if messages[-1]["role"] == "tool":
            *words, finish, done = chat_completions(text=LAST)
            return Reply(chunks=[self.reopening, *words, self.closing, finish, done])
        begin, word, *more, finish, done = chat_completions(text=FIRST, tool_calls=self._wanted)
        return Reply(chunks=[self.opening, begin, word, self.middle, *more, self.finish, finish, done])

    def open_all(self) -> None:
        """Hold nothing any more."""
        tools = self.tools
        of_the_provider = (self.opening, self.middle, self.finish, self.reopening, self.closing)
        for hold in (*of_the_provider, tools.sync, tools.asynchronous):
            hold.open()


class HeldStore:
    """Sessions in memory, on a thread of the store's own, whose saves can be held: those that `held` names."""

    def __init__(self, held: Callable[[Sequence[Any]], bool] = lambda _batch: False) -> None:
        self.hold = Hold()
        self.held = held
        self._inner = MemoryStore()

    def save(self, batch: Any) -> None:
        """Keep every session of the batch, once the hold is open if it concerns this batch."""
        if not self.hold.is_open and self.held(batch):
            self.hold.wait()
        self._inner.save(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Reader:
    """Somebody who reads a turn: what they saw, and how it ended.

    They read on a thread of their own (`iterate`, `result`, or `async` with a loop of their own), or as a task of
    `loop` (`async`, `await`).
    """

    def __init__(self, turn: Any, how: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.turn, self.how = turn, how
        self.events: list[Any] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._heard = threading.Condition()
        self._thread: threading.Thread | None = None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._aread(), loop)
        else:
            read = self._read if how in ("iterate", "result") else lambda: asyncio.run(self._aread())
            self._thread = threading.Thread(target=read, name="reader", daemon=True)
            self._thread.start()

    @property
    def iterates(self) -> bool:
        """Whether they look at the events."""
        return self.how in ("iterate", "async")

    def hears(self, kind: type, count: int = 1) -> None:
        """Return once `count` events of a kind were read."""
        with self._heard:
            said = self._heard.wait_for(lambda: self._count(kind) >= count or self.done.is_set(), SOON)
        assert said, f"no {kind.__name__} within {SOON} s; read: {self.events}"

    def ends(self) -> str:
        """Wait for the end, and say how it went, after a look that there was one and only one."""
        assert self.done.wait(SOON), (
            f"no end within {SOON} s; read: {[type(e).__name__ for e in self.events]}"
        )
        if self._thread is not None:
            self._thread.join(SOON)
        return one_end(self.events, self.result, self.error, iterated=self.iterates)

    def _read(self) -> None:
        try:
            if self.how == "iterate":
                for event in self.turn:
                    self._note(event)
            self.result = self.turn.result()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            self._leave()

    async def _aread(self) -> None:
        try:
            if self.how == "async":
                async for event in self.turn:
                    self._note(event)
            self.result = await self.turn
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            self._leave()

    def _count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def _note(self, event: Any) -> None:
        with self._heard:
            self.events.append(event)
            self._heard.notify_all()

    def _leave(self) -> None:
        self.turn = None
        with self._heard:
            self.done.set()
            self._heard.notify_all()


def one_end(events: Sequence[Any], result: Any, error: BaseException | None, *, iterated: bool) -> str:
    """How a turn ended, after a look that it did so once: with a typed error, or one `ChatCompleted` and a result."""
    ends = [event for event in events if isinstance(event, allm.ChatCompleted)]
    if error is not None:
        assert isinstance(error, allm.AllmError), repr(error)
        assert not ends
        return type(error).__name__
    assert isinstance(result, allm.ChatResult), repr(result)
    if iterated:
        assert ends == events[-1:], [type(event).__name__ for event in events]
        assert ends[0].result == result
    return str(result.halted_reason)


def valid_for_provider(messages: Sequence[Message]) -> None:
    """A request with these messages is one that providers accept."""
    allm.validate(Request(messages=list(messages), model="gpt-4.1-mini"))


class Place:
    """A host, on a loop of its own (`loop`, `pool`, `threads`) or on somebody's running loop (`async`)."""

    def __init__(self, kind: str, store: Any = None) -> None:
        self.kind = kind
        self._store = store
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks_left: set[Any] | None = None
        self._thread: threading.Thread | None = None
        self._leave = Hold()
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        if self.kind == "async":
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._live()), name="place", daemon=True
            )
            self._thread.start()
            assert self._ready.wait(SOON)
        else:
            self.host = allm.Host(self._store, dispatcher=self.kind).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the host."""
        if self._thread is None:
            self.host.stop()
        else:
            self._leave.open()
            self._thread.join(10)
            assert not self._thread.is_alive(), "the host does not stop"
            assert not self.tasks_left, self.tasks_left

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function where the host's users live; the value of what it returns, if that is to be awaited."""
        if self.loop is None:
            return function()
        return asyncio.run_coroutine_threadsafe(_called(function), self.loop).result(SOON)

    def session(self, id: str, engine: allm.Engine, **options: Any) -> Any:
        """The session of that name."""
        return self.run(lambda: self.host.session(id, engine, api_key=KEY, **options))

    def read(self, chat: Any, text: str, how: str, **options: Any) -> Reader:
        """Reply, and have somebody read what comes."""
        turn = self.run(lambda: chat.reply(text, **options))
        return Reader(turn, how, self.loop)

    def find(self, *classes: str) -> Any:
        """The process of one of these classes."""
        refs = [ref for ref in self.host.system.processes() if ref.actor_class.__name__ in classes]
        assert refs, f"no {' or '.join(classes)} among {self.host.system.processes()}"
        return refs[0]

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        before = asyncio.all_tasks()
        async with allm.Host(self._store) as self.host:
            self._ready.set()
            await self._leave.passed()
        for _ in range(100):
            self.tasks_left = asyncio.all_tasks() - before
            if not self.tasks_left:
                return
            await asyncio.sleep(0.01)


async def _called(function: Callable[[], Any]) -> Any:
    result = function()
    return (
        await result if inspect.isawaitable(result) and not isinstance(result, allm.EventStream) else result
    )


@contextmanager
def leaves_nothing(server: LoopbackServer | None = None) -> Iterator[None]:
    """What runs inside gives back its threads, file descriptors, sockets and connections."""
    threads, files = set(threading.enumerate()), _files()
    connections = server.connections if server is not None else 0
    yield
    if server is not None:
        server.wait_for(lambda s: s.connections <= connections)
    until(lambda: not [each for each in threading.enumerate() if each not in threads and each.is_alive()])
    if _files() - files:
        gc.collect()
        with suppress(AssertionError):  # the server forgets a connection a moment before it closes the socket
            until(lambda: not _files() - files)
    left = _files() - files
    assert not left, f"left open: {left}"


@contextmanager
def named(*what: str) -> Iterator[None]:
    """Say in a failure which of many it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(" / ".join(what))
        raise


def _files() -> set[str]:
    names = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.add(f"{entry.name} {entry.readlink()}")
        except OSError:
            pass  # the one that was opened to list them
    return names
