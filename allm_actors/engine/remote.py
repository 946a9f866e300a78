"""A provider behind HTTP: a catalogue row, its dialect and a transport, joined into an adapter.

Rule of this file: everything that can be refused is refused by the call itself; then comes `MessageStarted`,
before any network activity; then one item per network read. A call is tried again only while nothing of the
answer was handed out.

`adapter_opts`: `base_url`, `region`, `project`, `organization`, `app_name`, `app_url` (each of those whose row has it),
`headers`, `query`, `endpoint` (see `routes`), `transport` (a `Transport`, or an httpx transport), and in seconds
`connect_timeout`, `first_byte_timeout`, `stream_timeout`, `request_timeout`.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from itertools import count
from typing import Any, Self, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from allm_actors.data import AdapterError, AllmError, EngineError, ErrorEvent, Event, MessageStarted, Request
from allm_actors.engine import keys
from allm_actors.engine.adapter import Call
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.histories import fitted
from allm_actors.engine.heads import tell_response
from allm_actors.engine.http.transport import HttpxTransport, default_transport
from allm_actors.engine.preflight import with_tool_choice
from allm_actors.engine.retry import RetryPolicy, next_delay, policy_of
from allm_actors.engine.routes import dialect_of
from allm_actors.engine.secret import Secret, hidden_in, scrub
from allm_actors.engine.wire import (
    Deadlines,
    Decoder,
    Dialect,
    HttpFailure,
    HttpRequest,
    HttpResponse,
    Sign,
    Transport,
)
from allm_actors.telemetry import bus as telemetry

__all__ = [
    "Batches",
    "RemoteAdapter",
    "base_url_of",
    "find_dialect",
    "headers_for",
    "key_for",
    "refuse_unknown",
    "seconds_of",
    "transport_for",
    "with_query",
]

_OWN = ("region", "project", "organization", "app_name", "app_url")  # not every provider has them
_OPTIONS = (
    *("base_url", *_OWN, "headers", "query", "endpoint", "transport"),
    *("stream_timeout", "request_timeout"),
    *("connect_timeout", "first_byte_timeout", "receive_timeout", "pool_timeout"),
)
_DIALECTS = "allm_actors.engine.dialects"
_SIGNERS = "allm_actors.engine"
# They become parts of a host's name and of a path.
_PLACES = {"region": re.compile(r"[a-z0-9-]+"), "project": re.compile(r"[a-z0-9.:-]+")}
_EXAMPLES = {"region": "us-east-1", "project": "my-project"}
_HOST = re.compile(r"[\w.:-]+")
_MAX_ERROR_BYTES = 64 * 1024
_MAX_ERROR_SECONDS = 5.0
_MAX_BODY_BYTES = 16 * 1024 * 1024
_DRAIN_SECONDS = 0.05


class RemoteAdapter:
    """An adapter for one row of the catalogue. Holds no key and no state of a call."""

    def __init__(self, row: Provider) -> None:
        self._row = row

    @property
    def name(self) -> str:
        """The row's name."""
        return self._row.name

    def batches(self, request: Request, call: Call) -> Batches:
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
            deadlines=_deadlines(call),
        )
        return Batches(run)

    def prepare_request(self, request: Request, call: Call) -> HttpRequest:
        """What `batches` would send, with the key in its headers; nothing is sent.

        A signature in the place of a key is made when it is sent. Raises: as `batches`.
        """
        _, http, _ = self._prepared(request, call)
        return http

    def stream(self, request: Request, call: Call) -> AsyncGenerator[Event, None]:
        """As `batches`, event by event."""
        return _flat(self.batches(request, call))

    def requires_structured_finalize(self, request: Request) -> bool:
        """See `Dialect.requires_structured_finalize`."""
        return self._dialect(request).requires_structured_finalize(request)

    def __repr__(self) -> str:
        return f"RemoteAdapter({self.name!r})"

    def _prepared(self, request: Request, call: Call) -> tuple[Dialect, HttpRequest, Secret | None]:
        refuse_unknown(self._row, call.options)
        if self._row.model_required and request.model is None and "model" not in request.options:
            raise _missing_model(self._row)
        request = with_tool_choice(request)
        dialect = self._dialect(request, call.options.get("endpoint"))
        http = dialect.encode(fitted(request, self._row), self._row, base_url_of(self._row, call.options))
        key = key_for(self._row, call)
        headers = headers_for(self._row, call.options, key)
        return dialect, with_query(http, call.options).with_headers(headers), key

    def _dialect(self, request: Request, endpoint: str | None = None) -> Dialect:
        model = request.options.get("model", request.model)
        return find_dialect(dialect_of(self._row, model, endpoint))


