"""`response_model` from the outside: every way to call, sessions, streams of partial values, and a type that breaks."""

import asyncio
import json
import threading
from dataclasses import dataclass

import pytest

import allm_actors as allm
from allm_actors.testing import script
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply
from supervisors import exit as exit_process

HI = [allm.user("A cat?")]
GOOD, BAD = '{"name": "Ash", "age": 3}', '{"name": "Ash"}'
SOON = 10.0


@dataclass
class Cat:
    name: str
    age: int


def says(*answers, record=None, **fields):
    scripts = [[*map(script.text, texts.split("|")), script.finish("stop")] for texts in answers]
    opts = {"scripts": scripts} | ({} if record is None else {"record": record})
    return allm.Engine(adapter="fake", adapter_opts=opts, **fields)


def test_every_call_parses_and_asks_again():
    for call, response in [
        (allm.generate, lambda r: r),
        (allm.step, lambda r: r.response),
        (allm.chat, lambda r: r.final_response),
    ]:
        record = []
        got = response(call(says(BAD, GOOD, record=record), HI, response_model=Cat))
        assert got.parsed == Cat("Ash", 3)
        assert len(record) == 2
        assert record[0].request.response_format == allm.json_schema("Cat", Cat)
        assert "age" in record[1].request.messages[-1].content
        assert "response_model" not in record[0].request.options


def test_awaited():
    async def main():
        response = await allm.aio.generate(says(BAD, GOOD), HI, response_model=Cat)
        assert response.parsed == Cat("Ash", 3)
        stream = allm.aio.stream(says("{|}", GOOD), HI, response_model=Cat)
        return [value async for value in stream.partials()]

    assert asyncio.run(main())[-1] == Cat("Ash", 3)


def test_a_stream_of_partial_values():
    stream = allm.stream_generate(says('{"name": "A|sh", "a|ge": 3|1}'), HI, response_model=Cat)
    assert list(stream.partials()) == [Cat("A", None), Cat("Ash", None), Cat("Ash", 31)]
    assert stream.result().parsed == Cat("Ash", 31)
    events = list(allm.stream_generate(says(GOOD), HI, emit_text_deltas=False))
    assert list(allm.partials(events, Cat)) == [Cat("Ash", 3)]
    with pytest.raises(TypeError, match="response_model="):
        allm.stream(says(GOOD), HI).partials()


def drafted(*last):
    """An engine whose first pass answers with a draft, and the second with `last`."""
    tool = allm.Tool(name="t", description="", schema={}, handler=lambda _: 1)
    scripts = [[script.text(GOOD.replace("Ash", "draft")), script.finish("stop")], list(last)]
    return allm.Engine(adapter="fake", tools=[tool], adapter_opts={"scripts": scripts})


FINAL = [script.text('{"name": "As'), script.text('h", "age": 3}'), script.finish("stop")]
TWICE = {"response_model": Cat, "structured_finalize": True}


def test_a_draft_is_no_answer():
    assert list(allm.stream(drafted(*FINAL), HI, **TWICE).partials()) == [Cat("As", None), Cat("Ash", 3)]

    async def main():
        return [value async for value in allm.aio.stream(drafted(*FINAL), HI, **TWICE).partials()]

    assert asyncio.run(main()) == [Cat("As", None), Cat("Ash", 3)]
    with allm.Host() as host:
        turn = host.session("s", drafted(*FINAL)).reply("A cat?", **TWICE)
        assert list(turn.partials()) == [Cat("As", None), Cat("Ash", 3)]


def test_a_draft_is_no_answer_when_the_next_turn_does_not_wait_for_the_reader():
    tool = allm.Tool(name="t", description="", schema={}, handler=lambda _: 1)
    draft = [script.text(GOOD.replace("Ash", "draft")), script.finish("stop")]
    scripts = [draft, FINAL, [script.text("x"), script.finish("stop")]]
    with allm.Host() as host:
        chat = host.session("s", allm.Engine("fake", tools=[tool], adapter_opts={"scripts": scripts}))
        values = chat.reply("A cat?", **TWICE).partials()
        assert chat.reply("And then?").result().final_response.text() == "x"
        assert list(values) == [Cat("As", None), Cat("Ash", 3)]


def test_where_the_last_pass_is_refused_there_is_no_answer():
    refused = drafted(script.preflight_error("rate_limited"))
    with pytest.raises(allm.AdapterError, match="rate_limited"):
        list(allm.stream(refused, HI, **TWICE).partials())


