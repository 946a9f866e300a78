"""Providers of what is not chat, over real sockets: what is sent, how often, with which key, and what is let go."""

import asyncio
import itertools
import json
import math
import threading

import pytest

import allm_actors as allm
from allm_actors.data import Audio, Image
from allm_actors.engine import keys
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.remote import calls
from allm_actors.testing import script
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply
from tests.conformance.services import REQUESTS, ROWS, SECRET, answered, refused, title
from tests.integration.calling import QUICK

EVERY = pytest.mark.parametrize("row", ROWS, ids=title)
CALLS = {
    "image": allm.generate_image,
    "embed": allm.embed,
    "moderate": allm.moderate,
    "speech": allm.synthesize,
    "transcribe": allm.transcribe,
}
SOUND = {"content-type": "audio/mpeg"}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for row in ROWS:
        for name in (*row.provider.key_names, row.provider.base_url_name):
            monkeypatch.delenv(name, raising=False)
    yield
    keys.clear()


def engine(row, server, **opts):
    fields = {CAPABILITIES[row.span].slot: row.provider.name}
    return allm.Engine(**fields, adapter_opts={"base_url": f"{server.url}/", **opts}, retry=QUICK)


def ask(row, server, opts=None, **options):
    options.setdefault("api_key", SECRET)
    return CALLS[row.span](engine(row, server, **(opts or {})), REQUESTS[row.span], **options)


def row_named(span, name):
    return next(row for row in ROWS if (row.span, row.provider.name) == (span, name))


VOICE = row_named("speech", "elevenlabs")
VECTORS = row_named("embed", "voyage")


# --- attempts -----------------------------------------------------------------------------------------------------


@EVERY
def test_there_is_one_loop_of_attempts(row):
    with LoopbackServer(itertools.repeat(refused(row, "provider_unavailable"))) as server:
        with pytest.raises(CAPABILITIES[row.span].error) as raised:
            ask(row, server)
        assert raised.value.reason == "provider_unavailable"
        assert len(server.requests) == 3


@EVERY
def test_what_may_pass_by_itself_is_tried_again(row):
    replies = [answered(row, then="reset"), refused(row, "rate_limited", 1), answered(row)]
    with LoopbackServer(replies) as server:
        response = ask(row, server, request_id="r1")
        assert response.request_id == "r1"
        sent = server.requests
        assert len(sent) == 3
        assert len({request.body for request in sent}) == 1


@EVERY
def test_what_would_be_sent_can_be_had_unsent(row):
    with LoopbackServer([answered(row)]) as server:
        call = Call(request_id="r", api_key=SECRET, options={"base_url": server.url})
        adapter = find_capable(CAPABILITIES[row.span], row.provider.name)
        ready = adapter.prepare_request(REQUESTS[row.span], call)
        assert server.requests == ()
        ask(row, server)
        (sent,) = server.requests
    assert ready.url == f"{server.url}{sent.target}"
    assert SECRET in ready.headers[row.provider.key_header]
    assert SECRET not in repr(ready)
    if not ready.headers["content-type"].startswith("multipart"):  # whose boundary is drawn anew
        assert json.loads(ready.body) == sent.json


@EVERY
def test_what_does_not_pass_is_not_tried_again(row):
    with LoopbackServer(itertools.repeat(refused(row, "invalid_request"))) as server:
        with pytest.raises(CAPABILITIES[row.span].error):
            ask(row, server)
        assert len(server.requests) == 1


def test_the_deadline_of_the_call_is_kept():
    with LoopbackServer(itertools.repeat(Reply(first_byte_delay=math.inf))) as server:
        with pytest.raises(allm.EmbeddingAdapterError) as raised:
            ask(VECTORS, server, request_timeout=0.2, model="m")
        assert raised.value.reason == "timeout"
        server.wait_for(lambda seen: seen.connections == 0)


@pytest.mark.parametrize(("retry", "requests"), [({}, 2), ({"retry_on": []}, 2), (False, 1)], ids=str)
def test_silence_before_an_answer_is_tried_again(retry, requests):
    """As `timeout` always is for what is not chat; in chat only if it is said."""
    silent = [Reply(first_byte_delay=math.inf), answered(VECTORS)]
    patience = retry if retry is False else {"base_delay": 0.01, "jitter": 0, **retry}
    with LoopbackServer(silent) as server:
        if requests == 2:
            ask(VECTORS, server, adapter_opts={"first_byte_timeout": 0.2}, retry=patience)
        else:
            with pytest.raises(allm.EmbeddingAdapterError, match="did not begin"):
                ask(VECTORS, server, adapter_opts={"first_byte_timeout": 0.2}, retry=patience)
        assert len(server.requests) == requests


