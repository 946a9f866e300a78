"""Recorded exchanges with real providers, and what a network may do to any of them.

The rule of this file: what holds for every dialect is written once. A stream is cut in two, and cut short, in every
event. Neither is done naively, which would take hours: feeding is a function of state and bytes, so it is enough to
show for each event that a cut inside it leads to the same events and to the same state as the event in one piece. The
events of a long stream are much alike, so each of them is cut at a few places, and the next one at others.
"""

import copy
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    MessageCompleted,
    RawChunk,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)

EVERY_BYTE = bool(os.environ.get("EVERY_BYTE"))
MOST_CUTS = 600  # about: of one stream

TRAFFIC = Path(__file__).parents[2].parent / "shared" / "traffic"


class Exchange(NamedTuple):
    """One recorded request and its response; `name` is `folder/file`."""

    name: str
    provider: str
    request: dict[str, Any]
    response: dict[str, Any]
    body: bytes

    @property
    def sent(self) -> Any:
        """The request's JSON, or None."""
        body = self.request.get("body")
        if isinstance(body, str):
            try:
                return json.loads(body)
            except ValueError:
                return None
        return body


def exchanges(folders: Iterable[str]) -> Iterator[Exchange]:
    """All exchanges of these folders; none where there is no recorded traffic."""
    for folder in folders:
        for path in sorted((TRAFFIC / folder).glob("*.json")):
            recorded = json.loads(path.read_text())
            if "request" not in recorded or "response" not in recorded:
                continue  # not HTTP
            response = recorded["response"]
            if response.get("body_b64"):
                import base64

                body = base64.b64decode(response["body_b64"])
            else:
                body = (response.get("body_text") or "").encode()
            yield Exchange(f"{folder}/{path.stem}", folder, recorded["request"], response, body)


def cases(found: Iterable[Exchange]) -> Any:
    """These exchanges as parameters; one that is skipped, and says why, where there are none."""
    params = [pytest.param(each, id=each.name) for each in found]
    absent = pytest.param(None, marks=pytest.mark.skip(reason=f"no recorded traffic in {TRAFFIC}"))
    return pytest.mark.parametrize("exchange", params or [absent])


# --- what a network may do ----------------------------------------------------------------------------------


def server_events(body: bytes) -> list[bytes]:
    """The events of a stream, one by one; their lines end with LF."""
    return [block + b"\n\n" for block in re.split(rb"\n\n+", body.replace(b"\r\n", b"\n")) if block]


