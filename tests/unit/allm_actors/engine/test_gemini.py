"""What Gemini is sent, and what is made of its answers where no recording shows it."""

import json

import pytest

from allm_actors.data import (
    AdapterError,
    EngineError,
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    Request,
    TextPart,
    Tool,
    ToolCall,
    ToolCallCompleted,
    ValidationError,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.gemini.arguments import PartialArguments
from allm_actors.engine.dialects.gemini.chat import DIALECT
from allm_actors.engine.dialects.gemini.request import too_large
from allm_actors.engine.remote.options import base_url_of, refuse_unknown
from allm_actors.engine.wire import HttpAnswer

ROW = PROVIDERS["gemini"]


def http(*messages, model="gemini-2.5-flash", **fields):
    request = Request(messages=list(messages) or [user("hi")], model=model, **fields)
    return DIALECT.encode(request, ROW, "https://x/v1beta")


def sent(*messages, **fields):
    return json.loads(http(*messages, **fields).body)


def user(content):
    return Message(role="user", content=content)


def answer(*calls, text="", **metadata):
    return Message(role="assistant", content=text, metadata={"tool_calls": list(calls), **metadata})


def result(call_id, content):
    return Message(role="tool", content=content, tool_call_id=call_id)


def tool(schema):
    return Tool(name="look", description="Looks.", schema=schema)


def stream(*responses):
    decoder = DIALECT.decoder(ROW)
    return decoder.feed(b"".join(b"data: %b\n\n" % json.dumps(r).encode() for r in responses)) + decoder.end()


def response(*parts, finish=None, **fields):
    candidate = {"content": {"role": "model", "parts": list(parts)}}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], **fields}


def begun(name, x):
    first = [{"jsonPath": "$.x", "numberValue": x}]
    return {"functionCall": {"name": name, "willContinue": True, "partialArgs": first}}


class TestVertex:
    def test_the_place_is_in_the_url(self, monkeypatch):
        monkeypatch.delenv("VERTEX_BASE_URL", raising=False)
        monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "europe-west4")
        monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
        row = PROVIDERS["vertex"]
        assert base_url_of(row, {"project": "example.com:p-1"}) == (
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/example.com:p-1/locations/europe-west4/publishers/google"
        )
        assert base_url_of(row, {"project": "p", "region": "global"}) == (
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google"
        )
        for region in ("us", "eu"):
            assert base_url_of(row, {"project": "p", "region": region}) == (
                f"https://aiplatform.{region}.rep.googleapis.com/v1/projects/p/locations/{region}/publishers/google"
            )
        with pytest.raises(EngineError, match=r"my-project.* or GOOGLE_CLOUD_PROJECT"):
            base_url_of(row, {})
        with pytest.raises(EngineError, match="region"):
            base_url_of(row, {"project": "p", "region": "evil.example/"})

    def test_an_option_of_a_place_that_a_provider_does_not_have_is_refused(self):
        with pytest.raises(TypeError, match="has a project, which gemini does not take"):
            refuse_unknown(PROVIDERS["gemini"], {"project": "p"})


