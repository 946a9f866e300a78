"""`validate` for the requests of one turn, each of which is the one before and more messages.

Rule of this file: it says what `validate` says, of every request. A request that can be sent leaves no call open, so
that nothing that comes after its messages can change what they are: only what is new has to be looked at.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .errors import ValidationError
from .messages import Message
from .requests import Request
from .validate import validate

__all__ = ["Growing"]


class Growing:
    """Remembers what was valid. Thread: one at a time."""

    __slots__ = ("_valid",)

    def __init__(self) -> None:
        self._valid: list[Message] = []

    def validate(self, request: Request) -> None:
        """As `validate(request)`."""
        messages: Any = request.messages
        valid = self._valid
        count = len(valid)
        if isinstance(messages, list) and 0 < count < len(messages) and messages[:count] == valid:
            try:
                validate(msgspec.structs.replace(request, messages=messages[count:]))
            except ValidationError:
                validate(request)  # its places are counted from the first message
        else:
            validate(request)
        self._valid = list(messages)