def test_without_the_actors_an_adapter_keeps_the_deadline_itself(monkeypatch):
    monkeypatch.setattr(calls, "_GRACE_SECONDS", 0.0)
    adapter = find_capable(CAPABILITIES["embed"], "voyage")
    with LoopbackServer([Reply(first_byte_delay=math.inf)]) as server:
        call = Call(request_id="r", api_key=SECRET, options={"base_url": server.url}, request_timeout=0.2)
        with pytest.raises(allm.EmbeddingAdapterError, match="request_timeout") as raised:
            asyncio.run(adapter.embed(REQUESTS["embed"], call))
        assert raised.value.reason == "timeout"


# --- keys ---------------------------------------------------------------------------------------------------------


@EVERY
def test_a_key_is_sent_as_the_provider_wants_it_and_is_in_no_error(row):
    with LoopbackServer(itertools.repeat(refused(row, "authentication_failed"))) as server:
        with pytest.raises(CAPABILITIES[row.span].error) as raised:
            ask(row, server)
        header = row.provider.key_header
        bearer = "Bearer " if header == "authorization" else ""
        assert server.requests[0].headers[header] == bearer + SECRET
    said = (
        f"{raised.value!r} {raised.value.to_fields()} {raised.value.__cause__!r} {raised.value.__context__!r}"
    )
    assert SECRET not in said
    assert "REDACTED" in said


def streamed_clip(voice, text, **options):
    return allm.stream_synthesize(voice, text, **options).result()


@pytest.mark.parametrize("speak", [allm.synthesize, streamed_clip], ids=["whole", "streamed"])
def test_a_key_that_does_not_look_like_one_is_in_no_error(speak):
    key = "nobodys.plain.key.of.no.known.shape"
    body = json.dumps({"detail": {"status": "invalid_api_key", "message": f"no such key: {key}"}}).encode()
    with LoopbackServer(
        itertools.repeat(Reply(status=401, body=body, headers={"request-id": key}))
    ) as server:
        voice = engine(VOICE, server)
        with pytest.raises(allm.SpeechAdapterError) as raised:
            speak(voice, "hi", api_key=key)
        assert server.requests[0].headers["xi-api-key"] == key
    assert raised.value.reason == "authentication_failed"
    assert key not in f"{raised.value!r} {raised.value.to_fields()}"
    assert "REDACTED" in raised.value.message


@EVERY
def test_a_body_is_in_no_error(row):
    body = b"\x00<secret of the body>" * 9
    with LoopbackServer(itertools.repeat(Reply(body=body))) as server:
        with pytest.raises(CAPABILITIES[row.span].error) as raised:
            ask(row, server)
        assert raised.value.reason == "malformed_response"
    assert "secret of" not in f"{raised.value.to_fields()}"


@EVERY
def test_without_a_key_nothing_is_sent(row):
    with LoopbackServer([answered(row)]) as server:
        if not row.provider.key_required:
            ask(row, server, api_key=None)
            assert "authorization" not in server.requests[0].headers
            return
        with pytest.raises(allm.EngineError, match=row.provider.key_names[0]) as raised:
            ask(row, server, api_key=None)
        assert raised.value.reason == "missing_key"
        assert server.requests == ()


def test_what_cannot_be_sent_is_refused_before_a_key_is_asked_for():
    asked = []
    with LoopbackServer([]) as server:
        with pytest.raises(allm.ImageAdapterError) as raised:
            allm.image_variations(
                allm.Engine(image_adapter="gemini", adapter_opts={"base_url": server.url}),
                Image.from_bytes(b"x", "image/png"),
            )
        assert raised.value.reason == "unsupported_operation"
        voice = engine(VOICE, server)
        with pytest.raises(allm.SpeechAdapterError, match="no format 'aac'"):
            allm.stream_synthesize(voice, "hi", format="aac", api_key=lambda: asked.append(1)).result()
        assert (asked, server.requests) == ([], ())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_function_for_a_key_may_take_its_time(streamed):
    """The event loop that all calls share goes on meanwhile: another call is answered while the function waits."""
    entered, go_on = threading.Event(), threading.Event()

    def vault():
        entered.set()
        assert go_on.wait(10)
        return SECRET

    with LoopbackServer(lambda request: answered(VOICE)) as server:
        voice = engine(VOICE, server)
        answers = []

        def slow():
            if streamed:
                answers.append(allm.stream_synthesize(voice, "hi", api_key=vault).result())
            else:
                answers.append(allm.synthesize(voice, "hi", api_key=vault))

        thread = threading.Thread(target=slow)
        thread.start()
        assert entered.wait(10)
        assert allm.synthesize(voice, "hi", api_key=SECRET).audio.to_bytes()
        go_on.set()
        thread.join(10)
        assert len(answers) == 1
        assert {request.headers["xi-api-key"] for request in server.requests} == {SECRET}