def _signs(row: Provider, call: Call) -> bool:
    return bool(row.signer) and not answers_by_itself(call)


def _signer(row: Provider, options: Mapping[str, Any]) -> Sign:
    """What signs in place of a key. Raises `EngineError` when this installation, or these options, cannot sign."""
    sign: Sign = import_module(f"{_SIGNERS}.{row.signer}").signer(row, _place(row, "region", options))
    return sign


def find_dialect(name: str) -> Dialect:
    """The dialect of a module in `engine/dialects`, loaded when it is first asked for."""
    dialect: Dialect = import_module(f"{_DIALECTS}.{name}").DIALECT
    return dialect


class Batches:
    """What a call says, batch by batch, to be closed.

    Whoever sets `direct` is offered each batch in the call that reads it from the socket, and says True to take it.
    What it does not take is iterated as if it had not been asked, and so are the first batch and the last one.
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
    """One call on its way."""

    row: Provider
    dialect: Dialect
    http: HttpRequest
    key: Secret | None
    sign: Sign | None
    model: str | None
    request_id: str
    policy: RetryPolicy
    transport: Transport
    deadlines: Deadlines
    started: float = field(default_factory=time.monotonic)

    async def batches(self, way: Batches) -> AsyncGenerator[Sequence[Event], None]:
        """The events of the first attempt that brings any, or the error of the last attempt."""
        yield [MessageStarted()]
        for attempt in count(1):
            delivered = False
            try:
                async with aclosing(self._attempt(way, attempt)) as answer:
                    async for events in answer:
                        delivered = True
                        yield events
                return
            except AdapterError as error:
                failure = error
            delay = None if delivered else self._delay(attempt, failure)
            if delay is None:
                yield [ErrorEvent(self._signed(failure))]
                return
            self._tell_retry(attempt, delay, failure)
            await getattr(self.transport, "sleep", asyncio.sleep)(delay)

    def _tell_retry(self, attempt: int, delay: float, failure: AdapterError) -> None:
        retry = {"attempt": attempt, "delay_ms": round(delay * 1000), "reason": failure.reason}
        telemetry.emit("allm.adapter.retry", {"system_time": time.time()}, {**self._about(), **retry})

    def _about(self) -> dict[str, str | None]:
        return {"request_id": self.request_id, "provider": self.row.name, "model": self.model}

    async def _attempt(self, way: Batches, attempt: int) -> AsyncGenerator[Sequence[Event], None]:
        """What one request brings. Raises `AdapterError` while that is nothing, or when the connection breaks."""
        began = time.monotonic()
        deadlines = replace(self.deadlines, spent=began - self.started)
        http = self.http if self.sign is None else await self.sign(self.http)
        async with self.transport.open(http, deadlines) as response:
            tell_response(http, response, began, self.key, **self._about(), attempt=attempt)
            kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
            if not 200 <= response.status < 300:
                raise await self._refused(response)
            if "html" in kind:
                raise self._not_a_stream(kind)
            streamed = kind in self.dialect.stream_types
            if kind.endswith("json") and not streamed:
                body = await self._whole(response)
                yield self._checked(self.dialect.decode_body(body, self.row), first=True)
                return
            reading = _Reading(self.dialect.decoder(self.row))
            while await self._pour(response, reading):
                if events := reading.events:
                    yield self._checked(events, first=reading.direct is None)
                    reading.direct = way.direct or _nobody
                if reading.decoder.done:
                    await _drain(response)
                    return
            if reading.broken is not None:
                yield self._checked(reading.decoder.broke(reading.broken), first=False)
                return
            if reading.direct is None and kind and not streamed:
                raise self._not_a_stream(kind)
            yield self._checked(reading.decoder.end(), first=reading.direct is None)

    async def _pour(self, response: HttpResponse, reading: _Reading) -> bool:
        """As `HttpResponse.pour`; what breaks an answer that has begun is kept for its decoder to tell."""
        try:
            return await response.pour(reading.feed)
        except AdapterError as error:
            if reading.direct is None:
                raise
            reading.broken = error
            return False

    def _delay(self, attempt: int, failure: AdapterError) -> float | None:
        delay = next_delay(self.policy, attempt, failure, random.random())  # noqa: S311 - jitter, not a secret
        end = None if self.deadlines.total is None else self.started + self.deadlines.total
        too_late = end is not None and delay is not None and time.monotonic() + delay >= end
        return None if too_late else delay

    def _checked(self, events: Sequence[Event], *, first: bool) -> Sequence[Event]:
        """`events`, with the error that ends them signed; an error that is all there is can still be tried again."""
        last = events[-1]
        if not isinstance(last, ErrorEvent):
            return events
        if first and len(events) == 1 and isinstance(last.error, AdapterError):
            raise last.error
        return [*events[:-1], ErrorEvent(self._signed(last.error))]

    async def _refused(self, response: HttpResponse) -> AdapterError:
        if 300 <= response.status < 400:
            return self._redirected(response)
        body = await response.body(_MAX_ERROR_BYTES, _MAX_ERROR_SECONDS)
        failure = HttpFailure(status=response.status, headers=response.headers, body=body, now=time.time())
        return self.dialect.decode_error(failure, self.row)

    async def _whole(self, response: HttpResponse) -> bytes:
        """The body of an answer that came at once. Raises `AdapterError` when it breaks or is too long."""
        held = bytearray()
        async with aclosing(response.chunks()) as chunks:
            async for chunk in chunks:
                held += chunk
                if len(held) > _MAX_BODY_BYTES:
                    message = (
                        f"{_shown(self.http.url)} answered with more than {_MAX_BODY_BYTES >> 20} MiB at once"
                    )
                    raise AdapterError("malformed_response", message=message)
        return bytes(held)

    def _redirected(self, response: HttpResponse) -> AdapterError:
        host, there = _shown(self.http.url), _shown(response.headers.get("location", ""))
        message = (
            f"{host} sends the request on to {there or 'another path'} (HTTP {response.status}), and with it the key; "
            "this is not followed. Set base_url to where the API is"
        )
        return AdapterError("invalid_request", message=message, status=response.status)

    def _not_a_stream(self, kind: str) -> AdapterError:
        host = _shown(self.http.url)
        what = f"a web page ({kind})" if "html" in kind else kind
        message = f"{host} answered with {what} instead of a stream; base_url is probably not an API's"
        return AdapterError("malformed_response", message=message)

    def _signed(self, error: AllmError) -> AllmError:
        """`error` with who failed and for whom, and certainly without the key."""
        fields = error.to_fields()
        fields["provider"] = self.row.name
        if isinstance(error, AdapterError):
            fields["request_id"] = self.request_id
        return type(error).from_fields(scrub(fields, self.key, *hidden_in(self.http.headers, self.http.url)))


def transport_for(call: Call) -> Transport:
    """What a call is sent through: its option, else its host's, else the process's."""
    given = call.options.get("transport")
    if given is None:
        return call.transport if call.transport is not None else default_transport()
    if not hasattr(given, "handle_async_request"):
        return cast(Transport, given)
    return HttpxTransport(given)  # the connections are the given one's; to keep this would keep that for ever


class _Reading:
    """Decodes what comes, and offers it to whoever may take it at once."""

    __slots__ = ("broken", "decoder", "direct", "events")

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.broken: AdapterError | None = None
        self.events: list[Event] = []
        self.direct: Callable[[Sequence[Event]], bool] | None = None  # before the first batch nobody

    def feed(self, chunk: bytes) -> bool:
        """Whether there is nothing that the call's own task must do."""
        decoder = self.decoder
        self.events = events = decoder.feed(chunk)
        if decoder.done:
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


