"""An agent behind HTTP: one session for each conversation, and its answer as server-sent events while it is written.

    curl -N -d "Good morning, I am Ada." http://127.0.0.1:8000/chats/ada

asyncio's own server will do, so that nothing has to be installed; `answer` is the same in any framework. Who goes away
in the middle of an answer stops the model call that makes it. When the provider fails, the next message goes on.
"""

import asyncio
import contextlib
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

import allm_actors as allm
from allm_actors.testing import script
from provider import MODEL, engine, said, says

EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class Service:
    """Answers `POST /chats/NAME`, whose body is what the user says."""

    def __init__(self, host: allm.AsyncHost, agent: allm.Engine) -> None:
        self.host, self.agent = host, agent
        self.ended: asyncio.Queue[allm.ChatResult] = asyncio.Queue()  # for whoever watches the service

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, one request."""
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.request(reader, writer)  # who leaves is not an error

    async def request(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Read it, and answer."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(":") for line in lines)}
        text = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
        method, path, _ = first.split(" ")
        if method == "POST" and path.startswith("/chats/"):
            await self.answer(path.removeprefix("/chats/"), text, reader, writer)
        else:
            writer.write(refusal(HTTPStatus.NOT_FOUND, "not_found"))

    async def answer(self, name: str, text: str, reader: StreamReader, writer: StreamWriter) -> None:
        """One turn, event by event. What is refused has a status; what fails later is the last event."""
        try:
            session = await self.host.session(name, self.agent, when_busy="reject")
            if (
                session.status == "error"
            ):  # the turn before has failed; without this, so would all that follow
                await session.recover()
            turn = await session.reply(text).admitted()
        except allm.AllmError as error:
            writer.write(refusal(status_of(error), error.reason))
            return
        writer.write(EVENT_STREAM)
        gone = asyncio.create_task(close_when_left(reader, turn))
        try:
            async for event in turn:
                if isinstance(event, allm.TextDelta):
                    await send(writer, {"text": event.delta})
            result = await turn.aresult()
            self.ended.put_nowait(result)
            if "error" in result.metadata:
                await send(writer, {"error": result.metadata["error"].reason})
        except allm.AllmError as error:  # refused by its first model call: no key, for instance
            await send(writer, {"error": error.reason})
        finally:
            gone.cancel()


def status_of(error: allm.AllmError) -> HTTPStatus:
    """The status of a turn that was not admitted."""
    match error:
        case allm.SessionError() | allm.SessionStatusError():  # busy, for instance
            return HTTPStatus.CONFLICT
        case allm.ValidationError():
            return HTTPStatus.BAD_REQUEST
        case allm.StoreError():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR


def refusal(status: HTTPStatus, reason: str) -> bytes:
    """A whole response. It tells the reason and not the message, which is for the operator."""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    )
    content = json.dumps({"error": reason})
    return f"{head}content-length: {len(content)}\r\n\r\n{content}".encode()


async def send(writer: StreamWriter, data: dict[str, str]) -> None:
    """One server-sent event."""
    writer.write(b"data: %b\n\n" % json.dumps(data).encode())
    await writer.drain()


async def close_when_left(reader: StreamReader, turn: allm.Turn[allm.ChatResult]) -> None:
    """A client says nothing more: its silence ends when it leaves."""
    with contextlib.closing(turn), contextlib.suppress(ConnectionError):
        await reader.read()


async def post(port: int, path: str, text: str) -> AsyncGenerator[Any, None]:
    """What a client gets: the status, and then each `{"text": …}` and `{"error": …}`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        content = text.encode()
        head = f"POST {path} HTTP/1.1\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        yield int((await reader.readline()).split()[1])
        async for line in reader:
            if b"{" in line:
                yield json.loads(line.removeprefix(b"data: "))


async def whole(answer: AsyncGenerator[Any, None]) -> tuple[int, str, str | None]:
    """The status, the text, and the reason of the error."""
    status, *events = [each async for each in answer]
    text = "".join(event.get("text", "") for event in events)
    return status, text, events[-1].get("error")


async def main() -> None:
    """The service, and its clients."""
    broken = [script.text("Well, "), script.error("provider_unavailable", status=503)]
    endless = [script.text("Once upon "), script.delay(60), script.text("a time."), script.finish("stop")]
    agent = engine(says("Good ", "morning."), says("Good ", "morning."), broken, says("Fine."), endless)
    async with allm.Host() as host:
        service = Service(host, agent)
        server = await asyncio.start_server(service.connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            for answer in await asyncio.gather(
                whole(post(port, "/chats/ada", "Good morning, I am Ada.")),
                whole(post(port, "/chats/bob", "Good morning, I am Bob.")),
            ):
                print("both get  ", answer)
                assert answer[::2] == (200, None)
                said(answer[1], "Good morning.")
                assert (await service.ended.get()).halted_reason == "completed"

            nobody = await whole(post(port, "/", "Anybody there?"))
            print("nobody    ", nobody)
            assert nobody == (404, "", "not_found")

            failed = await whole(post(port, "/chats/ada", "How are you?"))
            print("it fails  ", failed, (await service.ended.get()).halted_reason)
            assert failed == (200, "Well, ", "provider_unavailable") or MODEL
            again = await whole(post(port, "/chats/ada", "And now?"))
            print("it goes on", again, (await service.ended.get()).halted_reason)
            assert again[::2] == (200, None)
            said(again[1], "Fine.")

            async with contextlib.aclosing(post(port, "/chats/ada", "Tell me a long story.")) as story:
                begun = [await anext(story), await anext(story)]
                busy = await whole(post(port, "/chats/ada", "Are you still there?"))
                print("meanwhile ", busy)
            ended = await service.ended.get()
            print("she leaves", begun, ended.halted_reason)
            if MODEL is None:
                assert busy == (409, "", "busy")
                assert (begun, ended.halted_reason) == ([200, {"text": "Once upon "}], "cancelled")

            roles = [message.role for message in (await host.session("ada", agent)).messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2)


asyncio.run(main())
