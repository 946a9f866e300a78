"""A provider behind HTTP for what is not chat: a row of `services`, its dialect and a transport, in one adapter.

Rule of this file: one attempt, one answer. The caller retries, keeps the deadline and merges chunks
(`engine.calls`). What cannot be sent is refused before the key is fetched, and no result or error contains
the key.

`adapter_opts` are those of `adapter`; if the script of the capability's fake is among them, the fake answers
instead.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import msgspec

from allm_actors.data import (
    AdapterError,
    AllmError,
    AudioDelta,
    EmbeddingRequest,
    EmbeddingResponse,
    ErrorEvent,
    ImageRequest,
    ImageResponse,
    ModerationRequest,
    ModerationResponse,
    SpeechEvent,
    SpeechRequest,
    SpeechResponse,
    TranscriptionRequest,
    TranscriptionResponse,
)
from allm_actors.engine.adapter import Call
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.dialects.refusals import as_refusal
from allm_actors.engine.fakes import FAKES
from allm_actors.engine.remote.answers import head_of, refusal_in, tell_response, whole_body
from allm_actors.engine.remote.fetching import is_remote, with_pictures, without_pictures
from allm_actors.engine.remote.options import (
    base_url_of,
    completed,
    deadlines_of,
    key_for,
    refuse_unknown,
    transport_for,
)
from allm_actors.engine.secret import Secret, secrets_of, without_keys
from allm_actors.engine.services import Service
from allm_actors.engine.threads import on_thread
from allm_actors.engine.wire import Deadlines, HttpAnswer, HttpRequest, HttpResponse

__all__ = ["RemoteService", "remote_service"]

_MAX_BODY_BYTES = 512 * 1024 * 1024
_GRACE_SECONDS = 1.0
_THREAD_BYTES = 256 * 1024  # a larger answer is decoded on a thread, not on the event loop
_SCRIPTED = frozenset({"capture", "record", "script_cursor", "cursor_key", "supported_operations"})
_SCRIPTS = frozenset(fake.script for fake in FAKES.values()) | _SCRIPTED


class RemoteService:
    """An adapter for one capability of one provider. Holds no key and no state of a call."""

    reads_files: ClassVar[bool] = False

    def __init__(self, row: Service) -> None:
        self._row = row
        self._dialect: Any = find_dialect(row.dialect)

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._row.provider.name

    async def ask(self, request: Any, call: Call) -> Any:
        """One attempt. Raises the capability's error, `EngineError`, and TypeError or ValueError for bad options."""
        if self._fake_answers(call):
            return getattr(self._fake, CAPABILITIES[self._row.span].method)(request, call)
        encode = partial(self._dialect.encode, request, self._row, self._base_url(call))
        try:
            http = await on_thread(encode) if self.reads_files else encode()
            attempt = self._attempt(http, request, call, self._deadlines(call))
        except AdapterError as error:
            raise _signed(error, self._row, call) from None
        return await attempt.response()

    def prepare_request(self, request: Any, call: Call) -> HttpRequest:
        """The request that `ask` would send, with the key in its headers; nothing is sent, and no image is fetched.

        Raises: as `ask`, for what is refused before anything is sent.
        """
        try:
            http = self._dialect.encode(request, self._row, self._base_url(call))
            return self._attempt(http, request, call, self._deadlines(call)).http
        except AdapterError as error:
            raise _signed(error, self._row, call) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _attempt(self, http: HttpRequest, request: Any, call: Call, deadlines: Deadlines) -> _Attempt:
        key = key_for(self._row.provider, call)
        return _Attempt(
            row=self._row,
            dialect=self._dialect,
            http=completed(http, self._row.provider, call.options, key),
            key=key,
            request=request,
            call=call,
            deadlines=deadlines,
        )

    def _base_url(self, call: Call) -> str:
        given = {name: value for name, value in call.options.items() if name not in _SCRIPTS}
        refuse_unknown(self._row.provider, given)
        return base_url_of(self._row.provider, call.options)

    def _fake_answers(self, call: Call) -> bool:
        return call.options.get(FAKES[self._row.span].script) is not None

    @cached_property
    def _fake(self) -> Any:
        return FAKES[self._row.span]()

    def _deadlines(self, call: Call) -> Deadlines:
        patience = CAPABILITIES[self._row.span].patience
        return _graced(deadlines_of(call, streamed=False, patience=patience))


class RemoteImages(RemoteService):
    """Images. Source images given by URL are fetched, once for a call."""

    reads_files = True

    async def ask(self, request: ImageRequest, call: Call) -> ImageResponse:
        """See `RemoteService.ask`."""
        given = (*request.input_images, request.mask) if request.operation != "generate" else ()
        if any(map(is_remote, given)) and not self._fake_answers(call):
            try:
                self._dialect.encode(without_pictures(request), self._row, self._base_url(call))
                request = await with_pictures(request, self._row, transport_for(call), call.kept)
            except AdapterError as error:
                raise _signed(error, self._row, call) from None
        response: ImageResponse = await super().ask(request, call)
        return response

    async def generate(self, request: ImageRequest, call: Call) -> ImageResponse:
        """See `ImageAdapter.generate`."""
        return await self.ask(request, call)

    def supported_operations(self) -> tuple[str, ...]:
        """The operations that at least one of the provider's models supports."""
        return self._row.operations


class RemoteEmbeddings(RemoteService):
    """Vectors."""

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResponse:
        """See `EmbeddingAdapter.embed`."""
        response: EmbeddingResponse = await self.ask(request, call)
        return response

    def max_batch_size(self) -> int:
        """How many inputs one request may have."""
        assert self._row.most is not None, "a row for embeddings says how many"
        return self._row.most


