"""No error of any dialect, and nothing that is told of it, shows the key or a body beyond the words it quotes.

The canaries: a key that the server repeats, and a sentence that stands in the body everywhere but in the error's words.
"""

import asyncio
import json
import logging
import traceback

import pytest

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.data import ErrorEvent
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.testing import script
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.integration import wires
from tests.integration.wires import DIALECTS, KEY, ask, begun, frames, stream_type, streamed

SENTENCE = "the heron at the weir has seen it all"
QUOTED = f"Refused, says the server, for {KEY}."
STATUSES = (302, 400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 429, 451, 500, 502, 503, 504, 529)

every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def text(value):
    return json.dumps(value).encode()


ERROR = {
    "message": QUOTED,
    "type": "odd",
    "code": "odd",
    "status": "ODD",
    "param": SENTENCE,
    "metadata": {"raw": SENTENCE},
    "details": [{"reason": "ODD", "domain": SENTENCE, "text": SENTENCE}],
    "failed_generation": SENTENCE,
}
BODIES = {
    "an error": text({"error": ERROR, "request": SENTENCE}),
    "an error of Anthropic's": text({"type": "error", "error": ERROR, "request_id": SENTENCE}),
    "a flat error": text({**ERROR, "echo": SENTENCE}),
    "a list of errors": text([{"error": ERROR}, {"error": {"message": SENTENCE}}]),
    "a text for an error": text({"error": QUOTED, "trace": SENTENCE}),
    "another shape": text({"failure": {"text": SENTENCE, "key": KEY}}),
    "half a JSON": text({"error": {"message": SENTENCE}})[:-2],
    "a web page": f"<html><p>{SENTENCE} {KEY}</p></html>".encode(),
    "a text": f"{SENTENCE} {KEY}".encode(),
    "bytes": b"\xff\xfe" + SENTENCE.encode("utf-16-le") + SENTENCE.encode(),
}


def reply(status, name, body):
    kind = "text/html" if name == "a web page" else "application/json"
    headers = {"content-type": kind, "x-request-id": KEY, "x-secret": SENTENCE, "location": f"/{KEY}"}
    return Reply(status=status, headers=headers, body=body)


def shown(error):
    """Everything that an error says, in any way in which somebody may print it."""
    printed = "".join(traceback.format_exception(error))
    chain = [error.__cause__, error.__context__]
    return f"{error}\n{error!r}\n{error.to_fields()!r}\n{printed}\n{chain!r}"


def errors_of(dialect, replies, **options):
    """The error of each reply, and everything that was told while they came."""
    told = []

    async def run(url):
        transport = HttpxTransport()
        ended = [(await ask(transport, dialect, url, **options))[-1] for _ in replies]
        await transport.aclose()
        return ended

    telemetry.attach("canaries", lambda event: told.append(repr((event.name, event.metadata))))
    try:
        with LoopbackServer(replies) as server:
            ended = asyncio.run(run(server.url))
    finally:
        telemetry.detach("canaries")
    return ended, told


def assert_silent(said):
    assert KEY not in said
    assert SENTENCE not in said


@every_dialect
def test_a_refusal_quotes_the_words_of_the_error_and_no_more(dialect, caplog):
    cases = [(status, name, body) for status in STATUSES for name, body in BODIES.items()]
    with caplog.at_level(logging.DEBUG):
        ended, told = errors_of(dialect, [reply(*case) for case in cases])
    for (status, name, _), last in zip(cases, ended, strict=True):
        assert isinstance(last, ErrorEvent), (status, name)
        assert_silent(shown(last.error))
        if "error" in name and status >= 400:
            assert "Refused, says the server" in last.error.message, (status, name)
    assert len(told) == len(cases)
    assert_silent("\n".join(told))
    ours = [record for record in caplog.records if record.name.startswith(("allm_actors", "supervisors"))]
    assert_silent("\n".join(record.getMessage() for record in ours))