@pytest.mark.parametrize("wrong", [{"type": "json_object"}, "text"])
def test_a_form_that_no_last_pass_can_have_is_refused_before_the_first(wrong):
    engine = drafted(*FINAL)
    with pytest.raises(allm.ValidationError, match="structured_finalize"):
        allm.chat(engine, HI, response_format=wrong, structured_finalize=True)
    with allm.Host() as host, pytest.raises(allm.ValidationError, match="structured_finalize"):
        host.session("s", engine).reply("hi", response_format=wrong, structured_finalize=True).result()
    able = allm.ModelRef(id="m", provider="fake", capabilities={"json_native": False})
    with pytest.raises(allm.ValidationError, match="json_native_disabled"):
        allm.chat(engine, HI, model=able, **TWICE)
    assert allm.chat(engine, HI, **TWICE).final_response.parsed == Cat("Ash", 3), "nothing was asked before"


def cut_short(reason):
    script_ = [script.text('{"name": "Ash", "age": 3'), script.finish(reason)]
    return allm.Engine(adapter="fake", adapter_opts={"script": script_})


def broken_off():
    script_ = [script.text('{"name": "Ash"'), script.error("network_error")]
    return allm.Engine(adapter="fake", adapter_opts={"script": script_})


@pytest.mark.parametrize("begin", [allm.stream_generate, allm.stream, allm.stream_step])
@pytest.mark.parametrize(
    ("engine", "error", "words"),
    [
        (lambda: says(BAD, BAD), allm.ValidationError, "even after 1 retry"),
        (lambda: cut_short("length"), allm.UnwrapError, "length"),
        (lambda: cut_short("content_filter"), allm.UnwrapError, "content_filter"),
        (broken_off, allm.AdapterError, "network_error"),
    ],
    ids=["never fits", "length", "filtered", "broken off"],
)
def test_partial_values_end_with_what_keeps_the_answer_from_being_one(begin, engine, error, words):
    values = []
    stream = begin(engine(), HI, response_model=Cat, max_retries=1)
    with pytest.raises(error, match=words) as raised:
        values.extend(stream.partials())
    result = stream.result()
    assert getattr(result, "parsed", None) is None
    if error is not allm.UnwrapError:
        response = getattr(result, "response", None) or getattr(result, "final_response", None) or result
        assert raised.value == response.metadata["error"]

    async def awaited():
        kind = {"stream": "stream", "stream_generate": "stream_generate", "stream_step": "stream_step"}
        stream = getattr(allm.aio, kind[begin.__name__])(engine(), HI, response_model=Cat, max_retries=1)
        return [value async for value in stream.partials()]

    with pytest.raises(error, match=words):
        asyncio.run(awaited())


@pytest.mark.parametrize("begin", [allm.stream_generate, allm.stream])
def test_the_types_code_runs_once_and_not_in_the_reader(begin):
    threads = []

    @dataclass
    class Slow:
        name: str

        def __post_init__(self):
            threads.append(threading.current_thread())

    async def awaited():
        aio = getattr(allm.aio, begin.__name__)
        return [value async for value in aio(says('{"name": "x"}'), HI, response_model=Slow).partials()]

    whole = list(begin(says('{"name": "x"}'), HI, response_model=Slow).partials())
    assert [value.name for value in (whole[-1], asyncio.run(awaited())[-1])] == ["x", "x"]
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_a_type_that_leaves_the_program_ends_no_reader():
    @dataclass
    class Leaves:
        name: str

        def __post_init__(self):
            raise SystemExit(3)

    events = list(allm.stream_generate(says('{"name": "x"}'), HI))
    assert [value.name for value in allm.partials(events, Leaves)] == ["x"]
    with pytest.raises(allm.ValidationError):
        list(allm.stream_generate(says('{"name": "x"}'), HI, response_model=Leaves).partials())


def test_partial_values_of_a_type_that_the_call_did_not_ask_for():
    assert list(allm.stream_generate(says(GOOD), HI).partials(Cat))[-1] == Cat("Ash", 3)
    with pytest.raises(allm.ValidationError, match="does not fit"):
        list(allm.stream_generate(says(BAD), HI).partials(Cat))


