"""Partial values of an answer while it is being written.

Rule of this file: it reads events and adds nothing to them. The last value of an answer that fits is
complete, made by the type itself; every earlier one is a guess. A repeated answer starts from nothing, and so
does one whose text was not all that was said: a model may talk before it answers. If the call itself parses
the answer, the type's own code is not run a second time, and never in the reader.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar, overload

from allm_actors.data import (
    ChatCompleted,
    Event,
    MessageCompleted,
    MessageStarted,
    Response,
    StepCompleted,
    TextCompleted,
    TextDelta,
)
from allm_actors.data.schemas.partial import PartialValue
from allm_actors.data.schemas.structured import parse

from .receiving import Receiving, text_of

__all__ = ["Partials", "is_of", "partials"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Partials(Generic[T_co]):
    """Iterates over values instead of events, with `for` or `async for`, once. To end it early, close the events."""

    def __init__(self, events: Any, model: Any, *, made_by_call: bool = False) -> None:
        self._events, self._model, self._made_by_call = events, model, made_by_call
        self._begin()
        self._last: Any = None

    def __iter__(self) -> Iterator[T_co]:
        for event in self._events:
            yield from self._apply(event)

    async def __aiter__(self) -> AsyncIterator[T_co]:
        async for event in self._events:
            for value in self._apply(event):
                yield value

    def _begin(self) -> None:
        self._value = PartialValue(self._model)
        self._text: list[str] = []  # what the value was made of
        self._answer = Receiving()

    def _apply(self, event: Event) -> tuple[Any, ...]:
        """The value after this event, as a tuple of one; empty if it has not changed."""
        match event:
            case MessageStarted():
                self._begin()
            case TextDelta(delta=delta):
                Receiving.rules[TextDelta](self._answer, event)
                return self._grown(delta)
            case TextCompleted():
                Receiving.rules[TextCompleted](self._answer, event)
                return self._settled(self._answer.response().output_text or "")
            case MessageCompleted(message=message, finish_reason=reason):
                grown = () if self._text else self._grown(text_of(message))  # it may be the only text
                makes = reason == "stop" and not self._made_by_call
                return (self._complete() if makes else ()) or grown
            case StepCompleted(response=response):
                return self._known(response)
            case ChatCompleted(result=result):
                return self._known(result.final_response)
            case _:
                pass
        return ()

    def _grown(self, text: str) -> tuple[Any, ...]:
        self._text.append(text)
        return self._other(self._value.value()) if self._value.feed(text) else ()

    def _settled(self, text: str) -> tuple[Any, ...]:
        """The value of the answer's whole text, if that is not what the value was made of."""
        if self._text and "".join(self._text) == text:
            return ()
        self._value, self._text = PartialValue(self._model), []
        return self._grown(text)

    def _complete(self) -> tuple[Any, ...]:
        try:
            return self._other(parse("".join(self._text), self._model))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - it does not fit, or the type's own code fails: the last guess stays
            return ()

    def _known(self, response: Response | None) -> tuple[Any, ...]:
        return () if response is None else self._other(response.parsed)

    def _other(self, value: Any) -> tuple[Any, ...]:
        if value is None or (type(value) is type(self._last) and _equal(value, self._last)):
            return ()
        self._last = value
        return (value,)


@overload
def partials(events: Any, model: type[T]) -> Partials[T]: ...


@overload
def partials(events: Any, model: Any) -> Partials[Any]: ...


def partials(events: Any, model: Any) -> Partials[Any]:
    """Partial values of type `model` from the events of one call: `for cat in allm.partials(stream, Cat)`.

    `events` is a stream, or any iterable of events. A field that has not come yet has its default, or None.
    Raises only what reading the events raises.
    """
    return Partials(events, model, made_by_call=is_of(events, model))


def is_of(events: Any, model: Any) -> bool:
    """Whether the events are the stream of a call that parses its answer into that very type."""
    return model is not None and _equal(getattr(events, "response_model", None), model)


def _equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except Exception:  # noqa: BLE001 - `__eq__` is the user's code
        return False
