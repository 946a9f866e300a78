"""A provider behind HTTP: a catalogue row, its dialect and a transport, joined into an adapter.

Rule of this file: everything that can be refused is refused by the call itself; then comes `MessageStarted`,
before any network activity; then one item per network read. A call is retried only while no part of the
answer has been yielded. What the options of a call mean: see `options`.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import count
from typing import Any, Self
from urllib.parse import urlsplit

from allm_actors.data import (
    AdapterError,
    AllmError,
    EngineError,
    ErrorEvent,
    Event,
    MessageStarted,
    RawChunk,
    Request,
)
from allm_actors.engine.adapter import Call
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.dialects.chat import AnswerDecoder, ChatDialect
from allm_actors.engine.dialects.formats import with_format_told
from allm_actors.engine.dialects.histories import fitted
from allm_actors.engine.dialects.tools import spelled_out
from allm_actors.engine.preflight import check_format, in_common_words, without_foreign_words
from allm_actors.engine.remote.answers import refusal_in, tell_response, whole_body
from allm_actors.engine.remote.options import (
    answers_by_itself,
    base_url_of,
    completed,
    deadlines_of,
    key_for,
    keys_in_headers,
    most_bytes_of,
    place_of,
    refuse_unknown,
    transport_for,
)
from allm_actors.engine.retry import RetryPolicy, next_delay, policy_of
from allm_actors.engine.routes import dialect_of
from allm_actors.engine.secret import Secret, secrets_of, without_keys
from allm_actors.engine.wire import (
    Deadlines,
    HttpRequest,
    HttpResponse,
    Sign,
    Transport,
)
from allm_actors.telemetry import bus as telemetry

__all__ = ["RemoteAdapter"]

_SIGNERS = "allm_actors.engine.remote"
_HOST = re.compile(r"[\w.:-]+")
_MAX_BODY_BYTES = 16 * 1024 * 1024
_DRAIN_SECONDS = 0.05
_PATIENCE = 600.0  # seconds for a whole call whose answer is not streamed


class RemoteAdapter:
    """An adapter for one row of the catalogue. Holds no key and no state of a call."""

    def __init__(self, row: Provider) -> None:
        self._row = row

    @property
    def name(self) -> str:
        """The row's name."""
        return self._row.name

    def batches(self, request: Request, call: Call) -> BatchStream:
        """One model call, one item per network read. Raises `EngineError` and `ValidationError`, before any I/O."""
        dialect, http, key = self._prepared(request, call)
        run = _Run(
            row=self._row,
            dialect=dialect,
            http=http,
            key=key,
            sign=_signer(self._row, call.options) if key is None and _signs(self._row, call) else None,
            model=request.model,
            request_id=call.request_id,
            policy=policy_of(call.retry),
            transport=transport_for(call),
            deadlines=_deadlines(call, http),
            most_bytes=most_bytes_of(call.options),
        )
        return BatchStream(run)

    def prepare_request(self, request: Request, call: Call) -> HttpRequest:
        """The request that `batches` would send, with the key in its headers; nothing is sent.

        A signature, used instead of a key, is only made when a request is sent. Raises: as `batches`.
        """
        _, http, _ = self._prepared(request, call)
        return http

    def stream(self, request: Request, call: Call) -> AsyncGenerator[Event, None]:
        """As `batches`, event by event."""
        return _flat(self.batches(request, call))

    def requires_structured_finalize(self, request: Request) -> bool:
        """See `ChatDialect`."""
        dialect: ChatDialect = find_dialect(self._dialect_name(request))
        return dialect.requires_structured_finalize(request)

    def __repr__(self) -> str:
        return f"RemoteAdapter({self.name!r})"

    def _prepared(self, request: Request, call: Call) -> tuple[ChatDialect, HttpRequest, Secret | None]:
        refuse_unknown(self._row, call.options)
        if self._row.model_required and request.model is None and "model" not in request.options:
            raise _missing_model(self._row)
        name, conversation = self._dialect_name(request, call.options.get("endpoint")), request.messages
        dialect: ChatDialect = find_dialect(name)
        request = without_foreign_words(in_common_words(request), name)
        check_format(request, name, self._row)
        request = spelled_out(fitted(with_format_told(request, self._row), self._row))
        http = dialect.encode(request, self._row, base_url_of(self._row, call.options))
        key = key_for(self._row, call)
        return dialect.answering(request, conversation), completed(http, self._row, call.options, key), key

    def _dialect_name(self, request: Request, endpoint: str | None = None) -> str:
        return dialect_of(self._row, request.options.get("model", request.model), endpoint)


def _signs(row: Provider, call: Call) -> bool:
    signed = row.signer and row.key_header not in keys_in_headers(row, call.options)
    return bool(signed) and not answers_by_itself(call)


def _signer(row: Provider, options: Mapping[str, Any]) -> Sign:
    """The signer used instead of a key. Raises `EngineError` if this installation, or these options, cannot sign."""
    sign: Sign = import_module(f"{_SIGNERS}.{row.signer}").signer(row, place_of(row, "region", options))
    return sign


