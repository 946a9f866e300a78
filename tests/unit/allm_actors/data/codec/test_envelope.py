"""JSON: the Elixir library's shapes, byte for byte, and what is said about JSON that is none of them."""

import json
from enum import StrEnum

import pytest

from allm_actors.data import (
    AdapterError,
    AllmError,
    AskUser,
    Audio,
    ChatResult,
    Document,
    EmbeddingRequest,
    ErrorEvent,
    Image,
    ImagePart,
    ImageRequest,
    Message,
    ModerationRequest,
    Ok,
    RawChunk,
    Request,
    Response,
    Session,
    StepResult,
    TextDelta,
    TextPart,
    Thread,
    Tool,
    ToolCall,
    Usage,
    ValidationError,
)
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.data.codec.shapes import CODES, shape_of
from allm_actors.data.depth import DEEPEST_WRITTEN
from allm_actors.engine import Engine

HI = Message(role="user", content="hi")


def tagged(tag, **data):
    return json.dumps({"__type__": tag, "data": data})


def failure(text, as_=None):
    with pytest.raises(ValidationError) as caught:
        from_json(text, as_)
    assert caught.value.reason == "invalid_request"
    return caught.value.errors


# --- shapes -------------------------------------------------------------------------------------------------------


def test_a_message():
    assert to_json(HI) == (
        '{"__type__":"ALLM.Message","data":'
        '{"role":"user","content":"hi","name":null,"tool_call_id":null,"metadata":{}}}'
    )


def test_an_image_of_two_bytes():
    assert to_json(Image.from_bytes(b"\x01\x02", "image/png")) == (
        '{"__type__":"ALLM.Image","data":{"source":{"type":"binary","value":"AQI="},"mime_type":"image/png",'
        '"width":null,"height":null,"prompt":null,"revised_prompt":null,"metadata":{}}}'
    )


CALL = ToolCall(id="c", name="f", arguments={})


@pytest.mark.parametrize(
    ("image", "source"),
    [
        (Image.from_url("http://x/y.png"), {"type": "url", "value": "http://x/y.png"}),
        (Image.from_file("a.png"), {"type": "file", "value": "a.png"}),
        (Image.from_base64("AQI=", "image/png"), {"type": "base64", "value": "AQI="}),
    ],
    ids=["url", "file", "base64"],
)
def test_the_other_sources_of_images(image, source):
    assert json.loads(to_json(image))["data"]["source"] == source
    assert from_json(to_json(image)) == image


def test_done_has_a_question_mark():
    step = StepResult(thread=Thread(), done=True)
    assert json.loads(to_json(step))["data"]["done?"] is True
    assert from_json(to_json(step)) == step


def test_values_are_tagged_at_every_depth():
    message = Message(role="user", content=[TextPart(text="a"), ImagePart(image=Image.from_url("u"))])
    tree = json.loads(to_json(Thread(messages=[message])))
    (inner,) = tree["data"]["messages"]
    assert [part["__type__"] for part in inner["data"]["content"]] == ["ALLM.TextPart", "ALLM.ImagePart"]


def test_the_size_of_a_picture_is_a_list():
    request = ImageRequest(prompt="a cat", size=(640, 480))
    assert json.loads(to_json(request))["data"]["size"] == [640, 480]
    assert from_json(to_json(request)).size == (640, 480)


def test_an_error_lists_its_failures_as_pairs():
    error = ValidationError("invalid_request", [("messages", "empty"), (["messages", 0, "role"], "unknown")])
    assert json.loads(to_json(error))["data"]["errors"] == [
        ["messages", "empty"],
        [["messages", 0, "role"], "unknown"],
    ]
    assert from_json(to_json(error)) == error


def test_errors_and_events_have_tags_of_their_own():
    event = ErrorEvent(AdapterError("rate_limited", retry_after_ms=500))
    tree = json.loads(to_json(event))
    assert tree["__type__"] == "ALLM.Event.ErrorEvent"
    assert tree["data"]["error"]["__type__"] == "ALLM.Error.AdapterError"
    assert from_json(to_json(event)) == event


