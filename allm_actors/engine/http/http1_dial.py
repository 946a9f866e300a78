"""A host and a port to a connected socket.

Rule of this file: every socket that was opened is returned or closed, whenever this is cancelled. asyncio's own race of
addresses does not guarantee that: Python 3.11's `staggered_race` leaks a socket if it is cancelled just as it
is won.

An address that does not answer gets `HEAD_START` seconds before the next one is tried beside it; families take turns.
Source: RFC 8305 (happy eyeballs), sections 4 and 5.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest

from .public_hosts import NotPublicError, is_public

__all__ = ["HEAD_START", "connected_socket"]

HEAD_START = 0.25

_Address = tuple[int, tuple[object, ...]]  # the family, and what `connect` takes


async def connected_socket(host: str, port: int, *, public: bool = False) -> socket.socket:
    """A socket, connected and not blocking. Raises OSError: what the last address failed with.

    With `public` it raises `NotPublicError` for a host that has a non-public address.
    """
    addresses = await _addresses(host, port)
    if public and not all(is_public(str(address[0])) for _, address in addresses):
        raise NotPublicError(host)
    if len(addresses) == 1:
        return await _connect(addresses[0])
    attempts: set[asyncio.Task[socket.socket]] = set()
    won: socket.socket | None = None
    failure = OSError(f"{host} has no address")
    try:
        for number, address in enumerate(addresses, 1):
            attempts.add(asyncio.create_task(_connect(address)))
            while attempts and won is None:
                patience = HEAD_START if number < len(addresses) else None
                done, attempts = await asyncio.wait(
                    attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                for attempt in done:
                    error = attempt.exception()
                    if isinstance(error, OSError):
                        failure = error
                    elif won is None:
                        won = attempt.result()
                    else:
                        attempt.result().close()
                if not done:
                    break  # silence: let the next one run beside it
            if won is not None:
                return won
        raise failure
    finally:
        _give_up(attempts)


async def _addresses(host: str, port: int) -> Sequence[_Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(int(family), tuple(address)) for family, _, _, _, address in found]
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each not in first]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]


async def _connect(address: _Address) -> socket.socket:
    family, where = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made


def _give_up(attempts: set[asyncio.Task[socket.socket]]) -> None:
    """Cancel the other attempts, and close the socket of one that succeeded all the same."""
    for attempt in attempts:
        attempt.add_done_callback(_close_result)
        attempt.cancel()


def _close_result(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