class TestEncode:
    def test_a_plain_question(self):
        assert http().url == "https://x/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
        assert sent() == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}

    def test_a_models_name_cannot_leave_its_place_in_the_url(self):
        assert "/models/a%2F..%2Fb%3Fc:stream" in http(model="a/../b?c").url

    def test_calls_go_back_with_their_ids_but_not_with_ours_and_results_in_a_row_are_one_message(self):
        theirs = ToolCall(id="t", name="look", arguments={"x": 1}, metadata={"thoughtSignature": "s"})
        ours = ToolCall(id="o", name="look", arguments={}, metadata={"synthetic_id": True})
        contents = sent(user("hi"), answer(theirs, ours, text="so"), result("t", "a"), result("o", "b"))[
            "contents"
        ]
        assert contents[1]["parts"] == [
            {"text": "so"},
            {"functionCall": {"name": "look", "args": {"x": 1}, "id": "t"}, "thoughtSignature": "s"},
            {"functionCall": {"name": "look", "args": {}}},
        ]
        assert contents[2] == {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"output": "a"}, "id": "t"}},
                {"functionResponse": {"name": "look", "response": {"output": "b"}}},
            ],
        }

    def test_a_call_of_another_provider_is_marked_where_signatures_are_wanted(self):
        call = ToolCall(id="t", name="look", arguments={})
        thread = (user("hi"), answer(call), result("t", "a"))
        assert "thoughtSignature" not in sent(*thread)["contents"][1]["parts"][0]
        part = sent(*thread, model="gemini-3-pro-preview")["contents"][1]["parts"][0]
        assert part["thoughtSignature"] == "skip_thought_signature_validator"

    def test_an_answer_without_a_call_is_refused(self):
        with pytest.raises(ValidationError, match="answers a call that is not in this request"):
            sent(user("hi"), result("t", "a"))

    def test_what_was_kept_goes_back_as_it_came(self):
        parts = [{"text": "hm", "thought": True}, {"functionCall": {"name": "look", "args": {}}}]
        kept = answer(ToolCall(id="t", name="look", arguments={}), provider_state={"gemini": parts})
        assert sent(user("a"), kept, result("t", "x"))["contents"][1]["parts"] == parts
        cut = answer(text="so", provider_state={"gemini": parts})
        assert sent(user("a"), cut, user("b"))["contents"][1]["parts"] == parts[:1]

    def test_with_a_call_taken_out_the_others_are_there(self):
        parts = [
            {"text": "hm", "thought": True},
            {"functionCall": {"name": "look", "args": {"x": 1}}, "thoughtSignature": "s"},
            {"functionCall": {"name": "look", "args": {"x": 2}}},
        ]
        left = ToolCall(id="t", name="look", arguments={"x": 2}, metadata={"synthetic_id": True})
        kept = answer(left, provider_state={"gemini": parts})
        contents = sent(user("a"), kept, result("t", "x"), model="gemini-3-pro")["contents"]
        assert contents[1]["parts"][0] == parts[0]
        assert [part["functionCall"]["args"] for part in contents[1]["parts"][1:]] == [{"x": 2}]
        assert len(contents[2]["parts"]) == 1

    def test_what_a_model_says_in_a_row_is_one_content(self):
        call = ToolCall(id="t", name="look", arguments={})
        said = Message(role="assistant", content="Let me look.")
        contents = sent(user("a"), said, answer(call), result("t", "x"))["contents"]
        assert [content["role"] for content in contents] == ["user", "model", "user"]
        assert [next(iter(part)) for part in contents[1]["parts"]] == ["text", "functionCall"]

    @pytest.mark.parametrize(
        ("schema", "plain"),
        [
            ({"type": "string", "format": "uuid"}, False),
            ({"type": "string", "format": "date-time"}, True),
            ({"type": "integer", "format": "int64"}, True),
            ({"type": "integer", "format": "uint8"}, False),
            ({"format": "date"}, False),
            ({"type": "integer", "enum": [1, 2]}, False),
            ({"type": "string", "enum": ["a", "b"]}, True),
            ({"type": "string", "enum": ["a", None]}, False),
            ({"enum": ["a"]}, False),
            ({}, False),
            ({"type": "object"}, False),
            ({"type": "object", "additionalProperties": {"type": "string"}}, False),
            (
                {"type": "object", "properties": {"y": {"type": "string"}}, "additionalProperties": False},
                True,
            ),
            ({"type": "array", "items": {"type": "string"}}, True),
            ({"type": "array", "items": {"type": "object"}}, False),
            ({"type": "array"}, False),
            ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, False),
            ({"description": "c or f", "anyOf": [{"type": "string"}, {"type": "null"}]}, False),
        ],
    )
    def test_what_the_plain_field_refuses_or_forgets_goes_to_the_other(self, schema, plain):
        whole = {"type": "object", "properties": {"x": schema}}
        declared = sent(tools=[tool(whole)])["tools"][0]["functionDeclarations"][0]
        assert ("parameters" in declared) is plain
        if not plain:
            assert declared["parametersJsonSchema"] == whole

    def test_a_tool_without_arguments_has_a_plain_schema(self):
        schema = {"type": "object", "properties": {}}
        declared = sent(tools=[tool(schema)])["tools"][0]["functionDeclarations"][0]
        assert declared["parameters"] == schema

    def test_blank_texts_are_left_out(self):
        picture = ImagePart(image=Image.from_bytes(b"\1", "image/png"))
        contents = sent(user(""), user([TextPart(text=" "), picture]), user("hi"))["contents"]
        assert [list(part) for content in contents for part in content["parts"]] == [["inlineData"], ["text"]]
        with pytest.raises(ValidationError, match="needs at least one message with content"):
            sent(user(" "))

    def test_pictures(self):
        parts = [TextPart(text="what?"), ImagePart(image=Image.from_bytes(b"\1\2", "image/png"))]
        assert sent(user(parts))["contents"][0]["parts"] == [
            {"text": "what?"},
            {"inlineData": {"mimeType": "image/png", "data": "AQI="}},
        ]

    @pytest.mark.parametrize(("name", "label"), [("gemini", "Gemini"), ("vertex", "Vertex AI")])
    def test_a_picture_by_url_is_refused_in_the_name_of_the_provider(self, name, label):
        asked = Request(messages=[user([ImagePart(image=Image.from_url("https://y/z.png"))])], model="m")
        with pytest.raises(AdapterError, match=f"^{label} takes no picture by URL") as refused:
            DIALECT.encode(asked, PROVIDERS[name], "https://x")
        assert (refused.value.reason, refused.value.provider) == ("unsupported_feature", name)

    def test_a_schema_goes_where_its_words_are_understood(self):
        plain = {
            "type": "object",
            "properties": {"additionalProperties": {"type": "string"}},
            "additionalProperties": False,
        }
        (declared,) = sent(tools=[tool(plain)])["tools"][0]["functionDeclarations"]
        assert declared["parameters"] == {
            "type": "object",
            "properties": {"additionalProperties": {"type": "string"}},
        }
        full = {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "$defs": {"A": {"type": "string"}},
        }
        (declared,) = sent(tools=[tool(full)])["tools"][0]["functionDeclarations"]
        assert (declared["parametersJsonSchema"], "parameters" in declared) == (full, False)

    @pytest.mark.parametrize(
        ("choice", "wire"),
        [
            ("auto", {"mode": "AUTO"}),
            ("none", {"mode": "NONE"}),
            ("required", {"mode": "ANY"}),
            ("look", {"mode": "ANY", "allowedFunctionNames": ["look"]}),
            ({"mode": "VALIDATED"}, {"mode": "VALIDATED"}),
            ({"functionCallingConfig": {"mode": "VALIDATED"}}, {"mode": "VALIDATED"}),
        ],
        ids=str,
    )
    def test_tool_choice(self, choice, wire):
        body = sent(tools=[tool({"type": "object"})], tool_choice=choice)
        assert body["toolConfig"] == {"functionCallingConfig": wire}

    def test_options_are_generation_config_unless_they_are_fields_of_the_request(self):
        wanted = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
        options = {
            "top_k": 3,
            "thinkingConfig": {"thinkingBudget": 0},
            "safetySettings": [1],
            "model": "other",
        }
        body = sent(response_format=wanted, temperature=0.5, max_tokens=9, options=options)
        assert body["generationConfig"] == {
            "maxOutputTokens": 9,
            "temperature": 0.5,
            "responseMimeType": "application/json",
            "responseSchema": {"type": "object"},
            "topK": 3,
            "thinkingConfig": {"thinkingBudget": 0},
        }
        assert (body["safetySettings"], "model" in body) == ([1], False)
        assert "/models/other:" in http(options=options).url

    def test_fields_of_its_own_are_added_to_ours_and_go_over_them(self):
        options = {"generationConfig": {"temperature": 1, "seed": 7}, "topP": 0.5}
        body = sent(temperature=0.5, max_tokens=9, options=options)
        assert body["generationConfig"] == {"maxOutputTokens": 9, "temperature": 1, "topP": 0.5, "seed": 7}
        look = tool({"type": "object"})
        told = sent(tools=[look], tool_choice="auto", options={"toolConfig": {"retrievalConfig": {}}})
        assert told["toolConfig"] == {"functionCallingConfig": {"mode": "AUTO"}, "retrievalConfig": {}}
        assert sent(temperature=0.5, options={"generationConfig": None})["generationConfig"] is None

    def test_what_is_about_the_whole_request_is_at_its_top_level(self):
        about = {"continuationToken": "dG9r", "serviceTier": "flex", "store": False}
        body = sent(options=about)
        assert about.items() <= body.items()
        assert "generationConfig" not in body

    def test_files_that_are_too_large_together_are_refused(self):
        picture = Image.from_bytes(b"x" * (19 * 1024 * 1024), "image/png")
        shown = Message(role="user", content=[ImagePart(image=picture)])
        with pytest.raises(AdapterError, match=r"100 MB .* this one has 106\.3 MB; send fewer") as caught:
            http(shown, shown, shown, shown)
        assert (caught.value.reason, caught.value.metadata["max"]) == ("invalid_request", 100_000_000)
        assert too_large(bytes(101_000_000), "Gemini") is None  # no files
        file = b'"inlineData"'
        assert too_large(file + bytes(100_000_000 - len(file)), "Gemini") is None
        assert too_large(file + bytes(100_000_001 - len(file)), "Gemini") is not None