def test_fields_the_elixir_library_lacks_are_silent_until_they_say_something():
    assert "cache_write_input_tokens" not in to_json(Usage())
    assert from_json(to_json(Usage(cache_write_input_tokens=3))).cache_write_input_tokens == 3
    quiet = json.loads(to_json(Tool(name="x", description="", schema={})))["data"]
    assert list(quiet) == ["name", "description", "schema", "handler", "manual", "compact", "metadata"]
    assert from_json(to_json(Tool(name="x", description="", schema={}, timeout=2.0))).timeout == 2.0


# --- what maps hold -----------------------------------------------------------------------------------------------


def test_typed_values_inside_maps_come_back_typed():
    call = ToolCall(id="c0", name="f", arguments={"deep": [HI]})
    session = Session(
        context={"who": HI},
        metadata={"error": AdapterError("timeout"), "calls": [call]},
    )
    assert from_json(to_json(session)) == session


@pytest.mark.parametrize(
    "value",
    [
        ("usage", {"input_tokens": 1}),
        b"\x00\xff",
        {1: "a", None: "b", (1, 2): "c"},
        {"__type__": "ALLM.Message"},
        {"__type__": "ALLM.Message", "data": 5},
        {"__type__": "tuple", "data": []},
        {"__type__": 5},
        2**100,
        float("inf"),
        "\ud800",
        {"\ud800": "\udfff"},
        "\ud83d\ude00",
        {"\ud83d\ude00": ["a", "😀"]},
        {"__type__": "\ud83d\ude00"},
        {"__type__": "text", "data": "eA=="},
        [10**5000, -(10**5000), {"a": 2**14000}],
    ],
    ids=range(16),
)
def test_what_json_cannot_say_comes_back_as_it_was(value):
    assert from_json(to_json(RawChunk(value))) == RawChunk(value)


@pytest.mark.parametrize(
    "value",
    [
        Thread(messages=[{"a": 1}, {}, None, 5, Thread(), {"__type__": "ALLM.Message"}, HI]),
        Thread(messages=("x", {"a": 1}, HI)),
        Thread(messages="x"),
        Session(thread={"messages": []}),
        Message(role="robot", content="x", metadata=[1]),
        Message(role=[], content="x", metadata=HI),
        ToolCall(id="a", name="b", arguments=[1]),
        Response(finish_reason="end_turn", usage=5),
        *(
            Image(source=source)
            for source in (
                ("binary", "aGk="),
                ("binary", "not b64!"),
                ("base64", b"x"),
                ("ftp", "x"),
                ["url", "x"],
                {"type": "url", "value": "x"},
                "x",
            )
        ),
        ImageRequest(prompt="x", size=[10, 20]),
        ImageRequest(prompt="x", size=(10, 0), operation="paint"),
        ValidationError("invalid_request", [["a", "b"], ("c", "d"), (1, ["e", "f"]), "gh", {}]),
    ],
    ids=range(18),
)
def test_what_stands_where_something_else_belongs_comes_back_as_it_was(value):
    for whole in (value, Message(role="user", content="hi", metadata={"it": value})):
        text = to_json(whole)
        assert repr(from_json(text)) == repr(whole)
        assert to_msgpack(from_json(text)) == to_msgpack(whole)


def test_text_with_half_a_character_is_json_that_everybody_reads():
    text = to_json(Message(role="user", content="a\ud83d", metadata={"b": "c"}))
    assert json.loads(text)["data"]["content"] == {"__type__": "text", "data": "Ye2gvQ=="}
    assert json.loads(text)["data"]["metadata"] == {"b": "c"}
    assert from_json(tagged("ALLM.Message", role="user", content="a\ud83d")).content == "a\ud83d"


def test_enums_and_subclasses_become_what_they_stand_for():
    class Colour(StrEnum):
        RED = "red"

    class Names(list):
        pass

    assert from_json(to_json(Ok({"colour": Colour.RED, "names": Names(["a"])}))) == Ok(
        {"colour": "red", "names": ["a"]}
    )


# --- forgiving ----------------------------------------------------------------------------------------------------


