"""What a model is known not to do is refused, all at once, and what nobody knows is allowed."""

import json

import pytest

from allm_actors.data import (
    AdapterError,
    Document,
    DocumentPart,
    EmbeddingRequest,
    EngineError,
    Image,
    ImagePart,
    ImageRequest,
    Message,
    ModelRef,
    Request,
    Tool,
    ValidationError,
)
from allm_actors.data.build import json_schema
from allm_actors.engine import Engine
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.preflight import (
    check_capabilities,
    check_format,
    in_common_words,
    with_finalize,
    without_foreign_words,
)
from allm_actors.engine.resolve import resolve_model, resolve_model_ref

PICTURE = Message(role="user", content=[ImagePart(image=Image.from_url("https://x/y.png"))])
PAPER = Message(role="user", content=[DocumentPart(document=Document.from_url("https://x/y.pdf"))])
EVERYTHING = Request(
    messages=[PICTURE, PAPER],
    tools=[Tool(name="t", description="", schema={})],
    response_format=json_schema("a", {"type": "object"}),
)
NOTHING = {"tools": {"enabled": False}, "json_native": False, "vision": False, "documents": False}
SAME = {"tools": False} | {name: {"enabled": False} for name in ("json_native", "vision", "documents")}


@pytest.mark.parametrize("able", [NOTHING, SAME], ids=["off", "not enabled"])
def test_all_refusals_are_listed(able):
    with pytest.raises(
        ValidationError, match=r"^model does not support requested capabilities: .* \(m\)"
    ) as caught:
        check_capabilities(ModelRef(id="m", capabilities=able), EVERYTHING)
    assert caught.value.reason == "unsupported_capability"
    assert caught.value.errors == [
        (["tools"], "tools_disabled"),
        (["response_format"], "json_native_disabled"),
        (["vision"], "vision_disabled"),
        (["documents"], "documents_disabled"),
    ]


@pytest.mark.parametrize(
    "able",
    [
        None,
        {},
        {"tools": {"enabled": True}},
        {"tools": {}},
        {"vision": None, "json_native": True},
        {"x": False},
    ],
)
def test_what_is_not_known_to_be_impossible_is_allowed(able):
    check_capabilities(ModelRef(id="m", capabilities=able), EVERYTHING)
    check_capabilities(None, EVERYTHING)


@pytest.mark.parametrize(
    ("able", "refused"),
    [
        ({}, []),
        ({"images_enabled": True, "supported_image_operations": None}, []),
        ({"images_enabled": None, "supported_image_operations": ["generate", "edit"]}, []),
        ({"supported_image_operations": "generate"}, []),
        ({"images_enabled": False}, [(["images_enabled"], "images_disabled")]),
        ({"supported_image_operations": ()}, [(["operation"], "unsupported_image_operation")]),
        (
            {"images_enabled": False, "supported_image_operations": ["generate"]},
            [(["images_enabled"], "images_disabled"), (["operation"], "unsupported_image_operation")],
        ),
    ],
    ids=str,
)
def test_what_is_known_of_pictures_is_for_requests_of_pictures(able, refused):
    model, edit = ModelRef(id="m", capabilities=able), ImageRequest(operation="edit", prompt="a cat")
    check_capabilities(model, EVERYTHING)
    if refused:
        with pytest.raises(
            ValidationError, match="does not support requested image capabilities: "
        ) as caught:
            check_capabilities(model, edit)
        assert (caught.value.reason, caught.value.errors) == ("unsupported_capability", refused)
    else:
        check_capabilities(model, edit)


@pytest.mark.parametrize("wanted", [None, "text", {"type": "json_object"}], ids=str)
def test_a_request_that_asks_for_nothing_special_is_allowed(wanted):
    plain = Request(messages=[Message(role="user", content="hi")], response_format=wanted)
    check_capabilities(ModelRef(id="m", capabilities=NOTHING), plain)
    no_pictures = ModelRef(id="m", capabilities={"images_enabled": False})
    check_capabilities(no_pictures, EmbeddingRequest(input=["hi"]))


def test_a_model_ref_stands_for_its_name():
    ref, other = ModelRef(id="m"), ModelRef(id="o")
    engine = Engine(model=ref)
    assert resolve_model(engine, {}) == "m"
    assert resolve_model_ref(engine, {}) is ref
    assert resolve_model_ref(engine, {"model": other}) is other
    assert resolve_model_ref(engine, {"model": "m"}) is None
    assert resolve_model_ref(engine, {}, Request(messages=[], model="m")) is ref
    assert resolve_model_ref(engine, {}, Request(messages=[], model="x")) is None
    assert "model='m'" in repr(engine)


