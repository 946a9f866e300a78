"""Every dialect over real sockets, against a server that answers well, badly, slowly, and never: one typed end each."""

import asyncio
import math
import time
from functools import partial

import msgspec
import pytest

import allm_actors as allm
from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    MessageCompleted,
    MessageStarted,
    StreamError,
    TextDelta,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.routes import dialects_of
from allm_actors.engine.wire import HttpAnswer
from allm_actors.execution.fold import Fold
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.conformance.ledger import exchanges_of, suites
from tests.conformance.traffic import TRAFFIC
from tests.integration.wires import (
    DIALECTS,
    KEY,
    ROWS,
    ask,
    asked,
    begun,
    frames,
    is_binary,
    nothing_much,
    options_for,
    sample,
    stream_type,
    streamed,
)

SOON = 20.0  # a machine may be busy; a call that no deadline ends would take for ever
HTML = {"content-type": "text/html; charset=utf-8"}
PAGE = b"<html><h1>Bad Gateway</h1></html>"
JSON = b'{"error": {"message": "Not now.", "type": "odd", "code": null}}'

every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def ends(dialect, reply, **options):
    """What one call comes to: its events, of which the last is the only end, and soon."""
    started = time.monotonic()
    with LoopbackServer([reply]) as server:
        events = asked(dialect, server.url, **options)
        assert len(server.requests) == 1
    assert time.monotonic() - started < SOON
    finals = [event for event in events if isinstance(event, ErrorEvent | MessageCompleted)]
    assert finals == events[-1:]
    assert isinstance(events[0], MessageStarted)
    return events


def fails(dialect, reply, **options):
    events = ends(dialect, reply, **options)
    assert isinstance(events[-1], ErrorEvent), events[-1]
    error = events[-1].error
    assert error.message
    if isinstance(error, AdapterError):
        assert (error.provider, error.request_id) == (ROWS[dialect].name, "r1")
    return events, error


def straight(dialect):
    decoder = find_dialect(dialect).decoder(ROWS[dialect])
    return decoder.feed(sample(dialect)) + decoder.end()


@every_dialect
def test_an_answer_that_breaks_says_which_one_it_was(dialect):
    decoder = find_dialect(dialect).decoder(ROWS[dialect])
    events = [event for frame in begun(dialect) for event in decoder.feed(frame)] + list(decoder.end())
    whole, broken = (Fold().apply_all(told).response() for told in (straight(dialect), events))
    model = None if is_binary(dialect) else whole.model  # told at the end only
    assert (broken.id, broken.model) == (whole.id, model)
    assert whole.text().startswith(broken.output_text)
    assert broken.output_text
    assert broken.metadata["error"].metadata["partial"] is True


def test_an_answer_that_ends_in_an_error_keeps_its_raw_finish_reason():
    for name, chunk, raw in (
        (
            "openai",
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]},
            "content_filter",
        ),
        ("gemini", {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}, "MALFORMED_FUNCTION_CALL"),
    ):
        row = PROVIDERS[name]
        decoder = find_dialect(row.dialect).decoder(row)
        known = {"id": "a1", "model": "m"} if name == "openai" else {"responseId": "a1", "modelVersion": "m"}
        data = msgspec.json.encode(known | chunk)
        response = Fold().apply_all([*decoder.feed(b"data: " + data + b"\n\n"), *decoder.end()]).response()
        assert (response.id, response.model, response.raw_finish_reason) == ("a1", "m", raw)
        assert response.finish_reason == "error"


@every_dialect
@pytest.mark.parametrize("size", [1, 7, 1000, None], ids=lambda size: f"{size} bytes" if size else "events")
def test_a_whole_answer_in_any_chunks(dialect, size):
    body = sample(dialect)
    chunks = [body[at : at + size] for at in range(0, len(body), size)] if size else frames(dialect)
    assert ends(dialect, streamed(dialect, chunks))[1:] == straight(dialect)


@every_dialect
def test_a_slow_answer(dialect):
    chunks = frames(dialect)
    reply = streamed(dialect, chunks, pace=0.3 / len(chunks), first_byte_delay=0.1)
    assert ends(dialect, reply, stream_timeout=10.0)[1:] == straight(dialect)


@every_dialect
@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("stall", "timeout"),
        ("reset", "network_error"),
        ("half_close", "network_error"),
        ("end", "network_error"),
    ],
)
def test_a_break_in_the_middle_is_one_error_and_what_came_is_kept(dialect, then, reason):
    events, error = fails(dialect, streamed(dialect, begun(dialect), then=then), stream_timeout=0.5)
    assert isinstance(error, AdapterError)
    assert error.reason == reason
    came = "".join(event.delta for event in events if isinstance(event, TextDelta))
    assert came
    response = allm.fold(events).response()
    assert response.output_text == came
    assert response.metadata["error"] == error