def _nobody(_events: Sequence[Event]) -> bool:
    return False


async def _flat(batches: Batches) -> AsyncGenerator[Event, None]:
    async with aclosing(batches):
        async for events in batches:
            for event in events:
                yield event


async def _drain(response: HttpResponse) -> None:
    """Read the end that follows a finished answer at once, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            await response.pour(lambda _chunk: True)
    except (TimeoutError, AdapterError):
        pass


def refuse_unknown(row: Provider, options: Mapping[str, Any]) -> None:
    """Raises TypeError for an adapter option that does not exist, naming the nearest one."""
    # A misspelt base_url would send what was meant for one server to another.
    for name in options:
        if name not in _OPTIONS:
            near = get_close_matches(name, _OPTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise TypeError(f"adapter_opts has no {name!r}{hint} It takes: {', '.join(_OPTIONS)}")
    filled = [header.option for header in row.headers]
    for name in _OWN:
        if options.get(name) and name not in (*row.places, *filled):
            article = "an" if name[0] in "ao" else "a"
            raise TypeError(f"adapter_opts has {article} {name}, and {row.name} has none; leave it out")
    for name in filled:
        if not isinstance(options.get(name) or "", str):
            raise TypeError(f"adapter_opts {name} must be a text, got: {options[name]!r}")
    for name in ("headers", "query"):
        given = options.get(name) or {}
        if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
            raise TypeError(f"adapter_opts {name} must be a mapping of texts to texts")


def _missing_model(row: Provider) -> EngineError:
    message = (
        f"no model is named: use Engine(adapter='{row.name}:…'), model= of the engine, or model= of the call"
    )
    return EngineError("missing_model", provider=row.name, message=message)


def base_url_of(row: Provider, options: Mapping[str, Any]) -> str:
    """Where requests go, without a slash at its end. Raises `EngineError("invalid_engine")`."""
    url = options.get("base_url") or os.environ.get(row.base_url_name) or row.base_url
    if url is None:
        message = f"{row.name} needs adapter_opts={{'base_url': 'http://…/v1'}}, or {row.base_url_name}"
        raise EngineError("invalid_engine", provider=row.name, message=message)
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        message = f"base_url of {row.name} must begin with http:// or https://"
        raise EngineError("invalid_engine", provider=row.name, message=message)
    if url is row.base_url:
        places = {place: _place(row, place, options) for place in row.places}
        url = url.format(**places).replace("//global-", "//")  # Vertex's one place without a host of its own
    return url.rstrip("/")


def _place(row: Provider, place: str, options: Mapping[str, Any]) -> str:
    """The region, or the project, of a row that has one, and the empty text of any other."""
    names = row.places.get(place, ())
    found = options.get(place) or next(filter(None, map(os.environ.get, names)), "")
    if not names or (isinstance(found, str) and _PLACES[place].fullmatch(found)):
        return str(found)
    named = " or ".join(names)
    message = f"{row.name} needs adapter_opts={{{place!r}: '{_EXAMPLES[place]}'}}, or {named}; got: {found!r}"
    raise EngineError("invalid_engine", provider=row.name, message=message)


def with_query(http: HttpRequest, options: Mapping[str, Any]) -> HttpRequest:
    """The request with the query of the adapter's options over its own."""
    given: Mapping[str, str] = options.get("query") or {}
    if not given:
        return http
    url = urlsplit(http.url)
    query = urlencode({**dict(parse_qsl(url.query, keep_blank_values=True)), **given})
    return replace(http, url=urlunsplit(url._replace(query=query)))