def _deadlines(call: Call, http: HttpRequest) -> Deadlines:
    """An answer in one piece is preceded by silence: only the whole call is limited, unless the caller says more."""
    return deadlines_of(call) if http.streamed else deadlines_of(call, streamed=False, patience=_PATIENCE)


class BatchStream:
    """The events of a call, batch by batch; to be closed.

    If `direct` is set, it is called with each batch, in the call that reads it from the socket, and returns
    True to take it. A batch that it does not take is iterated as usual, and so are the first batch and the
    last one.
    """

    __slots__ = ("_generator", "direct")

    def __init__(self, run: _Run) -> None:
        self.direct: Callable[[Sequence[Event]], bool] | None = None
        self._generator = run.batches(self)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Sequence[Event]]:
        return self._generator.__anext__()

    async def aclose(self) -> None:
        """End the request. Harmless when it has ended."""
        await self._generator.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One call in progress, with all its attempts."""

    row: Provider
    dialect: ChatDialect
    http: HttpRequest
    key: Secret | None
    sign: Sign | None
    model: str | None
    request_id: str
    policy: RetryPolicy
    transport: Transport
    deadlines: Deadlines
    most_bytes: int
    started: float = field(default_factory=time.monotonic)

    async def batches(self, way: BatchStream) -> AsyncGenerator[Sequence[Event], None]:
        """The events of the first attempt that brings any, or the error of the last attempt."""
        yield [MessageStarted()]
        for attempt in count(1):
            delivered, began, http = False, time.monotonic(), self.http
            counts: Sequence[Event] = ()
            try:
                http = self.http if self.sign is None else await self.sign(self.http)
                async with aclosing(self._attempt(way, attempt, http, began)) as answer:
                    async for events in answer:
                        delivered = True
                        yield events
                return
            except AdapterError as error:
                failure = error
            except _Unanswered as nothing:
                failure, counts = nothing.error, nothing.counts
            delay = None if delivered else self._delay(attempt, failure)
            if delay is None:
                yield [*counts, ErrorEvent(self._signed(failure, http))]
                return
            self._tell_retry(attempt, delay, failure)
            await getattr(self.transport, "sleep", asyncio.sleep)(delay)

    def _tell_retry(self, attempt: int, delay: float, failure: AdapterError) -> None:
        retry = {"attempt": attempt, "delay_ms": round(delay * 1000), "reason": failure.reason}
        telemetry.emit("allm.adapter.retry", {"system_time": time.time()}, {**self._about(), **retry})

    def _about(self) -> dict[str, str | None]:
        return {"request_id": self.request_id, "provider": self.row.name, "model": self.model}

    async def _attempt(
        self, way: BatchStream, attempt: int, http: HttpRequest, began: float
    ) -> AsyncGenerator[Sequence[Event], None]:
        """The events of one request. Raises `AdapterError` or `_Unanswered` if it fails before an answer has begun."""
        deadlines = replace(self.deadlines, spent=began - self.started)
        async with self.transport.open(http, deadlines) as response:
            tell_response(http, response, began, self.key, **self._about(), attempt=attempt)
            kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
            if not 200 <= response.status < 300:
                raise await self._refused(response)
            if "html" in kind:
                raise self._not_a_stream(kind)
            streamed = kind in self.dialect.stream_types
            if kind.endswith("json") and not streamed:
                body = await whole_body(response, _MAX_BODY_BYTES, self._too_much)
                yield self._checked(self.dialect.decode_body(body, self.row), http, first=True)
                return
            reading = _Reading(self.dialect.decoder(self.row), self.most_bytes)
            while await self._pour(response, reading):
                if events := [*reading.counts, *reading.events]:
                    if reading.direct is None and all(map(_is_count, events)):
                        # No part of an answer yet: an error that is retried may follow.
                        reading.counts = events
                    else:
                        yield self._checked(events, http, first=reading.direct is None)
                        reading.direct, reading.counts = way.direct or _nobody, []
                if reading.decoder.done:
                    await _drain(response)
                    return
                if reading.left < 0:
                    reading.broken = self._too_long()
                    break
            if reading.broken is not None:
                broken = reading.decoder.broke(reading.broken)
                yield self._checked([*reading.counts, *broken], http, first=False)
                return
            whole = (
                reading.direct is None and reading.head.lstrip()[:1] == b"{" and not kind.endswith("ndjson")
            )
            if whole:  # one object, whatever the content type
                yield self._checked(self.dialect.decode_body(bytes(reading.head), self.row), http, first=True)
                return
            if reading.direct is None and kind and not streamed:
                raise self._not_a_stream(kind)
            events = [*reading.counts, *reading.decoder.end()]
            yield self._checked(events, http, first=reading.direct is None)

    async def _pour(self, response: HttpResponse, reading: _Reading) -> bool:
        """As `HttpResponse.pour`; an error after the answer began is kept for its decoder to report."""
        try:
            return await response.pour(reading.feed)
        except AdapterError as error:
            if reading.direct is None and not reading.counts:
                raise
            reading.broken = error
            return False

    def _delay(self, attempt: int, failure: AdapterError) -> float | None:
        delay = next_delay(self.policy, attempt, failure, random.random())  # noqa: S311 - jitter, not a secret
        end = None if self.deadlines.total is None else self.started + self.deadlines.total
        too_late = end is not None and delay is not None and time.monotonic() + delay >= end
        return None if too_late else delay

    def _checked(self, events: Sequence[Event], http: HttpRequest, *, first: bool) -> Sequence[Event]:
        """`events`, with a final error signed. Raises `_Unanswered`, to retry, if they have no part of an answer."""
        last = events[-1]
        if not isinstance(last, ErrorEvent):
            return events
        if first and isinstance(last.error, AdapterError) and all(map(_is_count, events[:-1])):
            raise _Unanswered(last.error, events[:-1])
        return [*events[:-1], ErrorEvent(self._signed(last.error, http))]

    async def _refused(self, response: HttpResponse) -> AdapterError:
        if 300 <= response.status < 400:
            return self._redirected(response)
        return self.dialect.decode_error(await refusal_in(response), self.row)

    def _too_much(self) -> AdapterError:
        message = f"{_shown(self.http.url)} answered with more than {_MAX_BODY_BYTES >> 20} MiB at once"
        return AdapterError("malformed_response", message=message)

    def _redirected(self, response: HttpResponse) -> AdapterError:
        host, there = _shown(self.http.url), _shown(response.headers.get("location", ""))
        message = (
            f"{host} redirects to {there or 'another path'} (HTTP {response.status}), which is not followed, "
            "because it would send the key there. Set base_url to the API's own URL"
        )
        return AdapterError("invalid_request", message=message, status=response.status)

    def _too_long(self) -> AdapterError:
        message = (
            f"{_shown(self.http.url)} answered with more than {self.most_bytes} bytes; "
            "adapter_opts max_response_bytes allows more"
        )
        return AdapterError("malformed_response", message=message)

    def _not_a_stream(self, kind: str) -> AdapterError:
        host = _shown(self.http.url)
        what = f"a web page ({kind})" if "html" in kind else kind
        message = f"{host} answered with {what} instead of a stream; base_url is probably not an API's"
        return AdapterError("malformed_response", message=message)

    def _signed(self, error: AllmError, http: HttpRequest) -> AllmError:
        """`error` with the provider and the request's id, and without the keys that were sent."""
        ours: dict[str, Any] = {"request_id": self.request_id} if isinstance(error, AdapterError) else {}
        hidden = secrets_of(http.headers, http.url)
        return without_keys(error, self.key, *hidden, provider=self.row.name, **ours)