def test_partial_values_of_a_call_that_is_left_or_halts_end_quietly():
    stream = allm.stream_generate(says('{"name": "A|sh", "a|ge": 3|1}'), HI, response_model=Cat)
    values = stream.partials()
    for value in values:
        assert value == Cat("A", None)
        stream.close()
    assert list(values) == []

    @allm.tool
    def ask():
        return allm.AskUser("Which cat?")

    asks = [script.text('{"name": "A'), script.tool_call("ask"), script.finish("tool_calls")]
    engine = allm.Engine(adapter="fake", tools=[ask], adapter_opts={"script": asks})
    stream = allm.stream(engine, HI, response_model=Cat)
    assert list(stream.partials()) == [Cat("A", None)]
    assert stream.result().halted_reason == "ask_user"


def test_partial_values_of_a_turn_that_is_cancelled_while_its_type_is_at_work_end_quietly():
    reading, go_on = threading.Event(), threading.Event()

    @dataclass
    class Waits:
        name: str

        def __post_init__(self):
            assert threading.current_thread() is not threading.main_thread()
            reading.set()
            go_on.wait(SOON)

    with allm.Host() as host:
        session = host.session("s", says('{"name": "x"}'))
        canceller = threading.Thread(target=lambda: reading.wait(SOON) and session.cancel())
        canceller.start()
        try:
            turn = session.reply("A cat?", response_model=Waits)
            assert [value.name for value in turn.partials()] == ["x"]
        finally:
            go_on.set()
            canceller.join()
        assert session.value.thread.last.content == '{"name": "x"}'


def test_partial_values_of_an_answer_that_does_not_fit_and_that_halts_end_quietly():
    stream = allm.stream(says('{"name": 3}', GOOD), HI, response_model=Cat, halt_when=lambda _step: True)
    assert [value.age for value in stream.partials()] == [None]
    assert stream.result().halted_reason == "halt_when"


@pytest.mark.parametrize("cut", ["", "|"])
def test_a_markdown_fence_around_the_answer_is_no_reason_to_ask_again(cut):
    fenced = f"```{cut}js{cut}on{cut}\n{GOOD}{cut}\n`{cut}``"
    stream = allm.stream_generate(says(fenced), HI, response_model=Cat, max_retries=0)
    assert list(stream.partials())[-1] == stream.result().parsed == Cat("Ash", 3)


def test_what_never_fits_is_an_error_in_the_response():
    response = allm.generate(says(BAD, BAD), HI, response_model=Cat, max_retries=1)
    assert response.finish_reason == "error"
    assert response.parsed is None
    with pytest.raises(allm.ValidationError, match="even after 1 retry") as caught:
        allm.unwrap(response)
    assert caught.value.reason == "invalid_response"


def test_a_session_remembers_what_was_said():
    with allm.Host() as host:
        session = host.session("s", says(BAD, GOOD))
        result = session.reply("A cat?", response_model=Cat).result()
        assert result.final_response.parsed == Cat("Ash", 3)
        assert [message.role for message in session.messages] == ["user", "assistant", "user", "assistant"]
        assert session.status == "completed"


def test_a_types_code_runs_where_it_may_block_and_what_it_raises_is_data():
    threads = []

    @dataclass
    class Odd:
        name: str

        def __post_init__(self):
            threads.append(threading.current_thread())
            if self.name == "crash":
                raise KeyError("mine")
            if self.name == "wrong":
                raise ValueError("not that name")

    response = allm.generate(says('{"name": "wrong"}', '{"name": "x"}'), HI, response_model=Odd)
    assert response.parsed.name == "x"
    assert threading.main_thread() not in threads
    broken = allm.generate(says('{"name": "crash"}'), HI, response_model=Odd)
    assert "Odd cannot be made: its own code raised KeyError" in str(broken.metadata["error"])


def test_the_engines_model_and_the_calls_format():
    engine = says(GOOD, GOOD, GOOD, GOOD, params={"response_model": Cat})
    assert allm.generate(engine, HI).parsed == Cat("Ash", 3)
    assert allm.generate(engine, HI, response_format={"type": "json_object"}).parsed is None
    for own in ("text", {"type": "json_object"}):
        sent = []
        response = allm.generate(
            engine.merge(adapter_opts={"record": sent}), allm.request(HI, response_format=own)
        )
        assert (response.text(), response.parsed) == (GOOD, None)
        assert sent[0].request.response_format == own


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"response_model": Cat, "response_format": {"type": "json_object"}}, "one of the two"),
        ({"max_retries": 2}, "does nothing without response_model"),
        ({"response_model": int}, "not an object in JSON"),
        ({"response_model": {"type": "object"}}, "must be a type"),
    ],
)
def test_what_cannot_work_is_refused(options, words):
    with pytest.raises(TypeError, match=words):
        allm.chat(says(GOOD), HI, **options)
    own = allm.request(HI, response_format={"type": "json_object"})
    with pytest.raises(TypeError, match="remove response_format from the request"):
        allm.generate(says(GOOD), own, response_model=Cat)
    with pytest.raises(ValueError, match="max_retries must be"):
        allm.chat(says(GOOD), HI, response_model=Cat, max_retries=-1)


