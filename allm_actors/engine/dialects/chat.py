"""What the dialects of chat have in common: the shape of a dialect, and how a decoder reads a stream.

Rule of this file: a dialect is a value. Its encoder is a function, its decoder a class; the rest (how bytes
come in, how an answer ends, how an error response is read) is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Protocol, TypeGuard, TypeVar

import msgspec

from allm_actors.data import AdapterError, Event, Message, Request
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import Answer, UsageFields
from allm_actors.engine.dialects.failures import http_error
from allm_actors.engine.dialects.lenient import UNREADABLE, ends_in_half, halves_joined, read_leniently
from allm_actors.engine.sse import ServerEvent, SseDecoder
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = [
    "SSE",
    "AnswerDecoder",
    "ChatDialect",
    "EventDecoder",
    "Frames",
    "has_schema",
    "has_tools_and_format",
    "has_tools_and_schema",
]

SSE: Final = frozenset({"text/event-stream"})

F = TypeVar("F")
W = TypeVar("W")
T_co = TypeVar("T_co", covariant=True)


class Frames(Protocol[T_co]):
    """Splits bytes into the frames of a stream. Once `broken` says why it cannot go on, no frames follow."""

    @property
    def broken(self) -> str | None:
        """What was wrong with the first frame that could not be read."""
        ...

    def feed(self, chunk: bytes) -> Sequence[T_co]:
        """The frames that `chunk` completes."""
        ...


class AnswerDecoder(ABC, Generic[F, W]):
    """One response's decoder. Total: no bytes make it raise, and after the end of the answer nothing follows.

    A frame, which is bytes or a Struct with `data`, has a JSON object that the decoder `reads` as a `W`. Nearly every
    one fits and is decoded in about a microsecond; one that does not is read leniently. One that ends in the middle of
    a character is held back until the next has come, or the end.
    """

    __slots__ = ("_answer", "_decode", "_frames", "_held", "_kind", "_row")

    def __init__(
        self, row: Provider, frames: Frames[F], reads: msgspec.json.Decoder[W], usage_fields: UsageFields
    ) -> None:
        self._row = row
        self._frames = frames
        self._decode, self._kind = reads.decode, reads.type
        self._answer = Answer(row, usage_fields)
        self._held: F | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more can come of this response."""
        return self._answer.done

    def follow(self, conversation: Iterable[Message]) -> None:
        """Give the calls ids that none of this conversation has. To be called before anything is fed."""
        self._answer.conversation = conversation

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        events: list[Event] = []
        answer = self._answer
        for frame in self._frames.feed(chunk) if not answer.done else ():
            if not answer.done:
                self._on_frame(frame, events)
                if answer.usage and not answer.counted:
                    answer.count(events)
        if self._frames.broken is not None:
            self._let_go(events)
            if not answer.done:
                answer.malformed(f"the stream cannot be read: {self._frames.broken}", events)
        return events

    def end(self) -> list[Event]:
        """The last events, at the end of the body: those of the complete answer, or an error."""
        events: list[Event] = []
        self._let_go(events)
        if not self._answer.done:
            self._on_end_of_body(events)
        return events

    def broke(self, error: AdapterError) -> list[Event]:
        """The last events when the connection broke with this error, or was silent for too long."""
        events: list[Event] = []
        self._let_go(events)
        if not self._answer.done:
            self._answer.fail(error, events)
        return events

    def body(self, body: bytes) -> list[Event]:
        """The events of an answer that came whole, as one JSON object."""
        events: list[Event] = []
        if body.strip():
            self._on_body(body, events)
        else:
            self._answer.unreadable("an empty body", events)
        return events

    @abstractmethod
    def _on_body(self, body: bytes, events: list[Event]) -> None:
        """Take in an answer that came whole; the body is not blank."""

    @abstractmethod
    def _on_event(self, wire: W, frame: F, events: list[Event]) -> None:
        """Take in one frame; `wire` is its data."""

    def _on_frame(self, frame: Any, events: list[Event]) -> None:
        data: bytes = frame if type(frame) is bytes else frame.data
        if self._held is not None:
            data = self._let_go(events, data)
            if self._answer.done:
                return
        try:
            wire = self._decode(data)
        except UNREADABLE:
            if ends_in_half(data):
                self._held = _with(frame, data)
            else:
                self._on_misfit(_with(frame, data), events)
        else:
            self._on_event(wire, frame, events)

    def _on_misfit(self, frame: F, events: list[Event]) -> None:
        """Take in a frame whose data is no `W`."""
        wire = read_leniently(_data_of(frame), self._kind)
        if wire is None:
            self._answer.malformed("a frame of the stream is not a JSON object", events)
        else:
            self._on_event(wire, frame, events)

    def _let_go(self, events: list[Event], following: bytes = b"") -> bytes:
        """Take in the frame that was held back, with what it lacks of the following data; returns the rest of that."""
        held, self._held = self._held, None
        if held is not None:
            data, following = halves_joined(_data_of(held), following)
            self._on_misfit(_with(held, data), events)
            if self._answer.usage and not self._answer.counted:
                self._answer.count(events)
        return following

    def _on_end_of_body(self, events: list[Event]) -> None:
        self._answer.truncated(events)


