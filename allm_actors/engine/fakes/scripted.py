"""Scripts for what is not chat: entries, cursors, and the other fields of a response.

Rule of this file: as in `fake`: no network, no keys, nothing that waits. An entry that is not in the table is refused,
and so is an answer of a wrong kind: a mistake in a script is never reported as the adapter's.
"""

from __future__ import annotations

import reprlib
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from allm_actors.data import AdapterError, AllmError, ImageUsage, Usage
from allm_actors.data.predicates import all_of, one_of
from allm_actors.engine.adapter import Call
from allm_actors.engine.fake import Counters, Recorded, cursor_key, show
from allm_actors.engine.script import counted

__all__ = ["ScriptedFake", "numbered"]

_Response = TypeVar("_Response", bound=msgspec.Struct)
_Kind = TypeVar("_Kind")
_TAGS = ("ok", "error", "retry_until_call")


class ScriptedFake(Generic[_Response]):
    """The base of such fakes. `takes` describes, for error messages, what `ok` takes besides a whole response."""

    name = "fake"
    script: str
    what: str
    takes: str
    error: type[AdapterError]
    response: type[_Response]
    usage: type[Usage | ImageUsage] = Usage

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursors, self._visits = Counters(), Counters()

    def answer(self, request: Any, call: Call) -> _Response:
        """The response of the entry at the cursor.

        Raises the entry's error, and TypeError or ValueError for an entry that cannot be played.
        """
        value, fields, failure = self.take(call)
        if failure is not None:
            raise failure
        return self.whole(request, call, value, fields)

    def take(self, call: Call) -> tuple[Any, Mapping[str, Any], AllmError | None]:
        """The entry at the cursor: its answer, its other fields, and the error with which the answer breaks off.

        Raises the entry's error, if the entry is only an error.
        """
        value, fields = self._next(call)
        value, failure = self._cut(value)
        return value, fields, failure

    def whole(self, request: Any, call: Call, value: Any, fields: Mapping[str, Any]) -> _Response:
        """The response that `value` is, or is made into, completed from the request and the call.

        Raises TypeError for a value that no response can be made from, and for fields that a response does
        not have.
        """
        fields = self._fields(fields)
        response: Any = value
        if isinstance(value, self.response):
            response = msgspec.structs.replace(value, **fields)
        else:
            response = self.build(request, value, fields)
        changes = {
            "request_id": response.request_id or call.request_id,
            "model": response.model or request.model,
            "metadata": {**request.metadata, **response.metadata},
        }
        return msgspec.structs.replace(response, **changes)  # type: ignore[no-any-return]

    def build(self, request: Any, value: Any, fields: Mapping[str, Any]) -> _Response:
        """A response from a scripted value, or, if it is None, from the request alone. Raises TypeError."""
        raise NotImplementedError

    def items(self, value: Any, kind: type[_Kind]) -> list[_Kind]:
        """A scripted value, as a list of `kind`. Raises TypeError for anything else."""
        if not all_of(value, kind):
            raise self.misfit(value)
        return list(value)

    def misfit(self, value: Any) -> TypeError:
        """The error for a value that is not a valid answer."""
        whole = self.response.__name__
        got = f"one {type(value).__name__}" if isinstance(value, msgspec.Struct) else reprlib.repr(value)
        return TypeError(f"ok(…) in {self.script} takes {self.takes}, or a whole {whole}, got: {got}")

    def capture(self, request: Any, call: Call) -> None:
        """Give the request to the option `capture`, and the call to `record`."""
        show(call.options, "capture", request)
        show(call.options, "record", Recorded(request, call))

    def _next(self, call: Call) -> tuple[Any, Mapping[str, Any]]:
        script = call.options.get(self.script)
        if script is None:
            return self._unscripted()
        if not isinstance(script, list | tuple):
            raise TypeError(f"{self.script} in adapter_opts must be a list of entries, got: {script!r}")
        key = cursor_key(call.options, call, script)
        cursor = self._cursors.of(call.options, key)
        with self._lock:
            while cursor.value < len(script):
                tag, *rest = self._entry(script[cursor.value])
                if tag == "retry_until_call":
                    self._not_yet(rest[0], (key, cursor.value))
                cursor.take()
                if tag == "error":
                    raise self._failure(*rest)
                if tag == "ok":
                    return rest[0], dict(rest[1]) if len(rest) > 1 else {}
        raise self._used_up(script)

    def _unscripted(self) -> tuple[Any, Mapping[str, Any]]:
        return None, {}

    def _cut(self, value: Any) -> tuple[Any, AllmError | None]:
        """A list of pieces without the error at its end, and that error."""
        *pieces, last = value if isinstance(value, list | tuple) and value else (None,)
        if not (isinstance(last, list | tuple) and tuple(last[:1]) == ("error",)):
            return value, None
        return pieces, self._failure(*self._entry(last)[1:])

    def _entry(self, entry: Any) -> Sequence[Any]:
        if not isinstance(entry, list | tuple) or not 1 < len(entry) < 4 or entry[0] not in _TAGS:
            shown, tags = reprlib.repr(entry), ", ".join(_TAGS)
            raise ValueError(f"unknown entry of {self.script}: {shown}; entries begin with one of: {tags}")
        tag, value, *fields = entry
        if not all(isinstance(each, Mapping) for each in fields):
            raise TypeError(f"the fields of {tag}(…) in {self.script} must be a mapping, got: {fields[0]!r}")
        if tag == "retry_until_call" and not isinstance(value, int):
            raise TypeError(f"retry_until_call(n) in {self.script} takes a whole number, got: {value!r}")
        return entry

    def _fields(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        known, name = self.response.__struct_fields__, self.response.__name__
        for field in fields:
            if field not in known:
                has = ", ".join(known)
                raise TypeError(
                    f"ok(…) in {self.script} has an unknown field {field!r}; the fields of {name} are: {has}"
                )
        return {**fields, "usage": self._usage(fields["usage"])} if "usage" in fields else fields

    def _usage(self, said: Any) -> Usage | ImageUsage:
        kind = self.usage
        usage = kind(**said) if isinstance(said, Mapping) else said
        if not isinstance(usage, kind):
            raise TypeError(f"usage in {self.script} must be {kind.__name__} or a mapping, got: {said!r}")
        return counted(usage, f"the usage in {self.script}") if isinstance(usage, Usage) else usage

    def _not_yet(self, until: int, key: Hashable) -> None:
        if self._visits.is_early(key, until):
            raise self.error("rate_limited", provider=self.name, status=429, retry_after_ms=0)

    def _failure(self, reason: Any, fields: Mapping[str, Any] | None = None) -> AllmError:
        if isinstance(reason, AllmError):
            return reason
        if not one_of(reason, self.error.reasons):
            reasons = ", ".join(sorted(self.error.reasons))
            raise ValueError(f"error(reason) in {self.script} takes one of {reasons}, got: {reason!r}")
        return self.error(reason, **{"provider": self.name, **(fields or {})})

    def _used_up(self, script: Sequence[Any]) -> AllmError:
        wanted = f"give {self.script} in adapter_opts an entry for each call"
        if script and self._fails(script[-1]):
            shown = reprlib.repr(script[-1])
            wanted += (
                f", and one more for each retry: {shown}, the last one, may be retried (not with retry=False)"
            )
        message = f"no scripted {self.what} is left: {wanted}"
        cause = {"cause": f"no_scripted_{self.what}"}
        return self.error("unknown", provider=self.name, message=message, metadata=cause)

    def _fails(self, entry: Sequence[Any]) -> bool:
        return entry[0] == "error" or self._cut(entry[1])[1] is not None


def numbered(items: Sequence[Any]) -> list[Any]:
    """Items with an index, numbered in the order of the script if all of theirs are 0."""
    if any(item.index for item in items):
        return list(items)
    return [msgspec.structs.replace(item, index=index) for index, item in enumerate(items)]