def test_over_the_wire():
    answers = iter([Reply(chunks=chat_completions(text=text)) for text in (BAD, GOOD)])
    with LoopbackServer(lambda _: next(answers)) as server:
        opts = {"base_url": server.url + "/v1"}
        engine = allm.Engine(adapter="openai:gpt-4.1-mini", adapter_opts=opts)
        response = allm.generate(engine, HI, response_model=Cat, api_key="k")
        first, second = (request.json for request in server.requests)
    assert response.parsed == Cat("Ash", 3)
    assert first["response_format"]["json_schema"]["name"] == "Cat"
    assert second["messages"][:1] == first["messages"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("finalize", [False, True])
def test_over_the_wire_beside_tools_where_no_format_goes_with_them(finalize):
    @allm.tool
    def look(where: str) -> str:
        """Looks."""
        return "a cat"

    call = allm.ToolCall(id="c1", name="look", arguments={"where": "here"})
    choice = {"index": 0, "message": {"role": "assistant", "content": GOOD}, "finish_reason": "stop"}
    whole = Reply(body=json.dumps({"choices": [choice]}).encode())
    texts = (
        [Reply(chunks=chat_completions(text="A cat.")), whole]
        if finalize
        else [Reply(chunks=chat_completions(text=GOOD))]
    )
    answers = iter([Reply(chunks=chat_completions(tool_calls=[call])), *texts])
    with LoopbackServer(lambda _: next(answers)) as server:
        opts = {"base_url": server.url + "/v1"}
        engine = allm.Engine(adapter="groq:openai/gpt-oss-20b", tools=[look], adapter_opts=opts)
        stream = allm.stream(engine, HI, response_model=Cat, structured_finalize=finalize, api_key="k")
        values, result = list(stream.partials()), stream.result()
        first, second, *last = (request.json for request in server.requests)
    assert result.parsed == values[-1] == Cat("Ash", 3)
    for wire in (first, second):
        assert wire["stream"] is True
        assert "response_format" not in wire
        assert [tool["function"]["name"] for tool in wire["tools"]] == ["look"]
        assert ("JSON schema" in wire["messages"][0]["content"]) is not finalize
    assert [(wire["stream"], "tools" in wire) for wire in last] == [(False, False)] * finalize
    assert all(wire["response_format"]["json_schema"]["name"] == "Cat" for wire in last)


def slow_type():
    """A type whose own code works until it is released; with what says that it does, and what releases it."""
    working, release = threading.Event(), threading.Event()

    @dataclass
    class Slow:
        name: str

        def __post_init__(self):
            working.set()
            release.wait(SOON)

    return Slow, working, release


def test_a_reader_that_leaves_while_the_type_works():
    slow, working, release = slow_type()
    with allm.Host() as host:
        session = host.session("s", says('{"name": "x"}', GOOD))
        turn = session.reply("hi", response_model=slow)
        reader = threading.Thread(target=turn.result)
        reader.start()
        assert working.wait(SOON)
        turn.close()
        reader.join(SOON)
        release.set()
        assert turn.result().halted_reason == "cancelled"
        assert session.messages[-1].content == '{"name": "x"}'
        assert session.reply("and now?").result().halted_reason == "completed"


def test_a_session_that_is_killed_while_the_type_works_has_the_answer_that_was_shown(tmp_path):
    slow, working, release = slow_type()
    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", says('{"name": "x"}', GOOD))
        turn = session.reply("hi", response_model=slow)
        shown = []
        reader = threading.Thread(target=lambda: shown.extend(turn))
        reader.start()
        assert working.wait(SOON)
        exit_process(host.system.whereis(("sessions", "s")), "kill")
        reader.join(SOON)
        release.set()
        assert any(isinstance(event, allm.MessageCompleted) for event in shown)
        assert turn.result().halted_reason == "error"
        assert session.messages[-1].content == '{"name": "x"}'
        session.recover()
        assert session.reply("and now?").result().text() == GOOD
