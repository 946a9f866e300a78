"""The scripted provider: its answers are written in advance.

Rule of this file: a call is opened at once and read lazily. Opening checks the whole script, moves the cursor
and records the call; reading yields what the script says and has no side effects, so the same script plays in
a test, in an actor and in virtual time. What an entry means is in `allm_actors.engine.script`.

`adapter_opts`: `script` (one reply) or `scripts` (one per call), `stream_script` (either form, used before both),
`usage` (over the script's), `request_id` (the response's, over the call's), `record` (a list or a callable that gets
each `Recorded` call), `cleanup_observer` (a `Counter` or a callable, once per stream), `retry_until_call` (n: the first
n-1 calls time out), `script_cursor` (a `Counter` that several engines share) and `cursor_key` (default: the engine's
id).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any, NamedTuple, Self

from allm_actors.data import AdapterError, ErrorEvent, Event, MessageStarted, Request, Usage
from allm_actors.engine.adapter import Call, Delay
from allm_actors.engine.script import count_calls, counted, preflight, stage

__all__ = ["Counter", "Counters", "FakeAdapter", "Playback", "Recorded", "cursor_key", "show"]

_OPTIONS = frozenset(
    {"script", "scripts", "stream_script", "usage", "request_id", "record", "cleanup_observer"}
    | {"retry_until_call", "script_cursor", "cursor_key"}
)


class Recorded(NamedTuple):
    """A call that the fake received."""

    request: Request
    call: Call


class Counter:
    """A number that counts up. Thread: safe."""

    __slots__ = ("_lock", "value")

    def __init__(self, value: int = 0) -> None:
        self.value: int = value
        self._lock = threading.Lock()

    def take(self) -> int:
        """Return the number, then add one."""
        with self._lock:
            value = self.value
            self.value = value + 1
            return value

    def reset(self) -> None:
        """Start at zero again."""
        with self._lock:
            self.value = 0

    def __repr__(self) -> str:
        return f"Counter({self.value})"


class Counters:
    """Counters by key, each made when it is first asked for. Thread: safe."""

    __slots__ = ("_counters", "_lock")

    def __init__(self) -> None:
        self._counters: dict[Hashable, Counter] = {}
        self._lock = threading.Lock()

    def at(self, key: Hashable) -> Counter:
        """The counter of this key."""
        with self._lock:
            return self._counters.setdefault(key, Counter())

    def of(self, options: Mapping[str, Any], key: Hashable) -> Counter:
        """The `script_cursor` of an adapter's options, else the counter of this key."""
        cursor: Counter | None = options.get("script_cursor")
        return self.at(key) if cursor is None else cursor

    def is_early(self, key: Hashable, until: int) -> bool:
        """Count a visit: True for the first `until - 1`, then False once, and from the beginning again."""
        visits = self.at(key)
        if visits.take() < until - 1:
            return True
        visits.reset()
        return False


class Playback:
    """An opened script. Closing it, by reading it to the end, by `close` or by dropping it, cleans up once."""

    __slots__ = ("_cleanup", "_events")

    def __init__(self, events: Sequence[Event | Delay], cleanup: Callable[[], object] | None = None) -> None:
        self._events = deque(events)
        self._cleanup = cleanup

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Delay:
        try:
            return self._events.popleft()
        except IndexError:
            self.close()
            raise StopIteration from None

    def close(self) -> None:
        """Stop playing."""
        self._events.clear()
        cleanup, self._cleanup = self._cleanup, None
        if cleanup is not None:
            cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class _Live:
    """A playback in real time: sleeps through the script's delays, on the reader's thread."""

    __slots__ = ("_playback",)

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while isinstance(item := next(self._playback), Delay):
            time.sleep(item.seconds)
        return item

    def close(self) -> None:
        """Stop playing."""
        self._playback.close()


class FakeAdapter:
    """Plays scripts; see the file's docstring for `adapter_opts`. Cursors live as long as the adapter."""

    name = "fake"

    def __init__(
        self, script: Sequence[Any] | None = None, *, scripts: Sequence[Sequence[Any]] | None = None
    ) -> None:
        self._own = {
            name: value for name, value in (("script", script), ("scripts", scripts)) if value is not None
        }
        self._cursors, self._failures = Counters(), Counters()

    def play(self, request: Request, call: Call) -> Playback:
        """One call, without waiting.

        Raises what a `preflight_error` says, `AdapterError("no_scripted_response")` past the end of the script, and
        ValueError or TypeError for a script that cannot be played.
        """
        options = {**self._own, **call.options}
        _refuse_misspelt(options)
        scripts = _scripts(options)
        key = cursor_key(options, call, scripts)
        show(options, "record", Recorded(request, call))
        cleanup = _cleanup(options.get("cleanup_observer"))
        if self._times_out(options.get("retry_until_call"), key):
            error = AdapterError("timeout", provider=self.name, message="scripted timeout (retry_until_call)")
            return Playback([MessageStarted(), ErrorEvent(error)], cleanup)
        index = self._cursors.of(options, key).take()
        entries = _entries_at(scripts, index)
        refused = preflight(entries)
        if refused is not None:
            raise refused
        first_call = count_calls([*chain.from_iterable(scripts[:index])])
        events = stage(
            entries,
            usage=_usage(options.get("usage")),
            first_call=first_call,
            request_id=_request_id(options.get("request_id")),
        )
        return Playback(events, cleanup)

    def stream(self, request: Request, call: Call) -> Iterator[Event]:
        """As `play`, sleeping through delays in the reading thread."""
        return _Live(self.play(request, call))

    def requires_structured_finalize(self, request: Request) -> bool:  # noqa: ARG002 - the protocol's signature
        """Always False: a script does not depend on the request."""
        return False

    def _times_out(self, until: Any, key: Hashable) -> bool:
        if until is None:
            return False
        if not isinstance(until, int):
            raise TypeError(f"retry_until_call in adapter_opts must be a whole number, got: {until!r}")
        return self._failures.is_early(key, until)