@every_dialect
def test_what_came_before_a_break_is_in_the_response_of_a_call(dialect):
    row = ROWS[dialect]
    with LoopbackServer([streamed(dialect, begun(dialect), then="reset")]) as server:
        engine = allm.Engine(
            adapter=row.name, model="m", adapter_opts=options_for(dialect, row, server.url), retry=False
        )
        response = allm.generate(engine, [allm.user("hi")], api_key=KEY)
    assert response.finish_reason == "error"
    assert response.output_text
    assert response.metadata["error"].reason == "network_error"


@every_dialect
def test_what_broke_is_asked_again_as_it_was_and_read_where_the_user_goes_on(dialect):
    row, broken = ROWS[dialect], streamed(dialect, begun(dialect), then="reset")
    with LoopbackServer([broken] * 3) as server, allm.Host() as host:
        engine = allm.Engine(
            adapter=row.name, model="m", adapter_opts=options_for(dialect, row, server.url), retry=False
        )
        session = host.session("s", engine, api_key=KEY)
        for begin in (partial(session.reply, "hi"), session.continue_, partial(session.reply, "go on")):
            assert begin().result().halted_reason == "error"
            session.recover()
        said = [message.content for message in session.messages]
        first, again, last = [msgspec.json.decode(request.body) for request in server.requests]
    assert said == ["hi", said[1], said[1], "go on", said[1]]
    assert said[1]
    assert again == first, "the model is asked for the same answer, not to go on with half of it"
    assert len(turns_of(last)) == len(turns_of(first)) + 2, "only what the user goes on from is sent"


def turns_of(body):
    return next(body[name] for name in ("messages", "contents", "input") if name in body)


@every_dialect
@pytest.mark.parametrize(
    "reply",
    [
        Reply(first_byte_delay=math.inf),
        Reply(chunks=(), then="stall"),
        Reply(status=500, chunks=(), then="stall"),
    ],
    ids=["no head", "a head alone", "an error's head alone"],
)
def test_silence_is_a_timeout(dialect, reply):
    if reply.status == 200 and reply.chunks is not None:
        reply = streamed(dialect, (), then="stall")
    _, error = fails(dialect, reply, stream_timeout=0.5, request_timeout=3.0)
    assert error.reason == ("provider_unavailable" if reply.status == 500 else "timeout")


STATUSES = {
    **dict.fromkeys((400, 404, 405, 409, 413, 422), "invalid_request"),
    **dict.fromkeys((401, 403), "authentication_failed"),
    408: "timeout",
    429: "rate_limited",
    **dict.fromkeys((500, 501, 502, 503, 504, 529), "provider_unavailable"),
    **dict.fromkeys((301, 302, 307, 308), "invalid_request"),
}


@every_dialect
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("page", [False, True], ids=["JSON", "a web page"])
def test_a_status_has_a_reason_whatever_the_body(dialect, status, page):
    headers = {**(HTML if page else {}), "retry-after": "7", "location": "http://127.0.0.1:9/elsewhere"}
    _, error = fails(dialect, Reply(status=status, headers=headers, body=PAGE if page else JSON))
    assert (error.reason, error.status) == (STATUSES[status], status)
    redirected = status < 400  # what a redirect says besides is of no use
    assert error.retry_after_ms == (None if redirected else 7000)
    assert ("Not now." in error.message) is not (page or redirected)
    assert "Gateway</h1>" not in error.message


@every_dialect
def test_a_redirect_takes_the_key_nowhere(dialect):
    with LoopbackServer([]) as elsewhere:
        headers = {"location": f"{elsewhere.url}/taken"}
        _, error = fails(dialect, Reply(status=307, headers=headers))
        assert elsewhere.requests == ()
    assert elsewhere.url.removeprefix("http://") in error.message
    assert "base_url" in error.message


