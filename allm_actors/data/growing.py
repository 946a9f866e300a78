"""`validate` for the requests of one turn, each of which is the one before and more messages.

Rule of this file: it says what `validate` says, of every request. A request that can be sent leaves no call open, so
that nothing that comes after its messages can change what they are: only what is new has to be looked at.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .errors import ValidationError
from .requests import Request
from .validate import validate

__all__ = ["Growing"]


class Growing:
    """Remembers what was valid. Thread: one at a time."""

    __slots__ = ("_valid",)

    def __init__(self) -> None:
        self._valid = Request(messages=[])

    def validate(self, request: Request) -> None:
        """As `validate(request)`."""
        new = self._new_in(request)
        try:
            validate(new)
        except ValidationError:
            if new is not request:
                validate(request)  # its places are counted from the first message
            raise
        self._valid = msgspec.structs.replace(request, messages=list(request.messages))

    def _new_in(self, request: Request) -> Request:
        """The request without what was valid before; itself, unless it has grown."""
        messages: Any = request.messages
        valid = self._valid.messages
        count = len(valid)
        if not (isinstance(messages, list) and 0 < count < len(messages) and messages[:count] == valid):
            return request
        tools = [] if request.tools == self._valid.tools else request.tools
        return msgspec.structs.replace(request, messages=messages[count:], tools=tools)