def test_missing_fields_are_defaults_and_unknown_ones_are_passed_over():
    assert from_json(tagged("ALLM.Message", role="user", content="hi", later=1)) == HI
    assert from_json(tagged("ALLM.Session")) == Session()
    assert from_json(tagged("ALLM.Response", usage=None)) == Response()
    assert from_json(tagged("ALLM.Message")).role is None


def test_a_detail_of_null_is_auto():
    image = json.loads(to_json(Image.from_url("u")))
    assert from_json(tagged("ALLM.ImagePart", image=image, detail=None)).detail == "auto"


def test_a_type_nobody_knows_stays_a_dict():
    later = {"__type__": "ALLM.Later", "data": {"x": 1}}
    assert from_json(json.dumps(later)) == later
    assert from_json(tagged("ALLM.Message", role="user", content=[later])).content == [later]
    assert from_json(tagged("ALLM.Thread", messages=[later])).messages == [later]


def test_as_is_for_objects_without_a_tag_and_a_tag_wins():
    plain = '{"role": "user", "content": "hi"}'
    assert from_json(plain, Message) == HI
    assert from_json(plain, "ALLM.Message") == HI
    assert from_json(to_json(HI), Thread) == HI
    assert from_json(to_json(HI).encode()) == HI


def test_nested_objects_without_a_tag_are_what_the_field_holds():
    session = from_json('{"thread": {"messages": [{"role": "user", "content": "hi"}]}}', Session)
    assert session == Session(thread=Thread(messages=[HI]))


def test_a_free_halted_reason_and_a_tool_without_its_handler():
    assert (
        from_json(tagged("ALLM.ChatResult", halted_reason="plan_submitted")).halted_reason == "plan_submitted"
    )
    assert from_json(tagged("ALLM.Tool", name="x", description="", schema={}, handler="f")).handler is None


def test_tool_choice_and_response_format_are_kept_as_they_are():
    for shape in (
        {"type": "json_object"},
        {"type": "json_schema", "name": "n", "schema": {}, "strict": True, "x": 1},
    ):
        request = Request(messages=[], tool_choice={"type": "any"}, response_format=shape)
        assert from_json(to_json(request)) == request


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "nope", "NaN", "[" * 100_000, "1" * 10_000], ids=lambda t: t[:5] or "empty"
)
def test_text_that_is_no_json(text):
    assert failure(text) == [("json", "malformed")]