class TestDecode:
    def test_counts_of_tokens_may_come_after_the_finish(self):
        late = {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}}
        last = stream(response({"text": "hi"}, finish="STOP"), late)[-1]
        assert isinstance(last, MessageCompleted)
        assert last.metadata["usage"].total_tokens == 5

    @pytest.mark.parametrize(
        ("finish", "word"),
        [
            ("CONTINUATION", "length"),
            ("MAX_TOKENS", "length"),
            *[(word, "content_filter") for word in ("ESCALATION", "PUP_LIMITED_DISABLED", "SAFETY")],
            ("SOMETHING_NEW", "other"),
        ],
    )
    def test_why_an_answer_ends(self, finish, word):
        last = stream(response({"text": "so"}, finish=finish))[-1]
        assert (last.finish_reason, last.metadata["raw_finish_reason"]) == (word, finish)

    def test_the_token_to_go_on_with_is_kept(self):
        end = response({"text": "so"}, finish="CONTINUATION")
        end["candidates"][0]["continuationToken"] = "dG9r"
        assert stream(end)[-1].metadata["continuationToken"] == "dG9r"

    def test_equal_calls_have_ids_of_their_own(self):
        call = {"functionCall": {"name": "look", "args": {"x": 1}}}
        events = stream(response(call, call, finish="STOP", responseId="r"))
        assert [e.id for e in events if isinstance(e, ToolCallCompleted)] == ["call_r_0", "call_r_1"]

    def test_a_blocked_prompt(self):
        last = stream(
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
        )[-1]
        assert isinstance(last, ErrorEvent)
        assert (last.error.reason, "SAFETY" in last.error.message) == ("content_filter", True)
        assert last.error.metadata["block_reason"] == "SAFETY"

    @pytest.mark.parametrize(
        ("finish", "reason"),
        [("SAFETY", "content_filter"), ("MAX_TOKENS", "length"), ("NO_IMAGE", "other")],
    )
    def test_how_it_ends(self, finish, reason):
        last = stream(response({"text": "hi"}, finish=finish))[-1]
        assert (last.finish_reason, last.metadata["raw_finish_reason"]) == (reason, finish)

    def test_a_call_that_the_provider_could_not_read_is_an_error(self):
        last = stream(response({"text": "hi"}, finish="MALFORMED_FUNCTION_CALL"))[-1]
        assert (last.error.reason, "MALFORMED_FUNCTION_CALL" in last.error.message) == (
            "malformed_response",
            True,
        )

    def test_an_error_in_the_stream(self):
        error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}
        last = stream(response({"text": "hi"}), error)[-1]
        assert (last.error.reason, last.error.status) == ("provider_unavailable", 503)

    @pytest.mark.parametrize(
        ("status", "error", "reason"),
        [
            (400, {"status": "INVALID_ARGUMENT", "message": "no"}, "invalid_request"),
            (
                400,
                {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]},
                "authentication_failed",
            ),
            (
                400,
                {"message": "The input token count (2) exceeds the maximum number of tokens"},
                "context_length_exceeded",
            ),
            (403, {"status": "PERMISSION_DENIED"}, "authentication_failed"),
            (429, {"status": "RESOURCE_EXHAUSTED"}, "rate_limited"),
        ],
    )
    def test_a_refusal(self, status, error, reason):
        body = json.dumps({"error": {"code": status, **error}}).encode()
        assert DIALECT.decode_error(HttpAnswer(status=status, body=body), ROW).reason == reason