class _Unanswered(Exception):
    """A stream had an error and no part of an answer; at most usage."""

    def __init__(self, error: AdapterError, counts: Sequence[Event]) -> None:
        super().__init__(error)
        self.error = error
        self.counts = counts


class _Reading:
    """Decodes the body as it comes, and offers the events to `direct`."""

    __slots__ = ("broken", "counts", "decoder", "direct", "events", "head", "left")

    def __init__(self, decoder: AnswerDecoder[Any, Any], most: int) -> None:
        self.decoder = decoder
        self.left = most  # bytes that the answer may still have
        self.broken: AdapterError | None = None
        self.events: list[Event] = []
        self.direct: Callable[[Sequence[Event]], bool] | None = None  # None before the first batch
        self.head = bytearray()  # the body before the first batch
        self.counts: list[Event] = []  # usage that came before the answer began

    def feed(self, chunk: bytes) -> bool:
        """Take a chunk. True to go on reading, False if the call's own task has something to do."""
        decoder = self.decoder
        self.events = events = decoder.feed(chunk)
        self.left -= len(chunk)
        if self.direct is None and len(self.head) < _MAX_BODY_BYTES:
            self.head += chunk
        if decoder.done or self.left < 0:
            return False
        return not events or (self.direct is not None and self.direct(events))


def _shown(url: str) -> str:
    """Host and port of a URL, if it names them: the rest may hold secrets."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not _HOST.fullmatch(host):
        return ""
    return f"{host}:{port}" if port else host


def _is_count(event: Event) -> bool:
    return isinstance(event, RawChunk) and isinstance(event.payload, tuple) and event.payload[0] == "usage"


def _nobody(_events: Sequence[Event]) -> bool:
    return False


async def _flat(batches: BatchStream) -> AsyncGenerator[Event, None]:
    async with aclosing(batches):
        async for events in batches:
            for event in events:
                yield event


async def _drain(response: HttpResponse) -> None:
    """Read the rest of the body after a finished answer, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            await response.pour(lambda _chunk: True)
    except (TimeoutError, AdapterError):
        pass


def _missing_model(row: Provider) -> EngineError:
    message = (
        f"no model is named: use Engine(adapter='{row.name}:…'), model= of the engine, or model= of the call"
    )
    return EngineError("missing_model", provider=row.name, message=message)