def test_a_function_without_a_key_fails_the_stream():
    with LoopbackServer([]) as server:
        events = list(allm.stream_synthesize(engine(VOICE, server), "hi", api_key=lambda: None))
        assert [type(event).__name__ for event in events] == ["ErrorEvent"]
        assert events[0].error.reason == "missing_key"


# --- what is sent -------------------------------------------------------------------------------------------------


def test_texts_beyond_a_batch_go_in_several_requests_and_come_back_in_order():
    def vectors(request):
        texts = request.json["texts"]
        said = {"embeddings": {"float": [[float(text)] for text in texts]}}
        return Reply(body=json.dumps({**said, "meta": {"billed_units": {"input_tokens": 1}}}).encode())

    with LoopbackServer(vectors) as server:
        made = engine(row_named("embed", "cohere"), server)
        response = allm.embed(made, [str(number) for number in range(200)], model="m", api_key=SECRET)
        assert response.vectors() == [[float(number)] for number in range(200)]
        assert [len(request.json["texts"]) for request in server.requests] == [96, 96, 8]
        assert (response.usage.total_tokens, response.metadata["chunk_count"]) == (3, 3)


def test_a_picture_from_a_file_arrives_as_a_form(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(b"pixels")
    row = row_named("image", "openai")
    with LoopbackServer([answered(row)]) as server:
        response = allm.edit_image(
            engine(row, server), Image.from_file(path), "a hat", model="gpt-image-1", api_key=SECRET
        )
        (request,) = server.requests
    assert request.target == "/images/edits"
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'filename="cat.png"' in request.body
    assert response.usage.images == 2


def test_options_of_the_adapter_are_honoured_or_refused(monkeypatch):
    row = row_named("moderate", "openai")
    with LoopbackServer([answered(row), answered(row)]) as server:
        ask(row, server, {"headers": {"X-Mine": "1"}, "organization": "acme", "query": {"v": "2"}})
        assert server.requests[0].target == "/moderations?v=2"
        sent = server.requests[0].headers
        assert (sent["x-mine"], sent["openai-organization"]) == ("1", "acme")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        made = allm.Engine(moderation_adapter="openai")
        assert allm.moderate(made, REQUESTS["moderate"], api_key=SECRET).flagged()
        with pytest.raises(TypeError, match="did you mean 'base_url'"):
            ask(row, server, {"base_ulr": "http://x"})
        assert len(server.requests) == 2


@EVERY
def test_a_script_of_the_fake_answers_in_the_providers_place(row):
    """Before any gate, and without a key."""
    scripts = {
        "image": ("image_script", [Image.from_bytes(b"x", "image/png")]),
        "embed": ("embed_script", [[1.0]] * 3),
        "moderate": ("moderation_script", [allm.ModerationResult(flagged=True)] * 2),
        "speech": ("speech_script", b"clip"),
        "transcribe": ("transcription_script", "hello"),
    }
    name, value = scripts[row.span]
    with LoopbackServer([]) as server:
        assert ask(row, server, {name: [script.ok(value)]}, api_key=None) is not None
        assert server.requests == ()


# --- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai", "elevenlabs"])
def test_a_clip_is_heard_while_it_is_made(name):
    row, gate = row_named("speech", name), Gate()
    reply = Reply(headers={**SOUND, "request-id": "q"}, chunks=[b"first", gate, b"second"])
    with LoopbackServer([reply]) as server:
        with allm.stream_synthesize(engine(row, server), "hi", api_key=SECRET, request_id="r1") as events:
            pieces = iter(events)
            assert next(pieces).mime_type == "audio/mpeg"
            assert next(pieces).data == b"first"
            gate.open()
            assert b"".join(event.data for event in pieces if isinstance(event, allm.AudioDelta)) == b"second"
            response = events.result()
        assert (response.audio.to_bytes(), response.id, response.request_id) == (b"firstsecond", "q", "r1")
        assert server.requests[0].target.endswith("/stream?output_format=mp3_44100_128") == (
            name == "elevenlabs"
        )


def test_a_stream_that_is_left_is_closed():
    reply = Reply(headers=SOUND, chunks=[b"first"], then="stall")
    with LoopbackServer([reply]) as server:
        with allm.stream_synthesize(engine(VOICE, server), "hi", api_key=SECRET) as events:
            pieces = iter(events)
            next(pieces)
            assert next(pieces).data == b"first"
        server.wait_for(lambda seen: seen.abandoned == 1)


def test_a_stream_that_breaks_says_how_far_it_came_and_is_not_tried_again():
    reply = Reply(headers=SOUND, chunks=[b"first"], then="reset")
    with LoopbackServer([reply]) as server:
        with pytest.raises(allm.SpeechAdapterError) as raised:
            allm.stream_synthesize(engine(VOICE, server), "hi", api_key=SECRET).result()
        assert (raised.value.reason, raised.value.metadata["bytes_received"]) == ("network_error", 5)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (refused(VOICE, "rate_limited"), "rate_limited"),
        (Reply(headers=SOUND, chunks=[]), "malformed_response"),
        (Reply(body=b"{}"), "malformed_response"),
        (Reply(headers={"content-type": "text/html"}, body=b"<html>"), "malformed_response"),
    ],
    ids=["refused", "empty", "json", "html"],
)
def test_a_stream_that_is_none_is_one_error(reply, reason):
    with LoopbackServer([reply]) as server:
        *_, last = told = list(allm.stream_synthesize(engine(VOICE, server), "hi", api_key=SECRET))
    assert sum(isinstance(event, allm.ErrorEvent) for event in told) == 1
    assert (type(last.error), last.error.reason) == (allm.SpeechAdapterError, reason)