def assert_cut_anywhere(make: Callable[[], Any], frames: Sequence[bytes]) -> None:
    """Cut inside any of `frames`, nothing changes; cut short there, one error is all.

    `make` makes a decoder. The frames should end where events do, or this takes long.
    """
    decoder, before = make(), []
    shares = 1 if EVERY_BYTE else 1 + sum(len(_places(frame)) for frame in frames) // MOST_CUTS
    for number, frame in enumerate(frames):
        whole = clone(decoder)
        told = whole.feed(frame)
        after = state(whole)
        places = _places(frame)
        share = min(shares, 1 + len(places) // 3)
        for at in places[number % share :: share]:
            cut = clone(decoder)
            first = cut.feed(frame[:at])
            assert_ends_well(first, clone(cut))
            assert first + cut.feed(frame[at:]) == told
            assert state(cut) == after
        before += told
        decoder = whole
    assert make().feed(b"".join(frames)) == before


def assert_whole_streams_cut(make: Callable[[], Any], body: bytes, places: int = 20) -> None:
    """The same for the stream as a whole, at some places: what holds of each event holds of all of them."""
    straight = make()
    told = straight.feed(body) + straight.end()
    for at in range(0, len(body), max(1, len(body) // places)):
        cut = make()
        assert cut.feed(body[:at]) + cut.feed(body[at:]) + cut.end() == told
        short = make()
        events = short.feed(body[:at])
        assert_ends_well(events, short)


def assert_lines_may_end_in_any_way(make: Callable[[], Any], body: bytes) -> None:
    """CRLF and CR end lines as LF does."""
    straight = make()
    told = straight.feed(body) + straight.end()
    for line_end in (b"\r\n", b"\r"):
        other = body.replace(b"\n", line_end)
        decoder, events = make(), []
        for at in range(0, len(other), 1009):
            events += decoder.feed(other[at : at + 1009])
        assert events + decoder.end() == told


def assert_ends_well(said: list[Any], decoder: Any) -> None:
    """A stream that ends here tells the whole answer, or one error, last, and no call and no message."""
    if decoder.done and not said:
        return  # it had ended before
    events = said + decoder.end()
    errors = [event for event in events if isinstance(event, ErrorEvent)]
    if not errors:
        assert isinstance(events[-1], MessageCompleted)
        return
    assert errors == events[-1:]
    assert not any(isinstance(event, ToolCallCompleted | MessageCompleted) for event in events)
    error = errors[0].error
    if not said or errors[0] is not said[-1]:  # it is the end itself that was wrong
        assert isinstance(error, AdapterError)
        assert error.reason != "network_error" or error.metadata["partial"] is True


def assert_calls_are_told_consistently(events: Iterable[Any]) -> None:
    """A call starts once, under its name, and its fragments are its arguments."""
    events = list(events)
    for done in [event for event in events if isinstance(event, ToolCallCompleted)]:
        started = [e.name for e in events if isinstance(e, ToolCallStarted) and e.id == done.id]
        fragments = [e.arguments_delta for e in events if isinstance(e, ToolCallDelta) and e.id == done.id]
        assert started == [done.name]
        assert "".join(fragments) == done.raw_arguments


def thoughts(events: Iterable[Any]) -> str:
    """What the model thought aloud."""
    chunks = [event.payload for event in events if isinstance(event, RawChunk)]
    return "".join(payload[1]["delta"] for payload in chunks if payload[0] == "thinking_delta")


def unknown(events: Iterable[Any]) -> set[str]:
    """The events of the wire that were passed on, by their names."""
    chunks = [event.payload for event in events if isinstance(event, RawChunk)]
    return {payload[1] for payload in chunks if payload[0] == "unknown_event"}


def _places(frame: bytes) -> Sequence[int]:
    """Where to cut a frame: around its ends and here and there; everywhere with `EVERY_BYTE=1`, as `make soak` does."""
    size = len(frame)
    if size < 40 or EVERY_BYTE:
        return range(size)
    return sorted({*range(12), *range(12, size - 8, max(1, size // 16)), *range(size - 8, size)})


# --- the state of a decoder ---------------------------------------------------------------------------------


def clone(value: Any) -> Any:
    """A decoder in the same state. `copy.deepcopy` would take most of the time."""
    return _clone(value, {})


def state(value: Any) -> Any:
    """What a decoder knows, as values that can be compared."""
    fields = _fields(type(value))
    if fields:
        return [state(getattr(value, name)) for name in fields]
    if type(value) is list and value and type(value[0]) not in _PLAIN:
        return [state(item) for item in value]
    if type(value) is dict:
        return {key: state(item) for key, item in value.items()}
    return value


def _clone(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    fields = _fields(kind)
    if not fields and kind not in (list, dict, set):
        return value
    made = memo.get(id(value))
    if made is not None:
        return made
    made = memo[id(value)] = copy.copy(value)
    if kind is list:
        if value and type(value[0]) not in _PLAIN:
            made[:] = [_clone(item, memo) for item in value]
    elif kind is dict:
        made.update((key, _clone(item, memo)) for key, item in value.items())
    for name in fields:
        item = getattr(made, name)
        if type(item) not in _PLAIN:
            setattr(made, name, _clone(item, memo))
    return made


_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """The attributes of a mutable part of a decoder; none for anything else, which is not copied."""
    ours = kind.__module__.startswith("allm_actors.engine.")
    frozen = hasattr(kind, "__struct_fields__") or hasattr(kind, "__dataclass_fields__")
    if not ours or frozen or kind.__name__ == "function":
        return ()
    assert "__slots__" in vars(kind), f"{kind.__name__} needs __slots__, which say what its state is"
    return tuple(name for each in kind.__mro__ for name in vars(each).get("__slots__", ()))
