"""What OpenAI's responses are asked for, and what is made of their events where no recording shows it."""

import json

import pytest

from allm_actors.data import (
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    RawChunk,
    Request,
    StreamError,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ValidationError,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.openai.responses import DIALECT
from tests.conformance.traffic import thoughts

ROW = PROVIDERS["openai"]
TOOL = Tool(name="look", description="Looks.", schema={"type": "object"})
SCHEMA = {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": True}


def sent(*messages, row=ROW, model="gpt-4o", **fields):
    request = Request(messages=list(messages) or [user("hi")], model=model, **fields)
    http = DIALECT.encode(request, row, "https://x")
    assert http.url == "https://x/responses"
    return json.loads(http.body)


def user(content):
    return Message(role="user", content=content)


def answer(*calls, text="", **metadata):
    return Message(role="assistant", content=text, metadata={"tool_calls": list(calls), **metadata})


def stream(*events):
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    decoder = DIALECT.decoder(ROW)
    return decoder.feed("".join(lines).encode()) + decoder.end()


def raw(events):
    return [e.payload for e in events if isinstance(e, RawChunk)]


def event(kind, **fields):
    return {"type": f"response.{kind}", **fields}


@pytest.mark.parametrize("effort", ["none", "xhigh", "max"])
def test_efforts(effort):
    assert sent(model="gpt-6-luna", options={"reasoning_effort": effort})["reasoning"] == {"effort": effort}


@pytest.mark.parametrize(
    ("model", "options", "takes"),
    [
        ("gpt-4o", {}, True),
        ("gpt-6-luna", {}, False),
        ("gpt-6-luna", {"reasoning_effort": "none"}, True),
        ("gpt-6-luna", {"reasoning": {"effort": "none"}}, True),
        ("gpt-5.4", {}, True),
        ("gpt-5.4", {"reasoning": {"effort": "high"}}, False),
        ("gpt-5.4", {"reasoning": {"summary": "auto"}}, True),
        ("gpt-4o", {"model": "o3"}, False),
    ],
)
def test_a_model_that_reasons_is_not_told_how_to_sample(model, options, takes):
    wire = sent(model=model, temperature=0.2, options={"top_p": 0.5, **options})
    assert ("temperature" in wire, "top_p" in wire) == (takes, takes)
    elsewhere = sent(row=PROVIDERS["lmstudio"], model=model, temperature=0.2, options=options)
    assert elsewhere["temperature"] == 0.2


def ended(kind="completed", *output, **fields):
    response = {"id": "r", "model": "m", "status": kind, "output": list(output), **fields}
    return event(kind, response=response)


def spoken(text, **fields):
    return {"type": "message", "id": "m1", "content": [{"type": "output_text", "text": text}], **fields}


def called(arguments="{}", number=1, **fields):
    names = {"id": f"fc{number}", "call_id": f"c{number}", "name": "look"}
    return {"type": "function_call", **names, "arguments": arguments, **fields}


class TestEncode:
    def test_a_plain_question(self):
        assert sent(temperature=0.5, max_tokens=9) == {
            "model": "gpt-4o",
            "input": [{"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "max_output_tokens": 9,
            "store": False,
            "stream": True,
        }

    def test_thoughts_are_asked_for_sealed_where_there_are_any(self):
        for model in ("gpt-5", "gpt-5.6-luna", "o3"):
            assert sent(model=model)["include"] == ["reasoning.encrypted_content"]
        for model in ("gpt-4o", "gpt-5-chat-latest", "gpt-5.3-chat"):
            assert "include" not in sent(model=model)
        assert "include" not in sent(model="gpt-5", row=PROVIDERS["xai"])

    def test_tools_are_flat_and_strict_only_when_they_say_so(self):
        strict = Tool(name="b", description="", schema={}, metadata={"strict": True})
        flat = {
            "type": "function",
            "name": "look",
            "description": "Looks.",
            "parameters": {"type": "object", "properties": {}},
        }
        loose, exact = sent(tools=[TOOL, strict])["tools"]
        assert loose == {**flat, "strict": False}
        assert exact["strict"] is True

    @pytest.mark.parametrize(
        ("choice", "wire"),
        [
            ("auto", "auto"),
            ("required", "required"),
            ("look", {"type": "function", "name": "look"}),
            ({"type": "web_search"}, {"type": "web_search"}),
        ],
        ids=str,
    )
    def test_tool_choice(self, choice, wire):
        assert sent(tools=[TOOL], tool_choice=choice)["tool_choice"] == wire

    @pytest.mark.parametrize(
        ("wanted", "wire"),
        [
            ("text", {"type": "text"}),
            ({"type": "json_object"}, {"type": "json_object"}),
            (SCHEMA, SCHEMA),
            ({**SCHEMA, "name": "a city"}, {**SCHEMA, "name": "a_city"}),
        ],
        ids=str,
    )
    def test_response_formats(self, wanted, wire):
        assert sent(response_format=wanted)["text"] == {"format": wire}

    def test_words_go_to_their_places_beside_what_else_is_there(self):
        options = {"reasoning_effort": "low", "reasoning_summary": "auto", "verbosity": "high"}
        body = sent(
            model="gpt-5", response_format="text", options={**options, "reasoning": {"context": "all_turns"}}
        )
        assert body["reasoning"] == {"context": "all_turns", "effort": "low", "summary": "auto"}
        assert body["text"] == {"format": {"type": "text"}, "verbosity": "high"}
        assert not set(options) & set(body)

    @pytest.mark.parametrize(
        ("model", "places"),
        [
            ("gpt-5.1", {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"verbosity": "low"}}),
            ("o3", {"reasoning": {"effort": "low", "summary": "auto"}}),
            ("gpt-5-chat-latest", {}),
            ("gpt-4.1", {}),
        ],
    )
    def test_words_go_only_to_models_that_have_them(self, model, places):
        words = {"reasoning_effort": "low", "reasoning_summary": "auto", "verbosity": "low"}
        body = sent(model=model, options=words)
        assert {name: body[name] for name in ("reasoning", "text") if name in body} == places

    @pytest.mark.parametrize("word", ["reasoning_effort", "reasoning_summary", "verbosity"])
    @pytest.mark.parametrize("value", ["much", 3, ["low"]])
    def test_a_word_that_there_is_not_is_refused(self, word, value):
        with pytest.raises(ValidationError, match=f"{word} must be one of"):
            sent(options={word: value})

    def test_options_have_the_last_word(self):
        body = sent(
            model="gpt-5", options={"store": True, "include": [], "text": {"verbosity": "low"}, "user": "u"}
        )
        assert (body["store"], body["include"], body["user"]) == (True, [], "u")
        assert body["text"] == {"verbosity": "low"}

    def test_prompt_cache(self):
        cache = {"key": "k", "retention": "long"}
        body = sent(prompt_cache=cache)
        assert (body["prompt_cache_key"], body["prompt_cache_retention"]) == ("k", "24h")
        assert "prompt_cache_key" not in sent(prompt_cache=cache, row=PROVIDERS["deepseek"])

    def test_an_answer_calls_and_their_results(self):
        bad = ToolCall(
            id="2", name="look", arguments={}, raw_arguments="{", metadata={"arguments_error": "x"}
        )
        good = ToolCall(id="1", name="look", arguments={"x": 1}, raw_arguments='{"x":  1}')
        result = Message(role="tool", content="seen", tool_call_id="1")
        system = Message(role="system", content="be")
        assert sent(system, user("hi"), answer(good, bad, text="so"), result, answer(), user("and?"))[
            "input"
        ] == [
            {"role": "system", "content": "be"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "so"},
            {"type": "function_call", "call_id": "1", "name": "look", "arguments": '{"x":  1}'},
            {"type": "function_call", "call_id": "2", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "seen"},
            {"role": "user", "content": "and?"},
        ]

    def test_pictures_of_the_users_and_of_a_tools(self):
        parts = [
            TextPart(text="what?"),
            ImagePart(image=Image.from_bytes(b"\1\2", "image/png"), detail="low"),
        ]
        wire = [
            {"type": "input_text", "text": "what?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AQI=", "detail": "low"},
        ]
        result = Message(role="tool", content=parts, tool_call_id="1")
        call = ToolCall(id="1", name="look", arguments={})
        first, _, last = sent(user(parts), answer(call), result)["input"]
        assert (first["content"], last["output"]) == (wire, wire)

    def test_an_assistants_pictures_are_left_out(self):
        parts = [TextPart(text="here"), ImagePart(image=Image.from_url("https://y/z.png"))]
        assert sent(user("a"), Message(role="assistant", content=parts))["input"][1] == {
            "role": "assistant",
            "content": "here",
        }

    def test_what_an_answer_was_made_of_goes_back_as_it_came(self):
        sealed = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
        only_named = {"type": "reasoning", "id": "rs2", "summary": []}
        search = {"type": "web_search_call", "id": "ws", "status": "completed"}
        items = [sealed, only_named, search, spoken("so", phase="commentary"), called(), called(number=2)]
        kept = answer(
            ToolCall(id="c1", name="look", arguments={}), provider_state={"openai_responses": items}
        )
        result = Message(role="tool", content="x", tool_call_id="c1")
        assert sent(user("a"), kept, result)["input"][1:-1] == [sealed, search, items[3], items[4]]
        assert sent(user("a"), kept, result, options={"store": True})["input"][1:-1] == items[:5]

    def test_thoughts_go_back_only_with_what_came_of_them(self):
        first, second = ({"type": "reasoning", "id": n, "encrypted_content": "x"} for n in ("rs1", "rs2"))
        items = [first, called(), second, called(number=2)]
        kept = answer(
            ToolCall(id="c2", name="look", arguments={}), provider_state={"openai_responses": items}
        )
        result = Message(role="tool", content="x", tool_call_id="c2")
        assert sent(user("a"), kept, result)["input"][1:-1] == items[2:]
        cut = answer(provider_state={"openai_responses": [first]})
        assert len(sent(user("a"), cut, user("b"))["input"]) == 2

    def test_arguments_that_were_cut_off_go_back_as_json(self):
        first = {"type": "reasoning", "id": "rs1", "encrypted_content": "x"}
        items = [first, called('{"ci')]
        broken = ToolCall(
            id="c1", name="look", arguments={}, raw_arguments='{"ci', metadata={"arguments_error": "cut off"}
        )
        kept = answer(broken, provider_state={"openai_responses": items})
        told = sent(user("a"), kept, Message(role="tool", content="bad", tool_call_id="c1"))["input"]
        assert told[1:-1] == [first, {**items[1], "arguments": "{}"}]


class TestDecode:
    def test_text_and_calls_that_never_came_in_pieces(self):
        done = [
            event("output_item.done", output_index=0, item=spoken("so")),
            event("output_item.done", output_index=1, item=called('{"x":1}')),
        ]
        for events in (stream(*done, ended()), stream(ended("completed", spoken("so"), called('{"x":1}')))):
            last = events[-1]
            assert [e.delta for e in events if isinstance(e, TextDelta)] == ["so"]
            assert [type(e) for e in events if isinstance(e, ToolCallStarted | ToolCallDelta)] == [
                ToolCallStarted,
                ToolCallDelta,
            ]
            assert (last.finish_reason, last.message.content) == ("tool_calls", "so")
            assert [(c.id, c.arguments) for c in last.message.tool_calls] == [("c1", {"x": 1})]

    def test_an_item_that_nobody_ends_is_what_the_end_says(self):
        begun = [
            event("output_item.added", output_index=0, item=spoken("")),
            event("output_item.added", output_index=1, item=called("")),
        ]
        last = stream(*begun, ended("completed", spoken("so", phase="final_answer"), called('{"x":1}')))[-1]
        assert (last.message.content, last.message.tool_calls[0].arguments) == ("so", {"x": 1})
        kept = last.message.metadata["provider_state"]["openai_responses"]
        assert [item["type"] for item in kept] == ["message", "function_call"]
        assert kept[1]["arguments"] == '{"x":1}'

    def test_arguments_are_what_is_said_in_the_end(self):
        begun = event("output_item.added", output_index=0, item=called(""))
        piece = event("function_call_arguments.delta", item_id="fc1", delta='{"x":')
        for final in ('{"x":1}', '{"y":2}'):
            last = stream(
                begun, piece, event("output_item.done", output_index=0, item=called(final)), ended()
            )[-1]
            assert last.message.tool_calls[0].raw_arguments == final

    def test_fragments_of_a_call_that_nobody_knows_are_dropped_and_its_end_counts(self):
        piece = event("function_call_arguments.delta", item_id="fc1", output_index=0, delta='{"x":1}')
        last = stream(piece, ended("completed", called('{"x":1}')))[-1]
        assert [c.arguments for c in last.message.tool_calls] == [{"x": 1}]

    def test_thoughts_in_parts_are_set_apart(self):
        def part(number, text, index=0):
            return event("reasoning_summary_text.delta", output_index=index, summary_index=number, delta=text)

        events = stream(part(0, "one"), part(0, "!"), part(1, "two"), part(0, "three", 1), ended())
        assert thoughts(events) == "one!\n\ntwo\n\nthree"
        old = event("reasoning_summary.delta", output_index=0, delta="hm")
        assert stream(old, ended())[-1].metadata["reasoning"] == {"text": "hm", "summary": "hm"}

    def test_what_is_known_of_its_reasoning_is_in_the_answer(self):
        item = {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
            "content": [{"type": "reasoning_text", "text": "1, 2"}],
        }
        last = stream(ended("completed", item, reasoning={"effort": "low", "summary": "auto"}))[-1]
        told = {"text": "one\n\ntwo\n\n1, 2", "summary": "one\n\ntwo", "effort": "low"}
        assert last.metadata["reasoning"] == told
        pieces = [
            event("reasoning_summary_text.delta", output_index=0, summary_index=at, delta=text)
            for at, text in enumerate(["one", "two"])
        ]
        said = event("reasoning_text.delta", output_index=0, content_index=0, delta="1, 2")
        assert stream(*pieces, said, ended(reasoning={"effort": "low"}))[-1].metadata["reasoning"] == told
        unasked = ended(reasoning={"effort": None, "summary": None})
        assert "reasoning" not in stream(unasked)[-1].metadata

    def test_thinking_begins_once_and_also_if_none_of_it_is_told(self):
        sealed = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
        begun = event("output_item.added", output_index=2, item=sealed)
        done = event("output_item.done", output_index=2, item=sealed)
        assert raw(stream(begun, done, ended())) == [("thinking_start", {"index": 2})]

    def test_what_is_no_part_of_an_item_is_passed_on(self):
        picture = event("image_generation_call.partial_image", item_id="ig", partial_image_b64="aGk=")
        known = [event(kind) for kind in ("content_part.added", "output_text.done", "reasoning_text.done")]
        events = stream(
            event("created", response={"id": "r"}), *known, picture, {"type": "keepalive"}, ended()
        )
        assert raw(events) == [("unknown_event", picture["type"], picture)]

    @pytest.mark.parametrize("streamed", [True, False])
    def test_a_refusal_is_a_content_filter_with_its_words(self, streamed):
        item = {"type": "message", "id": "m1", "content": [{"type": "refusal", "refusal": "I will not."}]}
        pieces = (
            [event("refusal.delta", output_index=0, delta=d) for d in ("I will", " not.")] if streamed else []
        )
        last = stream(*pieces, event("output_item.done", output_index=0, item=item), ended())[-1]
        assert (last.finish_reason, last.metadata["raw_finish_reason"]) == ("content_filter", "refusal")
        assert last.metadata["refusal"] == "I will not."

    @pytest.mark.parametrize(
        ("reason", "finish", "raw"),
        [
            ("max_output_tokens", "length", "max_output_tokens"),
            ("content_filter", "content_filter", "content_filter"),
            ("max_tool_calls", "other", "max_tool_calls"),
            (None, "other", "incomplete"),
        ],
    )
    def test_an_answer_that_is_incomplete(self, reason, finish, raw):
        details = {"reason": reason} if reason else None
        last = stream(ended("incomplete", spoken("so"), incomplete_details=details))[-1]
        assert isinstance(last, MessageCompleted)
        assert (last.finish_reason, last.metadata["raw_finish_reason"]) == (finish, raw)
        assert last.metadata.get("incomplete_details") == details

    def test_a_call_that_was_cut_off_says_so(self):
        cut = ended("incomplete", called('{"x":'), incomplete_details={"reason": "max_output_tokens"})
        call = stream(cut)[-1].message.tool_calls[0]
        assert (call.raw_arguments, "arguments_error" in call.metadata) == ('{"x":', True)

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("rate_limit_exceeded", "rate_limited"),
            ("insufficient_quota", "rate_limited"),
            ("server_error", "provider_unavailable"),
            ("vector_store_timeout", "timeout"),
            ("invalid_prompt", "invalid_request"),
            ("context_length_exceeded", "context_length_exceeded"),
            ("cyber_policy_violation", "content_filter"),
            ("something_new", "unknown"),
        ],
    )
    def test_errors_in_all_their_shapes(self, code, reason):
        said = {"code": code, "message": "it says"}
        shapes = [
            {"type": "error", "error": said},
            {"type": "error", **said},
            {"type": "response.error", **said},
            ended("failed", error=said),
            event("something", error=said),
        ]
        for shape in shapes:
            events = stream(event("output_text.delta", output_index=0, delta="so"), shape)
            assert isinstance(events[-1], ErrorEvent)
            assert (events[-1].error.reason, "it says" in events[-1].error.message) == (reason, True)

    def test_a_failure_tells_its_usage_first(self):
        usage = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
        first, last = stream(ended("failed", error={"code": "server_error", "message": "no"}, usage=usage))
        assert first.payload == ("usage", usage)
        assert isinstance(last, ErrorEvent)

    def test_usage_that_was_told_before_the_end_counts_if_the_end_tells_none(self):
        so_far = event("in_progress", response={"id": "r", "usage": {"input_tokens": 3}})
        assert stream(so_far, ended())[-1].metadata["usage"].input_tokens == 3

    def test_a_whole_body_that_is_no_answer(self):
        def last(**body):
            return DIALECT.decode_body(json.dumps(body).encode(), ROW)[-1]

        assert (
            last(status="failed", output=[], error={"code": "server_error", "message": "no"}).error.reason
            == "provider_unavailable"
        )
        assert last(status="cancelled", output=[]).error.reason == "provider_unavailable"
        assert last(error={"code": "invalid_prompt", "message": "no"}).error.reason == "invalid_request"
        assert last(id="r").error.reason == "malformed_response"
        queued = last(id="r", status="queued", output=[])
        assert (queued.finish_reason, queued.metadata["raw_finish_reason"]) == (None, "queued")

    def test_the_end_before_the_response_is_over_is_an_error(self):
        last = stream(event("output_text.delta", output_index=0, delta="so"))[-1]
        assert (last.error.reason, last.error.metadata) == ("network_error", {"partial": True})
        decoder = DIALECT.decoder(ROW)
        assert decoder.feed(b"data: [DONE]\n\n") == []
        assert decoder.end()[-1].error.reason == "network_error"

    def test_what_is_no_json_object_is_malformed(self):
        decoder = DIALECT.decoder(ROW)
        assert isinstance(decoder.feed(b"data: [1]\n\n")[-1].error, StreamError)

    def test_citations_that_only_came_by_themselves(self):
        note = {"type": "url_citation", "url": "https://y"}
        added = event("output_text.annotation.added", output_index=0, annotation=note)
        assert stream(added, ended("completed", spoken("so")))[-1].metadata["citations"] == [note]

    def test_the_name_of_the_event_counts_where_the_json_has_none(self):
        decoder = DIALECT.decoder(ROW)
        said = decoder.feed(b'event: response.output_text.delta\ndata: {"delta":"so"}\n\n')
        assert said == [TextDelta("so")]
