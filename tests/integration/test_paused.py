"""A process that is stopped, with its machine or by a debugger: what has come meanwhile is no timeout.

Nobody sleeps here for that long: the event loop is held, as all of the process would be, and its clock moves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

import allm_actors as allm
from allm_actors.actors.turns import alarms
from allm_actors.actors.turns.alarms import Alarms
from allm_actors.data import AdapterError
from allm_actors.engine.http import doubt
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.wire import Deadlines, HttpRequest
from allm_actors.testing import script

from .stacks import stack  # noqa: F401 - a fixture

SOON = 20.0
LONG = 60.0  # seconds that the process stands still, and twice as long as anybody would wait
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Server:
    """One connection, one answer, which is given when the test says so."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self.asked, self.may, self.answered = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.may.set()
        self._thread.join(SOON)
        self._socket.close()

    def answer(self) -> None:
        """When this returns, the answer lies in the client's socket."""
        self.may.set()
        assert self.answered.wait(SOON)

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            self.asked.set()
            self.may.wait(SOON)
            connection.sendall(ANSWER)
            self.answered.set()
            connection.recv(1)  # until the client has gone


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as it:
        yield it


async def fetched(url: str, transport: HttpxTransport, **limits: float) -> bytes:
    """The body of the answer."""
    async with transport.open(HttpRequest(url=url, body=b"{}"), Deadlines(**limits)) as response:
        return await response.body(1000)


def paused(url: str, asked: threading.Event, meanwhile: Callable[[], object], **limits: float) -> bytes:
    """What a request gives whose process stands still, once `asked` is set, while `meanwhile` is done."""

    async def main() -> bytes:
        loop, slept = asyncio.get_running_loop(), 0.0
        loop.time = lambda: time.monotonic() + slept  # type: ignore[method-assign]
        transport = HttpxTransport()
        task = asyncio.create_task(fetched(url, transport, **limits))
        assert await asyncio.to_thread(asked.wait, SOON)
        meanwhile()  # this thread is the loop's
        slept = LONG
        try:
            return await task
        finally:
            await transport.aclose()

    return asyncio.run(main())


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("limits", [{"first_byte": LONG / 2}, {"idle": LONG / 2, "total": LONG / 2}])
def test_an_answer_that_began_meanwhile_is_read(
    server: Server, limits: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubt, "DOUBT", SOON)
    assert paused(server.url, server.asked, server.answer, **limits) == b"hello"


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("limits", "phase"), [({"first_byte": LONG / 2}, "first_byte"), ({"total": LONG / 2}, "total")]
)
def test_a_server_that_said_nothing_meanwhile_is_given_up(
    server: Server, limits: dict[str, float], phase: str
) -> None:
    with pytest.raises(AdapterError) as raised:
        paused(server.url, server.asked, lambda: None, **limits)
    assert (raised.value.reason, raised.value.metadata["phase"]) == ("timeout", phase)


def test_a_connection_that_came_to_be_meanwhile_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*args: Any, **options: Any) -> Any:
        asked.set()
        assert may.wait(SOON)
        try:
            return as_ever(*args, **options)
        finally:
            found.set()

    def find() -> None:
        may.set()
        assert found.wait(SOON)

    as_ever = socket.getaddrinfo
    asked, may, found = (threading.Event() for _ in range(3))
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(doubt, "DOUBT", SOON)
    server.may.set()
    url = server.url.replace("127.0.0.1", "localhost")
    assert paused(url, asked, find, connect=LONG / 2) == b"hello"


class Tool:
    """An asynchronous tool, whose answer lies there when its host wakes up; and how often deadlines were looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.counted, self.looked, self.awake = (threading.Event() for _ in range(4))
        self._loop: Any = None
        self._answer: Any = None
        as_ever_over, as_ever_set = Alarms.over, Alarms.set

        def over(alarms: Alarms) -> list[int]:
            tokens = as_ever_over(alarms)
            self.looked.set()
            return tokens

        def set_(alarms: Alarms, seconds: float, token: int) -> None:
            as_ever_set(alarms, seconds, token)
            if seconds == LONG / 2:
                self.counted.set()

        monkeypatch.setattr(Alarms, "over", over)
        monkeypatch.setattr(Alarms, "set", set_)

    async def run(self) -> str:
        """It waits for its answer."""
        self._loop = asyncio.get_running_loop()
        self._answer = self._loop.create_future()
        self.begun.set()
        return str(await self._answer)

    def answer(self) -> None:
        """The answer lies there, but nobody can look before it is `awake`."""
        self._loop.call_soon_threadsafe(self.awake.wait, SOON)
        self._loop.call_soon_threadsafe(self._answer.set_result, "the answer")


def told(tool: Tool, meanwhile: Callable[[], object]) -> str:
    """What the model hears of a tool with a deadline, whose process stands still for longer."""
    calls = [script.tool_call("run", {}), script.finish("tool_calls")]
    ready = allm.tool(timeout=LONG / 2)(tool.run)
    engine = allm.Engine(
        "fake",
        tools=[ready],
        adapter_opts={"scripts": [calls, [script.text("Good."), script.finish("stop")]]},
    )
    with allm.Host() as host:
        turn = host.session("s", engine).reply("Go")
        reader = threading.Thread(target=turn.result)
        reader.start()
        assert tool.begun.wait(SOON)
        assert tool.counted.wait(SOON)
        meanwhile()
        clock: Any = host.system.clock
        clock.monotonic = lambda: time.monotonic() + LONG
        clock.drive(host.system.timers)
        assert tool.looked.wait(SOON)
        tool.awake.set()
        reader.join(SOON)
        return next(each.content for each in turn.result().thread.messages if each.role == "tool")


def test_a_tool_that_has_its_answer_when_the_process_wakes_up_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alarms, "_DOUBT", SOON)
    tool = Tool(monkeypatch)
    assert told(tool, tool.answer) == "the answer"


def test_a_tool_that_has_none_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did not answer within 30 s" in told(Tool(monkeypatch), lambda: None)
