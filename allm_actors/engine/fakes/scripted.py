"""A script for whatever is not chat: its entries, its cursors, and the rest of a response.

Rule of this file: as in `fake`: no network, no keys, nothing that waits. An entry that is not in the table is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from allm_actors.data import AdapterError, AllmError
from allm_actors.engine.adapter import Call
from allm_actors.engine.fake import Counter, Recorded, show

__all__ = ["ScriptedFake"]

_Response = TypeVar("_Response", bound=msgspec.Struct)


class ScriptedFake(Generic[_Response]):
    """A script, its cursors, and the rest of a response."""

    name = "fake"
    script: str
    what: str
    error: type[AdapterError]

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._cursors: dict[Hashable, Counter] = {}
        self._visits: dict[Hashable, Counter] = {}

    def answer(self, request: Any, call: Call) -> _Response:
        """The response of the entry at the cursor. Raises the entry's error."""
        value, fields, failure = self.take(call)
        if failure is not None:
            raise failure
        return self.whole(request, call, value, fields)

    def take(self, call: Call) -> tuple[Any, Mapping[str, Any], AllmError | None]:
        """What the entry at the cursor says: the answer, its other fields, and the error with which it breaks off.

        Raises the entry's error, when it is nothing else.
        """
        value, fields = self._next(call)
        value, failure = self._cut(value)
        return value, fields, failure

    def whole(self, request: Any, call: Call, value: Any, fields: Mapping[str, Any]) -> _Response:
        """The response that `value` is, or is made into, with what the request and the call say besides."""
        response: Any = value
        if not isinstance(value, msgspec.Struct):
            response = self.build(request, value, fields)
        changes = {
            "request_id": response.request_id or call.request_id,
            "model": response.model or request.model,
            "metadata": {**request.metadata, **response.metadata},
        }
        return msgspec.structs.replace(response, **changes)  # type: ignore[no-any-return]

    def build(self, request: Any, value: Any, fields: Mapping[str, Any]) -> _Response:
        """A response of what a script says, or, for the value None, of the request alone."""
        raise NotImplementedError

    def capture(self, request: Any, call: Call) -> None:
        """Show the request, and the call, to whoever wants to see them."""
        show(call.options, "capture", request)
        show(call.options, "record", Recorded(request, call))

    def _next(self, call: Call) -> tuple[Any, Mapping[str, Any]]:
        script = call.options.get(self.script)
        if script is None:
            return self._unscripted()
        if not isinstance(script, list | tuple):
            raise TypeError(f"{self.script} in adapter_opts must be a list of entries, got: {script!r}")
        key = self._key(call, script)
        cursor = call.options.get("script_cursor") or self._counter(self._cursors, key)
        with self._lock:
            while cursor.value < len(script):
                tag, *rest = _entry(script[cursor.value], self.script)
                if tag == "retry_until_call":
                    self._not_yet(rest[0], (key, cursor.value))
                cursor.take()
                if tag == "error":
                    raise self._failure(*rest)
                if tag == "ok":
                    return rest[0], dict(rest[1]) if len(rest) > 1 else {}
        raise self._used_up()

    def _unscripted(self) -> tuple[Any, Mapping[str, Any]]:
        return None, {}

    def _cut(self, value: Any) -> tuple[Any, AllmError | None]:
        """A list of pieces without the error at its end, and that error."""
        *pieces, last = value if isinstance(value, list | tuple) and value else (None,)
        if not (isinstance(last, tuple) and last[:1] == ("error",)):
            return value, None
        return pieces, self._failure(*_entry(last, self.script)[1:])

    def _not_yet(self, until: int, key: Hashable) -> None:
        visits = self._counter(self._visits, key)
        if visits.take() < until - 1:
            raise self.error("rate_limited", provider=self.name, status=429, retry_after_ms=0)
        visits.reset()

    def _failure(self, reason: Any, fields: Mapping[str, Any] | None = None) -> AllmError:
        if isinstance(reason, AllmError):
            return reason
        return self.error(reason, **{"provider": self.name, **(fields or {})})

    def _used_up(self) -> AllmError:
        return self.error(
            "unknown",
            provider=self.name,
            message=f"no scripted {self.what} is left: give {self.script} in adapter_opts an entry for each call",
            metadata={"cause": f"no_scripted_{self.what}"},
        )

    def _key(self, call: Call, script: Sequence[Any]) -> Hashable:
        cursor = call.options.get("script_cursor")
        if cursor is not None and not isinstance(cursor, Counter):
            raise TypeError(f"script_cursor in adapter_opts must be a Counter, got: {cursor!r}")
        for key in (call.options.get("cursor_key"), call.cursor_key):
            if key is not None:
                return key
        return repr(script)

    def _counter(self, counters: dict[Hashable, Counter], key: Hashable) -> Counter:
        with self._lock:
            return counters.setdefault(key, Counter())


def _entry(entry: Any, script: str) -> Sequence[Any]:
    tags = ("ok", "error", "retry_until_call")
    if isinstance(entry, list | tuple) and len(entry) > 1 and entry[0] in tags:
        return entry
    raise ValueError(f"unknown entry of {script}: {entry!r}; entries begin with one of: {', '.join(tags)}")