def key_for(row: Provider, call: Call) -> Secret | None:
    """The key, or None where the provider needs none. Raises `EngineError("missing_key")`."""
    if row.key_required and not answers_by_itself(call):
        return keys.fetch(row.name, row.key_names, call.api_key)
    found = keys.find(row.name, row.key_names, call.api_key)
    return found[0] if found is not None else None


def answers_by_itself(call: Call) -> bool:
    """Whether nobody is asked: a recording needs no key."""
    return getattr(call.options.get("transport") or call.transport, "needs_no_key", False)


def headers_for(row: Provider, options: Mapping[str, Any], key: Secret | None) -> dict[str, str]:
    """The headers that say who asks, and those of the call."""
    headers = {}
    if key is not None:
        scheme = "Bearer " if row.key_header == "authorization" else ""
        headers[row.key_header] = scheme + key.reveal().strip()
    for header in row.headers:
        value = options.get(header.option) or next(filter(None, map(os.environ.get, header.names)), None)
        if value:
            headers[header.name] = value
    given: Mapping[str, str] = options.get("headers") or {}
    return headers | {name.lower(): value for name, value in given.items()}


def _deadlines(call: Call) -> Deadlines:
    options = call.options
    idle = seconds_of("stream_timeout", call.stream_timeout, options.get("stream_timeout"), 60.0)
    return Deadlines(
        connect=seconds_of(
            "connect_timeout", options.get("connect_timeout"), options.get("pool_timeout"), 10.0
        ),
        first_byte=seconds_of(
            "first_byte_timeout", options.get("first_byte_timeout"), options.get("receive_timeout"), idle
        ),
        idle=idle,
        total=seconds_of("request_timeout", call.request_timeout, options.get("request_timeout"), None),
    )


def seconds_of(name: str, *values: Any) -> float | None:
    """The first value that was given; infinity is no deadline."""
    value = next((value for value in values if value is not None), None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} must be seconds > 0, got: {value!r}")
    return None if value == float("inf") else float(value)