@every_dialect
@pytest.mark.parametrize(
    "reply",
    [
        Reply(headers=HTML, body=PAGE),
        Reply(headers={"content-type": "image/png"}, body=b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
        Reply(headers={"content-type": "text/plain"}, body=b"hello"),
        Reply(headers={"content-type": "application/json"}, body=b"[1, 2"),
        Reply(headers={"content-type": "application/json"}, body=b"[1, 2]"),
        Reply(headers={"content-type": "application/json"}, body=b"{}"),
        Reply(headers={"content-type": "application/json"}, body=b""),
    ],
    ids=["a web page", "a picture", "a text", "half a JSON", "a list", "an empty object", "nothing"],
)
def test_an_answer_of_the_wrong_kind_is_malformed(dialect, reply):
    _, error = fails(dialect, reply)
    assert error.reason in ("malformed_response", "malformed_event")  # the latter of what looks like a line


@every_dialect
def test_a_stream_of_the_wrong_type_is_read_if_it_can_be(dialect):
    reply = streamed(dialect, frames(dialect), headers={"content-type": "application/octet-stream"})
    assert ends(dialect, reply)[1:] == straight(dialect)


@every_dialect
@pytest.mark.parametrize("body", [b"", b"nonsense", b"\x00\xff" * 40, b"<html>", b"{}", b"[]\n\n"])
def test_a_stream_of_nonsense_is_an_error(dialect, body):
    _, error = fails(dialect, streamed(dialect, [body] if body else []))
    assert isinstance(error, AdapterError | StreamError)


@every_dialect
@pytest.mark.parametrize(
    ("then", "reason"), [("reset", "network_error"), ("half_close", "network_error"), ("stall", "timeout")]
)
def test_a_whole_answer_that_is_cut_is_not_called_malformed(dialect, then, reason):
    reply = Reply(headers={"content-type": "application/json"}, body=b'{"id": "x", "choices": [', then=then)
    if stream_type(dialect) == "application/json":
        pytest.skip("its streams are JSON")
    _, error = fails(dialect, reply, stream_timeout=0.5)
    assert error.reason == reason


@pytest.mark.slow
@every_dialect
def test_a_gigantic_line_is_given_up(dialect):
    piece = b"x" * 65536
    first = b"\x7f\xff\xff\xff" if is_binary(dialect) else b"data: "
    _, error = fails(dialect, streamed(dialect, [first, *[piece] * 320]), stream_timeout=10.0)
    assert isinstance(error, StreamError) or error.reason in ("malformed_response", "network_error")


@every_dialect
def test_an_endless_stream_ends_with_its_deadline(dialect):
    chunks = [*begun(dialect), *[nothing_much(dialect)] * 200_000]
    reply = streamed(dialect, chunks, pace=0.001)
    events, error = fails(dialect, reply, request_timeout=0.7, stream_timeout=5.0)
    assert error.reason == "timeout"
    assert error.metadata["phase"] == "total"
    assert "request_timeout" in error.message
    assert any(isinstance(event, TextDelta) for event in events)


@every_dialect
def test_an_endless_stream_ends_when_it_is_too_long(dialect):
    chunks = [*begun(dialect), *[nothing_much(dialect) * 1000] * 1000]
    events, error = fails(dialect, streamed(dialect, chunks), stream_timeout=5.0, max_response_bytes=20_000)
    assert error.reason == "malformed_response"
    assert "more than 20000 bytes; adapter_opts max_response_bytes allows more" in error.message
    assert any(isinstance(event, TextDelta) for event in events)


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "1 GB"])
def test_what_is_no_length_of_an_answer_is_refused(most):
    with pytest.raises(ValueError, match="max_response_bytes must be a whole number"):
        asked("openai_chat", "http://127.0.0.1:9", max_response_bytes=most)


@every_dialect
def test_one_deadline_holds_for_all_attempts(dialect):
    busy = Reply(status=503, body=JSON, first_byte_delay=0.2)
    started = time.monotonic()
    with LoopbackServer([busy] * 50) as server:
        policy = {"max_attempts": 50, "base_delay": 0.1, "max_delay": 0.1, "jitter": 0.0}
        events = asked(dialect, server.url, retry=policy, request_timeout=0.7)
        tried = len(server.requests)
    error = events[-1].error
    assert 2 <= tried <= 3
    assert error.reason in ("provider_unavailable", "timeout")
    assert time.monotonic() - started < SOON


@pytest.mark.slow
@pytest.mark.parametrize(
    "suite", [suite for suite in suites() if suite.dialect], ids=lambda suite: suite.dialect or ""
)
def test_recorded_traffic_is_the_same_over_sockets(suite):
    found = exchanges_of(suite)
    if not found:
        pytest.skip(f"no recorded traffic in {TRAFFIC}")
    dialect = find_dialect(suite.dialect)

    def row_of(exchange):
        row = PROVIDERS.get(exchange.provider)
        return row if row is not None and suite.dialect in dialects_of(row) else ROWS[suite.dialect]

    def reply(exchange):
        status, body = exchange.response["status"], exchange.body
        if status < 400 and is_stream(exchange):
            chunks = [body[at : at + 700] for at in range(0, len(body), 700)]
            return streamed(suite.dialect, chunks)
        return Reply(status=status, body=body)

    def is_stream(exchange):
        lines = exchange.body.strip()
        return b"data:" in lines[:2000] or b"\n{" in lines or not lines.startswith((b"{", b"["))

    def expected(exchange):
        row, body = row_of(exchange), exchange.body
        if exchange.response["status"] >= 400:
            return [dialect.decode_error(HttpAnswer(status=exchange.response["status"], body=body), row)]
        if is_stream(exchange):
            decoder = dialect.decoder(row)
            return decoder.feed(body) + decoder.end()
        return dialect.decode_body(body, row)

    async def run(url):
        transport = HttpxTransport()
        for exchange in found:
            _, *events = await ask(transport, suite.dialect, url, row=row_of(exchange))
            wanted = expected(exchange)
            if isinstance(events[-1], ErrorEvent):
                last = wanted[-1].error if isinstance(wanted[-1], ErrorEvent) else wanted[-1]
                assert type(events[-1].error) is type(last), exchange.name
                assert (events[-1].error.reason, events[-1].error.message) == (last.reason, last.message)
                events, wanted = events[:-1], wanted[:-1]
            assert events == list(wanted), exchange.name
        await transport.aclose()

    with LoopbackServer(map(reply, found)) as server:
        asyncio.run(run(server.url))
        assert len(server.requests) == len(found)