class Picky:
    name = "picky"

    def __init__(self, answer):
        self.answer = answer

    def requires_structured_finalize(self, request):
        return self.answer() if callable(self.answer) else self.answer


def test_an_adapter_may_need_an_answer_of_its_own_for_a_structure():
    assert with_finalize(Picky(True), EVERYTHING).structured_finalize is True
    assert with_finalize(Picky(False), EVERYTHING) is EVERYTHING
    assert with_finalize(object(), EVERYTHING) is EVERYTHING
    asked = Request(messages=[], structured_finalize=True)
    assert with_finalize(Picky(lambda: pytest.fail("it was said already")), asked) is asked
    with pytest.raises(
        EngineError, match="'picky' failed at requires_structured_finalize: ZeroDivisionError"
    ):
        with_finalize(Picky(lambda: 1 / 0), EVERYTHING)


@pytest.mark.parametrize("dialect", ["anthropic", "cohere", "gemini", "ollama"])
def test_options_of_openais_reasoning_models_are_left_out_where_there_are_none(dialect):
    own = {"top_p": 0.5, "seed": 1}
    foreign = {"reasoning_effort": "low", "reasoning_summary": "auto", "verbosity": "low"}
    for one, value in foreign.items():
        request = Request(messages=[PICTURE], model="m", options={one: value, **own})
        told = without_foreign_words(request, dialect)
        assert told == Request(messages=[PICTURE], model="m", options=own)
        assert without_foreign_words(told, dialect) is told
        assert without_foreign_words(request, "openai_chat") is request


def choosing(choice, *names, **fields):
    tools = [Tool(name=name, description="", schema={}) for name in names]
    return Request(messages=[], tools=tools, tool_choice=choice, **fields)


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        *[(word, word) for word in ("auto", "none", "required")],
        ("REQUIRED", "required"),
        ("look", "look"),
        (("tool", "look"), "look"),
        (["tool", "look"], "look"),
        ({"type": "tool", "name": "look"}, "look"),
        ({"type": "function", "name": "look"}, "look"),
        ({"type": "function", "function": {"name": "look"}}, "look"),
        ("Auto", "Auto"),
        (None, None),
    ],
    ids=str,
)
def test_a_choice_of_tool_is_one_for_all(choice, chosen):
    assert in_common_words(choosing(choice, "look", "Auto")).tool_choice == chosen


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        {"type": "web_search"},
        {"mode": "VALIDATED"},
        {"any": {}},
    ],
    ids=str,
)
def test_a_providers_own_choice_is_the_providers(choice):
    for request in (choosing(choice, "look"), choosing(choice)):
        assert in_common_words(request) is request


@pytest.mark.parametrize(
    ("choice", "names", "code"),
    [
        ("required", [], "requires_tools"),
        ("look", [], "requires_tools"),
        ({"type": "tool", "name": "look"}, [], "requires_tools"),
        ("loook", ["look"], "unknown_tool"),
        (("tool", "loook"), ["look"], "unknown_tool"),
        (("tool", "auto"), ["look"], "unknown_tool"),
        ({"type": "function", "function": {"name": "loook"}}, ["look"], "unknown_tool"),
        ("any", ["look"], "unknown_tool"),
        (5, ["look"], "invalid_shape"),
        (("look",), ["look"], "invalid_shape"),
    ],
    ids=str,
)
def test_a_choice_that_cannot_be_met_is_refused(choice, names, code):
    with pytest.raises(ValidationError, match="tool_choice") as caught:
        in_common_words(choosing(choice, *names))
    assert caught.value.errors == [("tool_choice", code)]


def test_without_tools_there_is_nothing_to_choose():
    for word in ("auto", "none"):
        assert in_common_words(choosing(word)).tool_choice is None


def test_tools_in_the_providers_own_shape_are_not_read():
    options = {"tools": [{"type": "web_search"}]}
    for choice in ("auto", "required", "theirs"):
        assert in_common_words(choosing(choice, options=options)).tool_choice == choice