class RemoteModeration(RemoteService):
    """Verdicts."""

    reads_files = True

    async def moderate(self, request: ModerationRequest, call: Call) -> ModerationResponse:
        """See `ModerationAdapter.moderate`."""
        response: ModerationResponse = await self.ask(request, call)
        return response


class RemoteSpeech(RemoteService):
    """Clips, whole and while they are made."""

    async def synthesize(self, request: SpeechRequest, call: Call) -> SpeechResponse:
        """See `SpeechAdapter.synthesize`."""
        response: SpeechResponse = await self.ask(request, call)
        return response

    def stream_synthesize(
        self, request: SpeechRequest, call: Call
    ) -> AsyncIterator[SpeechEvent] | Iterator[SpeechEvent]:
        """See `SpeechStreamAdapter.stream_synthesize`. A function that returns the key is called at the first pull."""
        if self._fake_answers(call):
            events: Iterator[SpeechEvent] = self._fake.stream_synthesize(request, call)
            return events
        try:
            http = self._dialect.encode(request, self._row, self._base_url(call), streamed=True)
        except AdapterError as error:
            raise _signed(error, self._row, call) from None
        attempt = partial(self._attempt, http, request, call, _graced(deadlines_of(call)))
        return self._told(attempt, call) if callable(call.api_key) else attempt().events()

    async def _told(self, attempt: partial[_Attempt], call: Call) -> AsyncGenerator[SpeechEvent, None]:
        try:
            ready = await on_thread(attempt)
        except AllmError as error:
            yield ErrorEvent(_signed(error, self._row, call))
            return
        async with aclosing(ready.events()) as events:
            async for event in events:
                yield event


class RemoteTranscription(RemoteService):
    """Transcripts."""

    reads_files = True

    async def transcribe(self, request: TranscriptionRequest, call: Call) -> TranscriptionResponse:
        """See `TranscriptionAdapter.transcribe`."""
        response: TranscriptionResponse = await self.ask(request, call)
        return response


_KINDS: Mapping[str, type[RemoteService]] = {
    "image": RemoteImages,
    "embed": RemoteEmbeddings,
    "moderate": RemoteModeration,
    "speech": RemoteSpeech,
    "transcribe": RemoteTranscription,
}


def remote_service(row: Service) -> RemoteService:
    """The adapter for a row."""
    return _KINDS[row.span](row)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One request in progress."""

    row: Service
    dialect: Any
    http: HttpRequest
    key: Secret | None
    request: Any
    call: Call
    deadlines: Deadlines

    async def response(self) -> Any:
        """The response. Raises the capability's error."""
        try:
            answer = await self._answer()
            decode = partial(self.dialect.decode, answer, self.request, self.row)
            told = await on_thread(decode) if len(answer.body) > _THREAD_BYTES else decode()
        except AdapterError as error:
            failure = error
        else:
            return msgspec.structs.replace(told, request_id=self.call.request_id)
        raise self._signed(failure)

    async def events(self) -> AsyncGenerator[SpeechEvent, None]:
        """The clip as it comes; a failure is the last event."""
        received = 0
        began = time.monotonic()
        try:
            async with transport_for(self.call).open(self.http, self.deadlines) as response:
                head = await self._head(response, began)
                id = self.call.request_id
                started = self.dialect.started(head, self.request, self.row)
                yield msgspec.structs.replace(started, request_id=id)
                async with aclosing(response.chunks()) as chunks:
                    async for chunk in chunks:
                        if chunk:
                            received += len(chunk)
                            yield AudioDelta(chunk)
                if not received:
                    raise self.row.malformed("the clip is empty")
                yield msgspec.structs.replace(self.dialect.completed(head, self.request), request_id=id)
        except AdapterError as error:
            error = as_refusal(error, self.row) if type(error) is AdapterError else error
            error.metadata["bytes_received"] = received
            yield ErrorEvent(self._signed(error))

    async def _answer(self) -> HttpAnswer:
        began = time.monotonic()
        async with transport_for(self.call).open(self.http, self.deadlines) as response:
            head = await self._head(response, began)
            body = await whole_body(response, _MAX_BODY_BYTES, self._too_long)
        return replace(head, body=body)

    def _too_long(self) -> AdapterError:
        return self.row.malformed(f"it is longer than {_MAX_BODY_BYTES} bytes")

    async def _head(self, response: HttpResponse, began: float) -> HttpAnswer:
        """Status and headers of an answer. Raises the provider's error response."""
        about = {"request_id": self.call.request_id, "provider": self.row.provider.name}
        model = getattr(self.request, "model", None)
        tell_response(self.http, response, began, self.key, **about, model=model, attempt=None)
        if not 200 <= response.status < 300:
            raise self.dialect.decode_error(await refusal_in(response), self.row)
        head = head_of(response)
        if "html" in head.headers.get("content-type", "").lower():
            raise self.row.malformed("it is a web page; base_url is probably not an API's")
        return head

    def _signed(self, error: AdapterError) -> AllmError:
        """`error` as the capability's own, with the call's id, and without the key."""
        own = as_refusal(error, self.row) if type(error) is AdapterError else error
        return _signed(own, self.row, self.call, self.key, *secrets_of(self.http.headers, self.http.url))


def _signed(error: AllmError, row: Service, call: Call, *keys: Secret | None) -> AllmError:
    return without_keys(error, *keys, provider=row.provider.name, metadata={"request_id": call.request_id})


def _graced(deadlines: Deadlines) -> Deadlines:
    """A little more than the call may take, so that the caller's deadline, which is the same, passes first.

    Two deadlines at once could leave a connection open: the second would interrupt its closing.
    """
    total = deadlines.total
    return deadlines if total is None else replace(deadlines, total=total + _GRACE_SECONDS)