GARBAGE = {
    "an event that is not JSON": f"data: {{{SENTENCE} {KEY}\n\n".encode(),
    "an event that is a list": b"data: " + text([SENTENCE, KEY]) + b"\n\n",
    "an error event": b"event: error\ndata: " + text({"type": "error", "error": ERROR}) + b"\n\n",
    "a line that is not JSON": f"{{{SENTENCE} {KEY}\n".encode(),
    "a line with an error": text({"error": QUOTED, "echo": SENTENCE}) + b"\n",
    "bytes": b"\x00\x00\x00\x20\x00\x00\x00\x00" + SENTENCE.encode() + KEY.encode(),
}


@every_dialect
@pytest.mark.parametrize("first", [False, True], ids=["in the middle", "at once"])
def test_a_stream_that_breaks_says_where_and_not_what(dialect, first):
    before = [] if first else begun(dialect)
    replies = [
        streamed(dialect, [*before, piece], then=then)
        for piece in GARBAGE.values()
        for then in ("end", "reset")
    ]
    ended, told = errors_of(dialect, replies)
    for last in ended:
        assert isinstance(last, ErrorEvent)
        assert_silent(shown(last.error))
    assert_silent("\n".join(told))


@every_dialect
def test_an_answer_of_the_wrong_kind_is_not_quoted(dialect):
    kinds = ("text/plain", "text/html", "application/json", "application/xml", stream_type(dialect))
    replies = [Reply(headers={"content-type": kind}, body=body) for kind in kinds for body in BODIES.values()]
    ended, told = errors_of(dialect, replies)
    for last in ended:
        assert isinstance(last, ErrorEvent)
        assert_silent(shown(last.error))
    assert_silent("\n".join(told))


@every_dialect
def test_every_attempt_is_told_without_the_key(dialect):
    busy = reply(503, "an error", BODIES["an error"])
    whole = streamed(
        dialect, frames(dialect), headers={"content-type": stream_type(dialect), "x-request-id": KEY}
    )
    replies = [busy, busy, whole]
    policy = {"max_attempts": 3, "base_delay": 0.001, "max_delay": 0.001, "jitter": 0.0}
    told = []
    telemetry.attach("attempts", told.append, ["allm.adapter.response", "allm.adapter.retry"])

    async def run(url):
        transport = HttpxTransport()
        events = await ask(transport, dialect, url, retry=policy)
        await transport.aclose()
        return events

    try:
        with LoopbackServer(replies) as server:
            events = asyncio.run(run(server.url))
    finally:
        telemetry.detach("attempts")
    assert not isinstance(events[-1], ErrorEvent)
    names = ["allm.adapter.response", "allm.adapter.retry"] * 2 + ["allm.adapter.response"]
    assert [event.name for event in told] == names
    responses = told[::2]
    assert [event.metadata["status"] for event in responses] == [503, 503, 200]
    assert [event.metadata["attempt"] for event in responses] == [1, 2, 3]
    assert all(event.measurements["duration"] > 0 for event in responses)
    assert {event.metadata["server"] for event in responses} == {"127.0.0.1"}
    assert_silent(repr([event.metadata for event in told]))


