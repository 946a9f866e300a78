"""The requests of one turn, each of which is the one before and more messages.

Rule of this file: it says what `validate` says, of every request. A request that can be sent leaves no call open, so
that nothing that comes after its messages can change what they are: only what is new has to be looked at.
"""

from __future__ import annotations

import msgspec

from .messages import Message
from .requests import Request
from .rules.validate import are_whole, validate

__all__ = ["Growing"]


class Growing:
    """Remembers what was valid; all but the messages is `request`'s. Thread: one at a time."""

    __slots__ = ("_request", "_valid")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._valid: list[Message] = []

    def with_messages(self, messages: list[Message]) -> Request:
        """The request with these messages; its lists, its `options` and its `prompt_cache` are its own.

        Raises ValidationError, as `validate` does.
        """
        held = self._request
        cache = held.prompt_cache
        request = msgspec.structs.replace(
            held,
            messages=list(messages),
            tools=list(held.tools),
            options=dict(held.options),
            prompt_cache=dict(cache) if type(cache) is dict else cache,
        )
        if not self._goes_on(messages):
            validate(request)
        self._valid = list(messages)
        return request

    def _goes_on(self, messages: list[Message]) -> bool:
        """Whether these are those that were valid, and perhaps more, that need no closer look."""
        count = len(self._valid)
        return 0 < count <= len(messages) and messages[:count] == self._valid and are_whole(messages[count:])
