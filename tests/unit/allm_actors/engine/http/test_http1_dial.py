"""Addresses that do not answer, that refuse, and that are lost to a quicker one: real sockets on 127.0.0.0/8."""

import asyncio
import socket

import pytest

from allm_actors.engine.http import http1_dial
from allm_actors.engine.http.http1_dial import connected_socket


def dial(monkeypatch, *addresses):
    """Connect to a name that has these addresses; where that led. Nothing of it runs on."""

    async def main():
        async def getaddrinfo(_host, _port, *, type):
            return [(socket.AF_INET, type, 0, "", address) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        made = await connected_socket("provider.example", 1)
        try:
            return made.getpeername()
        finally:
            made.close()
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                _, running = await asyncio.wait(others, timeout=5)
                assert not running

    return asyncio.run(main())


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture
def deaf():
    """An address whose queue is full: nobody answers there."""
    with socket.socket() as server:
        server.bind(("127.0.0.2", 0))
        server.listen(0)
        waiting = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(server.getsockname())
            waiting.append(each)
        yield server.getsockname()
        for each in waiting:
            each.close()


def test_one_that_refuses_is_passed_over(monkeypatch, listening):
    assert dial(monkeypatch, ("127.0.0.1", 9), listening) == listening


def test_one_that_does_not_answer_is_overtaken(monkeypatch, deaf, listening):
    monkeypatch.setattr(http1_dial, "HEAD_START", 0.02)
    assert dial(monkeypatch, deaf, listening) == listening


def test_of_two_that_answer_at_once_the_other_is_closed(monkeypatch, listening):
    connect, made, both = http1_dial._connect, [], asyncio.Event()

    async def together(address):
        mine = await connect(address)
        made.append(mine)
        if len(made) == 2:
            both.set()
        await both.wait()
        return mine

    monkeypatch.setattr(http1_dial, "HEAD_START", 0)
    monkeypatch.setattr(http1_dial, "_connect", together)
    assert dial(monkeypatch, listening, listening) == listening
    assert [each.fileno() for each in made] == [-1, -1]


def test_the_last_failure_is_the_reason(monkeypatch):
    with pytest.raises(ConnectionRefusedError):
        dial(monkeypatch, ("127.0.0.1", 9), ("127.0.0.1", 9))


def test_a_name_without_addresses_is_an_error(monkeypatch):
    with pytest.raises(OSError, match="has no address"):
        dial(monkeypatch)


def test_families_take_turns(monkeypatch):
    found = [(socket.AF_INET6, "a"), (socket.AF_INET6, "b"), (socket.AF_INET, "c")]

    async def main():
        async def getaddrinfo(_host, _port, *, type):
            return [(family, type, 0, "", (name,)) for family, name in found]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        return [address[0] for _, address in await http1_dial._addresses("provider.example", 1)]

    assert asyncio.run(main()) == ["a", "c", "b"]
