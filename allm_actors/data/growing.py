"""The requests of one turn, each of which extends the messages of the previous one.

Rule of this file: the verdict on every request is that of `validate`. A valid request leaves no call open, so
later messages cannot make its own invalid: only the new ones have to be checked.
"""

from __future__ import annotations

import msgspec

from .messages import Message
from .requests import Request
from .rules.validate import are_whole, validate

__all__ = ["Growing"]


class Growing:
    """Builds such requests and remembers which messages were valid; the other fields are those of `request`.
    Thread: one at a time.
    """

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
        """Whether these are the messages that were valid, and perhaps new ones that are valid at a glance."""
        count = len(self._valid)
        return 0 < count <= len(messages) and messages[:count] == self._valid and are_whole(messages[count:])