OTHERS = {
    "a key with blanks around it": ({}, f" {KEY}\n", KEY),
    "a header of the call's": ({"headers": {"x-gateway-token": "gw-canary-0123"}}, None, "gw-canary-0123"),
    "a cookie of the call's": ({"headers": {"cookie": "sid=sid-canary-0123"}}, None, "sid-canary-0123"),
    "a query without a name for it": (
        {"query": {"mine": "c0ffee0123456789abcdef"}},
        None,
        "c0ffee0123456789abcdef",
    ),
    "a query of the call's": ({"query": {"subscription-key": "sub-canary-0123"}}, None, "sub-canary-0123"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_else_opens_a_door_is_not_shown_either(name, caplog, monkeypatch):
    options, key, secret = OTHERS[name]
    body = text({"error": {"message": f"Refused, says the server, for {secret}.", "code": secret}})
    kind = {"content-type": "application/json", "x-request-id": secret}
    if key is not None:
        monkeypatch.setattr(wires, "KEY", key)
    ended, told = errors_of("openai_chat", [Reply(status=401, headers=kind, body=body)], **options)
    assert ended[0].error.reason == "authentication_failed"
    assert secret not in shown(ended[0].error) + repr(told) + caplog.text


class Panic(BaseException):
    """No `Exception`, as what an extension written in another language raises."""


RAISED = (RuntimeError, KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Panic)
KEYS = {"a key": KEY, "a function for a key": lambda: KEY}


def refusal(exception, call):
    key = call.api_key() if callable(call.api_key) else call.api_key
    return exception(f"refused, with the key {key if isinstance(key, str) else key.reveal()}")


class Own:
    """An adapter of one's own that raises an error with the key in it."""

    name = "own"

    def __init__(self, exception):
        self.exception = exception


class OnOpening(Own):
    def stream(self, request, call):
        raise refusal(self.exception, call)


class WhileStreaming(Own):
    def stream(self, request, call):
        yield allm.MessageStarted()
        raise refusal(self.exception, call)


class Asynchronously(Own):
    async def stream(self, request, call):
        yield allm.MessageStarted()
        raise refusal(self.exception, call)


class Playing(WhileStreaming):
    play = WhileStreaming.stream


class Embedding(Own):
    def embed(self, request, call):
        raise refusal(self.exception, call)


class EmbeddingAsynchronously(Own):
    async def embed(self, request, call):
        raise refusal(self.exception, call)


@pytest.mark.parametrize("exception", RAISED, ids=lambda each: each.__name__)
def test_a_function_for_a_key_that_quotes_one_tells_nobody(exception, caplog):
    def function():
        raise exception(f"no vault for {KEY}")

    engine = allm.Engine("openai-compatible:m", adapter_opts={"base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(allm.EngineError, match=exception.__name__) as refused:
        allm.generate(engine, [allm.user("hi")], api_key=function)
    assert refused.value.reason == "missing_key"
    assert KEY not in shown(refused.value) + caplog.text


@pytest.fixture
def told(caplog):
    """A function that returns everything that was logged and told until then."""
    events = []
    telemetry.attach("all", lambda event: events.append(repr(event)))
    with caplog.at_level(logging.DEBUG):
        yield lambda: caplog.text + "".join(map(repr, caplog.records)) + "".join(events)
    telemetry.detach("all")


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("exception", RAISED)
@pytest.mark.parametrize("adapter", [OnOpening, WhileStreaming, Asynchronously, Playing])
def test_whatever_an_adapter_of_ones_own_raises_loses_the_key(adapter, exception, key, told, tmp_path):
    engine = allm.Engine(adapter(exception), model="m")
    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", engine, api_key=key)
        try:
            result = session.reply("hi").result()
            assert result.halted_reason == "error"
            said = shown(result.metadata["error"])
        except (ValueError, TypeError, allm.AllmError) as refused:
            said = shown(refused)
        said += repr(session.value) + host.tree()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY not in said + told()
    assert KEY.encode() not in stored


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("exception", RAISED)
@pytest.mark.parametrize("adapter", [Embedding, EmbeddingAsynchronously])
def test_whatever_an_adapter_of_a_service_raises_loses_the_key_and_is_told(adapter, exception, key, told):
    engine = allm.Engine(embed_adapter=adapter(exception), embed_model="m")
    with pytest.raises(allm.EmbeddingAdapterError, match=exception.__name__) as raised:
        allm.embed(engine, ["hi"], api_key=key, retry=False)
    assert KEY not in shown(raised.value) + told()


@pytest.mark.parametrize("exception", RAISED)
def test_an_exit_in_an_adapter_ends_neither_its_host_nor_the_loop_of_its_caller(exception):
    async def run():
        async with allm.Host() as host:
            failed = await host.session("a", allm.Engine(Asynchronously(exception), model="m"), api_key=KEY)
            ended = await failed.reply("hi")
            whole = allm.Engine(
                "fake", adapter_opts={"scripts": [[script.text("yes"), script.finish("stop")]]}
            )
            return ended.halted_reason, (await (await host.session("b", whole)).reply("hi")).text()

    assert asyncio.run(run()) == ("error", "yes")