class EventDecoder(AnswerDecoder[ServerEvent, W], Generic[W]):
    """One whose frames are server-sent events."""

    __slots__ = ()

    def __init__(self, row: Provider, reads: msgspec.json.Decoder[W], usage_fields: UsageFields) -> None:
        super().__init__(row, SseDecoder(), reads, usage_fields)

    def _on_misfit(self, frame: ServerEvent, events: list[Event]) -> None:
        word = frame.data.strip()
        if word == b"[DONE]":
            self._on_end_of_events(events)
        elif word:
            super()._on_misfit(frame, events)

    def _on_end_of_events(self, events: list[Event]) -> None:
        """Take in `[DONE]`, which says nothing in most formats."""


def _data_of(frame: Any) -> bytes:
    data: bytes = frame if isinstance(frame, bytes) else frame.data
    return data


def _with(frame: Any, data: bytes) -> Any:
    return data if isinstance(frame, bytes) else msgspec.structs.replace(frame, data=data)


def _never(_request: Request) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDialect:
    """A wire format: the `DIALECT` of a module.

    `encode(request, row, base_url)` returns the streaming request without its key, and raises `ValidationError`
    for what the format cannot express. The request is in common words (see `preflight`): its `tool_choice` is
    None, 'auto', 'none', 'required', a tool's name, or the provider's own mapping, passed on as it is.
    `decoder(row)` is for one response, and `decoder_for(request)`, if there is one, makes those that know what was
    asked. `stream_types` are the content types of its streams; JSON of any other type is an answer that was not
    streamed. `requires_structured_finalize` says whether a request's tools and
    its response format need two separate calls in this format, if the answer is to be held to the latter; in
    one call it may be told instead, see `formats`. `decode_error(failure, row)` returns the error for an error
    response.
    """

    encode: Callable[[Request, Provider, str], HttpRequest]
    decoder: Callable[[Provider], AnswerDecoder[Any, Any]]
    stream_types: frozenset[str] = SSE
    requires_structured_finalize: Callable[[Request], bool] = _never
    decode_error: Callable[[HttpAnswer, Provider], AdapterError] = http_error
    decoder_for: Callable[[Request], Callable[[Provider], AnswerDecoder[Any, Any]]] | None = None

    def answering(self, request: Request, conversation: Iterable[Message]) -> ChatDialect:
        """This dialect, whose decoder is for answers to this request, in this conversation.

        Its messages are those of the caller: in the request, they may have been adapted to the provider.
        """
        made = self.decoder if self.decoder_for is None else self.decoder_for(request)

        def decoder(row: Provider) -> AnswerDecoder[Any, Any]:
            one = made(row)
            one.follow(conversation)
            return one

        return replace(self, decoder=decoder)

    def decode_body(self, body: bytes, row: Provider) -> list[Event]:
        """The events of an answer that came whole, without `MessageStarted`."""
        return self.decoder(row).body(body)


def has_schema(wanted: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a response format says what JSON schema the answer must match."""
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema" and "schema" in wanted


def has_tools_and_schema(request: Request) -> bool:
    """Whether the request has both tools and a JSON schema: a model bound to the schema does not call the tools."""
    wanted = request.response_format
    return bool(request.tools) and isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"


def has_tools_and_format(request: Request) -> bool:
    """Whether the request has both tools and any response format."""
    return bool(request.tools) and isinstance(request.response_format, Mapping)