@pytest.mark.parametrize(
    ("text", "as_", "expected"),
    [
        ('{"__type__": "ALLM.Message"}', None, ("data", "missing")),
        ('{"__type__": "ALLM.Message", "data": []}', None, ("data", "malformed_struct")),
        ('{"role": "user"}', None, ("format", "missing_type_tag")),
        ('{"role": "user"}', "ALLM.Nobody", ("format", "unknown_type_tag")),
        ('{"role": "user"}', dict, ("format", "unknown_type_tag")),
        ("[]", None, ("format", "missing_type_tag")),
        ("5", None, ("format", "missing_type_tag")),
        *(
            ("{}", as_, ("format", "unknown_type_tag"))
            for as_ in ([Message], {}, CALL, 5, b"ALLM.Message", list[int])
        ),
        ("[]", Message, ("data", "malformed_struct")),
        (tagged("ALLM.Message", role="robot"), None, ("_unknown", "atom_decode_failed")),
        (tagged("ALLM.Response", finish_reason="tired"), None, ("_unknown", "atom_decode_failed")),
        (tagged("ALLM.Session", status=[]), None, ("_unknown", "atom_decode_failed")),
        (tagged("ALLM.Error.ToolError", reason="bored"), None, ("_unknown", "atom_decode_failed")),
        (tagged("ALLM.ImagePart", detail="blurred"), None, ("_unknown", "atom_decode_failed")),
        (tagged("ALLM.Image", source={"type": "fax", "value": ""}), None, ("_unknown", "atom_decode_failed")),
        (tagged("ALLM.Image", source={"type": "binary", "value": "?"}), None, (["source"], "invalid_base64")),
        (tagged("ALLM.Thread", messages=5), None, (["messages"], "malformed_struct")),
        (tagged("ALLM.Thread", messages=[5]), None, (["messages"], "malformed_struct")),
        (tagged("ALLM.Message", metadata=[]), None, (["metadata"], "malformed_struct")),
        (tagged("ALLM.Tool", manual=3), None, ("data", "malformed_struct")),
        (tagged("ALLM.Error.ToolError"), None, ("data", "malformed_struct")),
        (tagged("ALLM.Ok", value={"__type__": "bytes", "data": "?"}), None, ("data", "malformed_struct")),
        (tagged("ALLM.Ok", value={"__type__": "text", "data": "/w=="}), None, ("data", "malformed_struct")),
        (tagged("ALLM.Message", role={"__type__": "value"}), None, ("data", "missing")),
        (tagged("ALLM.Ok", value={"__type__": "int", "data": 5}), None, ("data", "malformed_struct")),
        (tagged("ALLM.Ok", value={"__type__": "float", "data": 10**400}), None, ("data", "malformed_struct")),
        (tagged("ALLM.Engine", retry=[["base_delay_ms", 10**400]]), Engine, ("data", "malformed_struct")),
    ],
)
def test_json_that_is_no_value(text, as_, expected):
    assert failure(text, as_) == [expected]


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (True, "is true,"),
        (False, "is false,"),
        (1.5, "is 1.5,"),
        (2**63, "is 9223372036854775808,"),
        (2**64, "is a very large number,"),
        ([1, 2], "is a list of 2,"),
        ({"a": 1}, "is an object,"),
        ({"__type__": 5}, "is an object,"),
        ("x" * 24, f"is '{'x' * 24}',"),
        ("x" * 25, "is a text of length 25,"),
        ("blurred", "it must be one of 'auto', 'high', 'low'"),
        ("hihg", "did you mean 'high'?"),
    ],
)
def test_a_word_that_is_not_known_is_shown_if_it_is_short(there, words):
    with pytest.raises(ValidationError) as refused:
        from_json(tagged("ALLM.ImagePart", detail=there))
    assert words in refused.value.message


def test_a_long_path_is_shown_by_its_ends():
    deep = {"__type__": "ALLM.Message", "data": {"role": "boss"}}
    for _ in range(12):
        deep = [deep]
    with pytest.raises(ValidationError) as refused:
        from_json(tagged("ALLM.Ok", value=deep))
    assert "$.value[0][0][0][0][0]…[0][0][0][0][0].role is 'boss'" in refused.value.message


def test_only_values_have_an_encoding():
    for other in ({}, [], "hi", None, 5):
        with pytest.raises(TypeError, match="to_json takes a value of this library"):
            to_json(other)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Tool(name="x", description="", schema={}, handler=print), "Tool.handler"),
        (Session(context={"on": [print]}), r"Session.context\['on'\]\[0\]"),
        (Ok(ValueError("secret")), "Ok.value"),
        (AskUser("which?", choices={1, 2}), r"AskUser.options\['choices'\]"),
        (TextDelta(delta=object()), "TextDelta.delta"),
        (ErrorEvent(AdapterError("timeout", cause=OSError("x"))), "ErrorEvent.error.cause"),
        (ChatResult(metadata={print: 1}), "a key of ChatResult.metadata"),
    ],
    ids=["handler", "function", "exception", "set", "object", "cause", "key"],
)
def test_what_has_no_encoding_is_refused_by_its_place(value, place):
    with pytest.raises(TypeError, match=f"^{place} cannot be encoded: ") as caught:
        to_json(value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Message(role="user", content="hi", metadata=None), "Message.metadata"),
        (
            Session(thread=Thread(messages=[Message(role="user", content="hi", metadata=None)])),
            "Session.thread.messages[0].metadata",
        ),
        (Response(usage=None), "Response.usage"),
        (Ok({"image": Image(source=("url", "u"), metadata=None)}), "Ok.value['image'].metadata"),
    ],
    ids=["metadata", "deep", "usage", "in a map"],
)
def test_a_none_that_would_be_read_as_something_else_is_refused(value, place):
    with pytest.raises(TypeError, match=r"is None, which would be read back as .*; leave it out") as caught:
        to_json(value)
    assert str(caught.value).startswith(f"{place} cannot be encoded: ")
    assert from_msgpack(to_msgpack(value)) == value