FORM = {"type": "json_schema", "name": "cat", "schema": {"type": "object"}, "strict": True}
NESTED = {"type": "json_schema", "json_schema": {name: FORM[name] for name in ("name", "schema", "strict")}}
NESTED_STRICT = {
    "type": "json_schema",
    "strict": True,
    "json_schema": {"name": "cat", "schema": {"type": "object"}},
}


@pytest.mark.parametrize(
    "wanted", [None, "text", {"type": "json_object"}, FORM, {"type": "grammar", "root": "x"}], ids=str
)
def test_a_form_of_answer_in_common_words_stays_as_it_is(wanted):
    request = Request(messages=[], response_format=wanted)
    assert in_common_words(request) is request


NESTED_TYPE = NESTED | {"json_schema": {"type": "object", **NESTED["json_schema"]}}


@pytest.mark.parametrize(
    "wanted", [NESTED, NESTED_STRICT, NESTED_TYPE], ids=["all in it", "one beside it", "a type in it"]
)
def test_openais_shape_of_a_form_is_understood_for_every_provider(wanted):
    assert in_common_words(Request(messages=[], response_format=wanted)).response_format == FORM


def test_a_form_with_a_schema_is_flat_already_whatever_else_it_has():
    asked = Request(messages=[], response_format=FORM | {"json_schema": {"name": "dog", "schema": {}}})
    assert in_common_words(asked) is asked


@pytest.mark.parametrize(
    ("provider", "place"),
    [
        ("openai", ["response_format", "json_schema"]),
        ("bedrock", ["outputConfig", "textFormat", "structure", "jsonSchema"]),
    ],
)
def test_what_else_is_said_of_a_schema_is_sent(provider, place):
    row = PROVIDERS[provider]
    nested = NESTED["json_schema"] | {"description": "A cat."}
    asked = Request(
        messages=[Message(role="user", content="hi")],
        model="m",
        response_format=NESTED | {"json_schema": nested},
    )
    dialect = find_dialect("openai_chat" if provider == "openai" else provider)
    found = json.loads(dialect.encode(in_common_words(asked), row, "http://x").body)
    for name in place:
        found = found[name]
    assert (found["name"], found["description"]) == ("cat", "A cat.")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({}, "it has no type"),
        ({"name": "cat", "schema": {}}, "it has no type"),
        ({"type": "json_schema"}, "it has no schema"),
        ({"type": "json_schema", "json_schema": {"name": "cat"}}, "it has no schema"),
        ({"type": "json_schema", "json_schema": "cat"}, "it has no schema"),
        ({"type": "json_schema", "name": "cat", "schema": None}, "it has no schema"),
        ({"type": "json_schema", "name": "cat", "schema": "cat"}, "it has no schema"),
        ({"type": 5}, "it has no type"),
        *(
            (schema, "a JSON Schema alone is not enough")
            for schema in (
                *({"type": kind} for kind in ("array", "boolean", "integer", "null", "number", "string")),
                *({word: []} for word in ("allOf", "anyOf", "enum", "oneOf")),
                *({word: {}} for word in ("$defs", "properties")),
                {"$ref": "https://x/y.json"},
                {"$schema": "https://json-schema.org/draft/2020-12/schema"},
                {"type": "object", "properties": {}},
                {"type": ["object", "null"]},
            )
        ),
    ],
    ids=str,
)
def test_what_is_no_form_of_an_answer_is_refused_with_what_to_write(wanted, why):
    with pytest.raises(ValidationError, match=rf"{why}; give it as allm\.json_schema") as caught:
        in_common_words(Request(messages=[], response_format=wanted))
    assert caught.value.errors == [("response_format", "invalid_shape")]


OWN_TOOLS = {"tools": [{"name": "look"}]}
OWN = {"model": "m", "messages": [Message(role="user", content="hi")], "options": OWN_TOOLS}


def written(provider, choice):
    row, asked = PROVIDERS[provider], in_common_words(Request(tool_choice=choice, **OWN))
    return json.loads(find_dialect(row.dialect).encode(asked, row, "http://x").body)