class TestPartialArguments:
    def test_values_find_their_places(self):
        arguments = PartialArguments()
        arguments.add(
            [
                {"jsonPath": "$.a.b[0]", "stringValue": "x", "willContinue": True},
                {"jsonPath": "$.a.b[0]", "stringValue": "y"},
                {"jsonPath": "$.a.b[1].c", "numberValue": 2},
                {"jsonPath": "$['d']", "nullValue": None},
                {"jsonPath": "$.e", "stringValue": "not over", "willContinue": True},
            ]
        )
        assert arguments.finish() == {"a": {"b": ["xy", {"c": 2}]}, "d": None, "e": "not over"}

    @pytest.mark.parametrize(("before", "id"), [("other", "abc123"), ("abc123", "abc123_1")])
    def test_a_call_whose_arguments_come_in_pieces_keeps_its_id(self, before, id):
        begun = {"functionCall": {"name": "f", "id": "abc123", "willContinue": True}, "thoughtSignature": "s"}
        piece = {"functionCall": {"partialArgs": [{"jsonPath": "$.x", "numberValue": 1}]}}
        chunks = [
            {"candidates": [{"content": {"parts": [begun]}}]},
            {"candidates": [{"content": {"parts": [piece]}, "finishReason": "STOP"}]},
        ]
        decoder = DIALECT.decoder(ROW)
        decoder.follow([result(before, "seen")])
        events = [each for one in chunks for each in decoder.feed(b"data: %b\n\n" % json.dumps(one).encode())]
        message = (events + decoder.end())[-1].message
        (part,) = message.metadata["provider_state"]["gemini"]
        assert part == {
            "functionCall": {"name": "f", "id": id, "args": {"x": 1}},
            "thoughtSignature": "s",
        }
        assert message.tool_calls[0].id == id

    def test_a_call_whose_arguments_never_ended_ends_where_the_next_begins(self):
        a, b = (begun(name, number) for name, number in (("a", 1), ("b", 2)))
        events = stream(response(a), response(b, finish="STOP"))
        done = [(e.name, e.arguments) for e in events if isinstance(e, ToolCallCompleted)]
        assert done == [("a", {"x": 1}), ("b", {"x": 2})]

    def test_arguments_that_came_with_the_beginning_are_there_beside_those_that_follow(self):
        rest = {"functionCall": {"partialArgs": [{"jsonPath": "$.y", "numberValue": 2}]}}
        events = stream(response(begun("a", 1)), response(rest, finish="STOP"))
        assert [e.arguments for e in events if isinstance(e, ToolCallCompleted)] == [{"x": 1, "y": 2}]

    def test_a_path_without_end_changes_nothing(self):
        arguments = PartialArguments()
        arguments.add(
            [{"jsonPath": "$" + ".a" * 5000, "numberValue": 1}, {"jsonPath": "$.b", "numberValue": 2}]
        )
        assert arguments.finish() == {"b": 2}

    @pytest.mark.parametrize("path", ["", "$", "$..a", "$[7]", "$.a[999999]", "a b[", 7])
    def test_a_path_that_makes_no_sense_changes_nothing(self, path):
        arguments = PartialArguments()
        arguments.add([{"jsonPath": path, "numberValue": 1}])
        assert arguments.finish() in ({}, {"a": []})


def test_an_answer_to_a_call_that_nobody_made_is_refused_by_name():
    with pytest.raises(ValidationError) as refused:
        http(user("hi"), result("c9", "late"))
    assert refused.value.errors == [("messages", "answer_without_call")]
    assert "'c9'" in refused.value.message


def test_what_says_nothing_stands_between_no_messages():
    calls = [ToolCall(id=name, name="look", arguments={}) for name in ("a", "b")]
    asks = Message(role="assistant", content="", metadata={"tool_calls": calls})
    results = [Message(role="tool", content="x", tool_call_id=call.id) for call in calls]
    said, nothing = (Message(role="assistant", content=text) for text in ("so", ""))
    contents = sent(user("?"), said, user([]), asks, results[0], nothing, results[1])["contents"]
    assert [(each["role"], len(each["parts"])) for each in contents] == [
        ("user", 1),
        ("model", 3),
        ("user", 2),
    ]