def test_silence_in_a_stream_is_a_timeout():
    reply = Reply(headers=SOUND, chunks=[b"first"], then="stall")
    with LoopbackServer([reply]) as server:
        events = allm.stream_synthesize(engine(VOICE, server), "hi", api_key=SECRET, stream_timeout=0.2)
        with pytest.raises(allm.SpeechAdapterError) as raised:
            events.result()
        assert raised.value.reason == "timeout"


# --- answers ------------------------------------------------------------------------------------------------------


def test_a_web_page_says_what_is_probably_wrong():
    row = row_named("transcribe", "openai")
    with LoopbackServer([Reply(headers={"content-type": "text/html"}, body=b"<html>")]) as server:
        with pytest.raises(allm.TranscriptionAdapterError, match="web page; base_url"):
            ask(row, server)
        assert len(server.requests) == 1


def test_an_answer_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(calls, "_MAX_BODY_BYTES", 1000)
    with LoopbackServer([Reply(headers=SOUND, chunks=[b"x" * 600] * 3, then="stall")]) as server:
        with pytest.raises(allm.SpeechAdapterError, match="longer than 1000 bytes"):
            ask(VOICE, server)
        server.wait_for(lambda seen: seen.connections == 0)


def test_a_large_answer_is_read_whole():
    clip = bytes(3_000_000)
    with LoopbackServer([Reply(headers=SOUND, body=clip)]) as server:
        assert ask(VOICE, server).audio.to_bytes() == clip


def test_a_cancelled_call_closes_its_connection():
    with LoopbackServer([Reply(first_byte_delay=math.inf)]) as server:

        async def main():
            call = asyncio.ensure_future(
                allm.aio.transcribe(
                    engine(row_named("transcribe", "elevenlabs"), server),
                    Audio.from_bytes(b"x", "audio/mpeg"),
                    api_key=SECRET,
                )
            )
            await asyncio.to_thread(server.wait_for, lambda seen: len(seen.requests) == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        asyncio.run(main())
        server.wait_for(lambda seen: seen.connections == 0)


def test_a_key_in_a_header_of_the_calls_own_is_in_no_error():
    quoting = Reply(status=400, body=b'{"detail": "nobody is called gw-canary-0123"}')
    adapter = find_capable(CAPABILITIES["embed"], VECTORS.provider.name)
    with LoopbackServer([quoting]) as server:
        options = {"base_url": server.url, "headers": {"x-gateway-token": "gw-canary-0123"}}
        call = Call(request_id="r", api_key=SECRET, options=options)
        with pytest.raises(allm.EmbeddingAdapterError, match="nobody is called") as raised:
            asyncio.run(adapter.embed(REQUESTS["embed"], call))
    assert "gw-canary-0123" not in repr(raised.value.to_fields())


@EVERY
def test_an_adapter_can_be_used_by_itself(row):
    """As whoever writes one of theirs does: a coroutine, a request, a call."""
    capability = CAPABILITIES[row.span]
    adapter = find_capable(capability, row.provider.name)
    with LoopbackServer([answered(row), refused(row, "provider_unavailable")]) as server:
        call = Call(request_id="r1", api_key=SECRET, options={"base_url": server.url})

        async def main():
            request = REQUESTS[row.span]
            response = await getattr(adapter, capability.method)(request, call)
            assert (type(response), response.request_id) == (capability.response, "r1")
            with pytest.raises(capability.error) as raised:
                await getattr(adapter, capability.method)(request, call)
            assert (raised.value.status, raised.value.metadata["request_id"]) == (503, "r1")

        asyncio.run(main())
        assert len(server.requests) == 2