REQUESTS = [cls for cls in CODES if cls.__name__.endswith("Request")]


@pytest.mark.parametrize("cls", REQUESTS, ids=lambda cls: cls.__name__)
def test_a_request_with_a_key_among_its_options_is_not_written(cls):
    fields = {field.name: field.make_default() for field in shape_of(cls).fields}
    request = cls(**fields | {"options": {"api_key": "sk-canary"}})
    for write in (to_json, to_msgpack):
        for value, path in ((request, cls.__name__), (Ok([request]), "Ok.value[0]")):
            with pytest.raises(
                TypeError, match="a key is never written; pass api_key= with the call"
            ) as refused:
                write(value)
            assert str(refused.value).startswith(f"{path}.options['api_key'] cannot be encoded: ")
            assert "sk-canary" not in str(refused.value)


DEFAULTED = [
    (shape, field)
    for shape in map(shape_of, CODES)
    for field in shape.fields
    if field.make_default() is not None and not issubclass(shape.cls, AllmError) and shape.cls is not AskUser
]


@pytest.mark.parametrize(
    ("shape", "field"), DEFAULTED, ids=[f"{shape.cls.__name__}.{field.key}" for shape, field in DEFAULTED]
)
def test_no_field_with_a_default_loses_a_none(shape, field):
    defaults = {each.name: each.make_default() for each in shape.fields}
    with pytest.raises((TypeError, ValueError), match=r"is None|tool .*: |Tool manual must be") as refused:
        to_json(shape.cls(**{**defaults, field.name: None}))
    assert field.name in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        Thread(messages=(HI, HI)),
        Request(messages=(HI,), tools=(Tool(name="x", description="", schema={}),)),
        Message(role="user", content=(TextPart(text="a"),)),
        Response(tool_calls=(CALL,)),
        Session(thread=Thread(messages=(HI,)), pending_tool_calls=(CALL,)),
        ChatResult(steps=(StepResult(thread=Thread(), tool_results=(HI,)),)),
        ImageRequest(input_images=(Image.from_url("u"),)),
        EmbeddingRequest(input=("a", "b")),
        ModerationRequest(input=("a", ImagePart(image=Image.from_url("u")))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_tuple_where_a_list_belongs_comes_back(value):
    assert from_json(to_json(value)) == value
    assert from_msgpack(to_msgpack(value)) == value


# --- where and what -----------------------------------------------------------------------------------------------

KEY = "canary-7f3a9b2c4d5e6f70819"
ROBOT = {"role": "robot", "content": "hi"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1,\n "b" 2}', ["line 2, column 6"]),
        ("", ["line 1, column 1"]),
        ("NaN", ["NaN is not JSON"]),
        ("[" * 100_000, ["nested too deeply"]),
        ("1" * 10_000, ["it has a number with too many digits"]),
        (b"\xff", ["not UTF-8"]),
        ("[1]", ["$ is a list of 1", "as_=Message"]),
        (tagged("ALLM.Thread", messages=[{}, {}, ROBOT]), ["$.messages[2].role is 'robot'", "'assistant', "]),
        (
            tagged("ALLM.Session", thread={"messages": [{"role": "usr"}]}),
            ["$.thread.messages[0].role", "'user'?"],
        ),
        (tagged("ALLM.Thread", messages=5), ["$.messages is 5", "a list of ALLM.Message"]),
        (tagged("ALLM.Thread", messages=[{}, [1]]), ["$.messages[1] is a list of 1", "ALLM.Message"]),
        (tagged("ALLM.Message", metadata=[]), ["$.metadata is a list of 0", "an object"]),
        (
            tagged("ALLM.Message", metadata={"a b": [{"__type__": "ALLM.Usage"}]}),
            ["$.metadata['a b'][0]", '"data"'],
        ),
        (
            tagged("ALLM.Ok", value={"__type__": "map", "data": [[1, ROBOT], [2]]}),
            ["$.value is tagged 'map'"],
        ),
        (
            tagged("ALLM.Ok", value={"__type__": "tuple", "data": [{"__type__": "bytes", "data": "?"}]}),
            ["$.value[0]"],
        ),
        (tagged("ALLM.Tool", manual=3), ["$ cannot be ALLM.Tool", "manual must be a boolean"]),
        (tagged("ALLM.Image", source={"type": "fax"}), ["$.source.type is 'fax'", "'url'"]),
        (
            tagged("ALLM.Image", source={"type": "binary", "value": "?"}),
            ["$.source.value is a text of length 1"],
        ),
        (tagged("ALLM.Error.ValidationError", reason="invalid_tool", errors=5), ["$.errors is 5"]),
        (tagged("ALLM.StepResult", **{"done?": True, "response": "x"}), ["$.response is a text of length 1"]),
    ],
    ids=range(20),
)
def test_a_refusal_says_where_and_what(text, words):
    with pytest.raises(ValidationError) as caught:
        from_json(text)
    assert str(caught.value).startswith("invalid JSON for from_json: ")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        {"role": KEY},
        {"role": [KEY]},
        {"role": "user", "metadata": KEY},
        {"role": "user", "metadata": {"k": {"__type__": "ALLM.Image", "data": KEY}}},
        {"role": "user", "metadata": {"k": {"__type__": "bytes", "data": KEY}}},
        {"role": "user", "metadata": {"k": {"__type__": "ALLM.Image", "data": {"source": {"type": KEY}}}}},
    ],
    ids=range(6),
)
def test_a_refusal_shows_nothing_long(data):
    with pytest.raises(ValidationError) as caught:
        from_json(json.dumps({"__type__": "ALLM.Message", "data": data}))
    assert KEY not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_long_way_down_is_shortened():
    tree = {"__type__": "ALLM.Message", "data": ROBOT}
    for _ in range(40):
        tree = {"a key of more than twenty-four characters": [tree]}
    with pytest.raises(ValidationError) as caught:
        from_json(json.dumps({"__type__": "ALLM.Ok", "data": {"value": tree}}))
    assert "$.value['a key of more than twen…'][0]" in str(caught.value)
    assert "]…[" in str(caught.value)
    assert "[0].role is 'robot'" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_is_wide_is_not_deep():
    wide = Ok([[i] for i in range(DEEPEST_WRITTEN + 1)])
    assert from_json(to_json(wide)) == wide


