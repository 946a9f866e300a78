"""An agent behind HTTP: one session for each conversation, and its answer as server-sent events while it is written.

    curl -N -d "Good morning, I am Ada." http://127.0.0.1:8000/chats/ada

asyncio's own server will do, so that nothing has to be installed; `answer` is the same in any framework. Who goes away
in the middle of an answer stops the model call that makes it.
"""

import asyncio
import contextlib
import json
from asyncio import StreamReader, StreamWriter

import allm_actors as allm
from allm_actors.testing import script
from provider import MODEL, engine, said, says

EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Service:
    """Answers `POST /chats/NAME`, whose body is what the user says."""

    def __init__(self, host: allm.Host, agent: allm.Engine) -> None:
        self.host, self.agent = host, agent
        self.ended: asyncio.Queue[allm.ChatResult] = asyncio.Queue()  # for whoever watches the service

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, one request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):  # who leaves is not an error
            await self.request(reader, writer)
        writer.close()

    async def request(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Read it, and answer."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        method, path, _ = head.split("\r\n")[0].split(" ")
        length = next(
            (int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0
        )
        said = (await reader.readexactly(length)).decode()
        if method == "post" and path.startswith("/chats/"):
            await self.answer(path.removeprefix("/chats/"), said, reader, writer)
        else:
            writer.write(NOT_FOUND)

    async def answer(self, name: str, said: str, reader: StreamReader, writer: StreamWriter) -> None:
        """One turn, event by event."""
        turn = self.host.session(name, self.agent).reply(said)
        writer.write(EVENT_STREAM)
        gone = asyncio.create_task(
            reader.read()
        )  # a client says nothing more; its silence ends when it leaves
        gone.add_done_callback(lambda _: turn.close())
        async for event in turn:
            if isinstance(event, allm.TextDelta):
                writer.write(b"data: %b\n\n" % json.dumps(event.delta).encode())
                await writer.drain()
        gone.cancel()
        self.ended.put_nowait(await turn.aresult())


async def has_left(reader: StreamReader) -> None:
    """Returns when a client, who says nothing more, leaves."""
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def post(port: int, path: str, body: str, *, leave_after: int | None = None) -> str:
    """What a client gets: the text of the answer, or the first line of a refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = body.encode()
    writer.write(b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(content), content))
    status = (await reader.readline()).decode().strip()
    pieces = []
    async for line in reader:
        if line.startswith(b"data: "):
            pieces.append(json.loads(line[6:]))
        if len(pieces) == leave_after:
            break
    writer.close()
    await writer.wait_closed()
    return "".join(pieces) or status


async def main() -> None:
    """The service, and its clients."""
    endless = [script.text("Once upon "), script.delay(60), script.text("a time."), script.finish("stop")]
    agent = engine(says("Good ", "morning."), says("Good ", "morning."), endless)
    async with allm.Host() as host:
        service = Service(host, agent)
        server = await asyncio.start_server(service.connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            ada, bob = await asyncio.gather(
                post(port, "/chats/ada", "Good morning, I am Ada."),
                post(port, "/chats/bob", "Good morning, I am Bob."),
            )
            print("ada gets ", ada, "\nbob gets ", bob)
            said(ada, "Good morning.")
            said(bob, "Good morning.")
            assert [(await service.ended.get()).halted_reason for _ in "ab"] == ["completed", "completed"]

            nobody = await post(port, "/", "Anybody there?")
            print("nobody   ", nobody)
            assert nobody == "HTTP/1.1 404 Not Found"

            half = await post(port, "/chats/ada", "Tell me a long story.", leave_after=1)
            ended = await service.ended.get()
            print("leaves at", half, f"({ended.halted_reason})")
            if MODEL is None:
                assert (half, ended.halted_reason) == ("Once upon ", "cancelled")
            session = await host.session("ada", agent)
            assert session.status == ("idle" if ended.halted_reason == "cancelled" else "completed")
            assert [message.role for message in session.messages] == ["user", "assistant"] * 2


asyncio.run(main())
