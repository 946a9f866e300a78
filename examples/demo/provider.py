"""The provider on loopback: it answers what was recorded, and can be told to hold its breath.

Rule of this file: it finds the answer by the last message of a request, as a provider would by reading it. `hold` makes
the next stream stop after some words until its gate is opened, so that "in the middle" is a fact and not a race.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from allm_actors.testing.exchanges import Exchange
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply, Request

from .recording import spoken

__all__ = ["Provider"]


class Provider:
    """A loopback server that plays exchanges. Thread: the demo's, and the server's own for `answer`."""

    def __init__(self, exchanges: Iterable[Exchange], *, fast: bool = False) -> None:
        self._replies = {_key(exchange.json["messages"]): exchange.reply for exchange in exchanges}
        self._queue: list[Reply] = []
        self._held: tuple[int, Gate] | None = None
        self._fast = fast
        self.server = LoopbackServer(self.answer)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"{self.server.url}/v1"

    @property
    def requests(self) -> Sequence[Request]:
        """What it was asked so far."""
        return self.server.requests

    def play(self, exchanges: Iterable[Exchange]) -> None:
        """Answer the next requests with these, in order, whatever they say."""
        self._queue = [exchange.reply for exchange in exchanges]

    def hold(self, words: int) -> Gate:
        """The next stream that has text stops after so many pieces of it, until the gate is opened."""
        gate = Gate()
        self._held = (words, gate)
        return gate

    def answer(self, request: Request) -> Reply:
        """The recorded reply to the last message of the request."""
        reply = self._queue.pop(0) if self._queue else self._replies[_key(request.json["messages"])]
        if self._fast:
            reply = replace(reply, pace=0.0)
        if self._held is None or not _has_text(reply):
            return reply
        (words, gate), self._held = self._held, None
        return replace(reply, chunks=_with_gate(reply.chunks or (), words, gate))


def _key(messages: Sequence[Any]) -> tuple[str, str]:
    last = messages[-1]
    return last["role"], last.get("tool_call_id") or last["content"]


def _has_text(reply: Reply) -> bool:
    return any(isinstance(chunk, bytes) and spoken(chunk) for chunk in reply.chunks or ())


def _with_gate(chunks: Sequence[bytes | Gate], words: int, gate: Gate) -> list[bytes | Gate]:
    said = itertools.accumulate(bool(isinstance(chunk, bytes) and spoken(chunk)) for chunk in chunks)
    place = next((index for index, count in enumerate(said, 1) if count == words), len(chunks))
    return [*chunks[:place], gate, *chunks[place:]]