def show(options: Mapping[str, Any], name: str, seen: Any) -> None:
    """Append `seen` to the option of this name if it is a list, or call it if it is callable. Raises
    TypeError for any other kind of option.
    """
    to = options.get(name)
    if to is None:
        return
    if isinstance(to, list):
        to.append(seen)
    elif callable(to):
        to(seen)
    else:
        raise TypeError(f"{name} in adapter_opts must be a list or a callable, got: {to!r}")


def cursor_key(options: Mapping[str, Any], call: Call, script: Sequence[Any]) -> Hashable:
    """Which cursor a call moves: the option's, the engine's, or one shared by all calls with the same script.

    Raises TypeError for a `script_cursor` that is no `Counter`, and for a `cursor_key` that is not hashable.
    """
    cursor = options.get("script_cursor")
    if cursor is not None and not isinstance(cursor, Counter):
        raise TypeError(f"script_cursor in adapter_opts must be a Counter, got: {cursor!r}")
    key = options.get("cursor_key")
    if key is None:
        return repr(script) if call.cursor_key is None else call.cursor_key
    try:
        hash(key)
    except TypeError:
        text = f"cursor_key in adapter_opts must be hashable, such as a text, got: {key!r}"
        raise TypeError(text) from None
    return key  # type: ignore[no-any-return]


def _scripts(options: Mapping[str, Any]) -> list[Sequence[Any]]:
    if options.get("script") is not None and options.get("scripts") is not None:
        raise ValueError(
            "cannot mix script and scripts in adapter_opts: script is one reply, scripts is one per call"
        )
    for name in ("stream_script", "scripts", "script"):
        value = options.get(name)
        if value is None:
            continue
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} in adapter_opts must be a list, got: {value!r}")
        if name == "script" or (name == "stream_script" and not _is_nested(value)):
            return [value]
        return _nested(name, value)
    return []


def _is_nested(value: Sequence[Any]) -> bool:
    return bool(value) and not _no_scripts(value)


def _no_scripts(value: Sequence[Any]) -> list[Any]:
    return [
        item for item in value if not isinstance(item, (list, tuple)) or (item and isinstance(item[0], str))
    ]


def _nested(name: str, value: Sequence[Any]) -> list[Sequence[Any]]:
    wrong = _no_scripts(value)
    if not wrong:
        return list(value)
    raise TypeError(
        f"{name} in adapter_opts must be a list of scripts, one per call, but it contains: {wrong[0]!r}"
    )


def _entries_at(scripts: Sequence[Sequence[Any]], index: int) -> Sequence[Any]:
    if index < len(scripts):
        return scripts[index]
    have = (
        "adapter_opts has no script"
        if not scripts
        else (
            f"the number of scripts is {len(scripts)}, and this is call {index + 1} of this engine and of "
            "those derived from it"
        )
    )
    raise AdapterError(
        "no_scripted_response",
        provider=FakeAdapter.name,
        message=(
            f"no scripted response: {have}; give adapter_opts scripts=[[…], […]] with one list per call, or a "
            "new script_cursor to begin again"
        ),
    )


def _cleanup(observer: Any) -> Callable[[], object] | None:
    if observer is None or callable(observer):
        return observer  # type: ignore[no-any-return]
    if isinstance(observer, Counter):
        return observer.take
    raise TypeError(f"cleanup_observer in adapter_opts must be a Counter or a callable, got: {observer!r}")


def _request_id(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError(f"request_id in adapter_opts must be a text, got: {value!r}")
    return value


def _usage(value: Any) -> Usage | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        unknown = [name for name in value if name not in Usage.__struct_fields__]
        if unknown:
            known = ", ".join(Usage.__struct_fields__)
            raise TypeError(
                f"usage in adapter_opts has fields that Usage does not have: {unknown}; its fields are: {known}"
            )
        value = Usage(**value)
    if not isinstance(value, Usage):
        raise TypeError(f"usage in adapter_opts must be a Usage or a mapping of its fields, got: {value!r}")
    return counted(value, "the usage in adapter_opts")


def _refuse_misspelt(options: Mapping[str, Any]) -> None:
    for name in options.keys() - _OPTIONS:
        near = get_close_matches(name, sorted(_OPTIONS), n=1, cutoff=0.8)
        if near:
            raise TypeError(f"adapter_opts of 'fake' has no option {name!r}; did you mean {near[0]!r}?")