def test_what_is_no_text_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="from_json takes JSON text, got dict"):
        from_json({})


def test_a_value_that_contains_itself_is_refused():
    loop = {}
    loop["loop"] = loop
    with pytest.raises(TypeError, match=r"Ok.value\['loop'\] cannot be encoded: it contains itself"):
        to_json(Ok(loop))


PASSWD = Image.from_file("/etc/passwd")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (PASSWD, "$.source"),
        (Image(source=["file", "/etc/passwd"]), "$.source"),
        (Audio(source=("file", "/etc/passwd")), "$.source"),
        (
            Session(thread=Thread(messages=[Message(role="user", content=[ImagePart(image=PASSWD)])])),
            "$.thread.messages[0].content[0].image.source",
        ),
        (
            Message(role="tool", content="", metadata={"of": [{"a": (Document(source=PASSWD.source),)}]}),
            "$.metadata.of[0].a[0].source",
        ),
        (AdapterError("unknown", metadata={"sent": PASSWD}), "$.metadata.sent.source"),
    ],
)
def test_a_file_of_this_machine_is_read_only_by_those_who_trust_the_text(value, place):
    for write, read in ((to_json, from_json), (to_msgpack, from_msgpack)):
        written = write(value)
        assert type(read(written)) is type(value)
        with pytest.raises(ValidationError) as refused:
            read(written, files=False)
        assert str(refused.value).startswith(f"{place} is a file of this machine")
        assert refused.value.errors == [(["source"], "file_refused")]


def test_what_names_no_file_is_read_without_files_too():
    for value in (Image.from_url("https://example.org/file"), Message(role="user", content="file")):
        assert from_json(to_json(value), files=False) == value
        assert from_msgpack(to_msgpack(value), files=False) == value