@pytest.mark.parametrize(
    ("provider", "choice", "sent"),
    [
        ("anthropic", "required", {"tool_choice": {"type": "any"}}),
        ("anthropic", "look", {"tool_choice": {"type": "tool", "name": "look"}}),
        ("anthropic", "none", {"tool_choice": {"type": "none"}}),
        ("cohere", "required", {"tool_choice": "REQUIRED"}),
        ("cohere", "none", {"tool_choice": "NONE"}),
        ("gemini", "required", {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
        ("gemini", "none", {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}),
        ("groq", "required", {"tool_choice": "required"}),
        ("groq", "look", {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
    ],
)
def test_a_choice_of_tools_in_the_providers_own_form_is_written(provider, choice, sent):
    assert written(provider, choice) == written(provider, None) | sent


@pytest.mark.parametrize(
    ("provider", "choice"),
    [("bedrock", "required"), ("bedrock", "none"), ("cohere", "look"), ("ollama", "look")],
)
def test_a_choice_of_tools_in_the_providers_own_form_is_refused_where_there_is_no_place_for_it(
    provider, choice
):
    with pytest.raises(AdapterError, match="tool") as caught:
        written(provider, choice)
    assert (caught.value.reason, caught.value.provider) == ("unsupported_feature", provider)


def test_no_tools_in_the_providers_own_form_are_left_where_none_may_be_called():
    assert written("ollama", "none") == {
        name: value for name, value in written("ollama", None).items() if name != "tools"
    }


@pytest.mark.parametrize("dialect", ["anthropic", "bedrock", "gemini", "ollama"])
def test_a_servers_own_form_is_refused_where_it_would_be_left_out(dialect):
    row = PROVIDERS["anthropic"]
    for own, shown in (
        ({"type": "grammar"}, "'grammar'"),
        ({"type": "grammar", "root": "x"}, "'grammar' with 'root'"),
        ({"type": "json_object", "schema": {"type": "object"}}, "'json_object' with 'schema'"),
    ):
        request = Request(messages=[], response_format=own)
        may = "use text, json_object, json_schema, the last with a schema"
        told = f"Anthropic has no response_format of type {shown}; {may}"
        with pytest.raises(AdapterError, match=told) as caught:
            check_format(request, dialect, row)
        assert (caught.value.reason, caught.value.provider) == ("unsupported_feature", "anthropic")
        check_format(request, "openai_chat", row)


@pytest.mark.parametrize("dialect", ["anthropic", "bedrock", "gemini", "ollama"])
@pytest.mark.parametrize("wanted", [None, "text", {"type": "text"}, {"type": "json_object"}, FORM], ids=str)
def test_a_form_in_common_words_is_written_by_everyone(dialect, wanted):
    check_format(Request(messages=[], response_format=wanted), dialect, PROVIDERS["anthropic"])


MUTE = [
    Message(role="system", content="x"),
    Message(role="assistant", content=""),
    Message(role="user", content=[]),
]


@pytest.mark.parametrize("name", ["anthropic", "bedrock", "gemini"])
@pytest.mark.parametrize("messages", [MUTE[:1], MUTE], ids=["a system message alone", "blank ones"])
def test_a_request_in_which_nobody_says_anything_is_refused(name, messages):
    row = PROVIDERS[name]
    request = Request(messages=messages, model="m")
    with pytest.raises(
        ValidationError, match=f"{row.label} needs at least one message with content.*add a user message"
    ) as caught:
        find_dialect(row.dialect).encode(request, row, "https://x")
    assert (caught.value.reason, caught.value.errors) == ("invalid_request", [("messages", "empty")])


@pytest.mark.parametrize("name", ["anthropic", "bedrock"])
def test_a_text_of_nothing_but_space_is_refused_where_it_would_be_left_out(name):
    blank = Request(messages=[Message(role="user", content=" ")], model="m")
    with pytest.raises(ValidationError, match="add a user message"):
        find_dialect(PROVIDERS[name].dialect).encode(blank, PROVIDERS[name], "https://x")


@pytest.mark.parametrize(("name", "field"), [("anthropic", "messages"), ("gemini", "contents")])
def test_messages_of_the_providers_own_shape_are_messages(name, field):
    request = Request(messages=MUTE[:1], model="m", options={field: [{"role": "user"}]})
    assert find_dialect(PROVIDERS[name].dialect).encode(request, PROVIDERS[name], "https://x").body


def test_a_prompt_that_bedrock_keeps_has_messages_of_its_own():
    prompt = "arn:aws:bedrock:us-east-1:1:prompt/P:1"
    request = Request(messages=MUTE[:1], model=prompt, options={"promptVariables": {"a": {"text": "b"}}})
    assert find_dialect("bedrock").encode(request, PROVIDERS["bedrock"], "https://x").body
