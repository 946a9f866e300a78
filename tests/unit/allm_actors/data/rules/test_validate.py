"""Every code of `validate`, in its order, and what is valid."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    ClassificationQuestion,
    ClassificationRequest,
    Document,
    DocumentPart,
    EmbeddingRequest,
    Image,
    ImagePart,
    ImageRequest,
    Message,
    ModerationRequest,
    Request,
    Session,
    TextPart,
    Thread,
    Tool,
    ToolCall,
    ValidationError,
)
from allm_actors.data.compact import with_help
from allm_actors.data.rules.validate import are_whole, validate
from allm_actors.testing import strategies

HI = Message(role="user", content="hi")
PICTURE = Image.from_url("http://x/y.png")


def call(id):
    return ToolCall(id=id, name="f", arguments={})


def calling(*ids):
    return Message(role="assistant", content="", metadata={"tool_calls": [call(id) for id in ids]})


def answer(id):
    return Message(role="tool", content="{}", tool_call_id=id)


def tool(**fields):
    return Tool(**({"name": "f", "description": "", "schema": {}} | fields))


def failures(value):
    with pytest.raises(ValidationError) as caught:
        validate(value)
    if isinstance(value, Thread):
        assert not are_whole(value.messages)
    return caught.value.errors


def reason(value):
    with pytest.raises(ValidationError) as caught:
        validate(value)
    return caught.value.reason


# --- messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["robot", None, 5, []], ids=str)
def test_an_unknown_role(role):
    message = Message(role=role, content="")
    assert failures(message) == [("role", "unknown")]
    assert failures(Thread(messages=[message])) == [(["messages", 0, "role"], "unknown")]


@pytest.mark.parametrize("content", [None, {}, 5], ids=str)
def test_content_that_is_neither_text_nor_a_list(content):
    assert failures(Message(role="user", content=content)) == [("content", "invalid_type")]


@pytest.mark.parametrize(("part", "got"), [({"type": "text"}, "Map"), (5, "int")])
def test_a_foreign_part_is_described_on_a_message_alone(part, got):
    message = Message(role="user", content=[TextPart(text="a"), part])
    with pytest.raises(ValidationError) as caught:
        validate(message)
    error = caught.value
    assert error.errors == [("content", "invalid_part_type")]
    parts = "a TextPart, an ImagePart or a DocumentPart"
    assert error.message == f"validation failed: content element is not {parts} (got: {got})"
    expected = ["TextPart", "ImagePart", "DocumentPart"]
    assert error.metadata == {"invalid_part_type": {"expected": expected, "got": got}}
    assert failures(Thread(messages=[message])) == [(["messages", 0, "content"], "invalid_part_type")]


def test_a_tool_message_needs_the_id_of_its_call():
    nameless = Message(role="tool", content="")
    assert failures(nameless) == [("tool_call_id", "required")]
    assert failures(Thread(messages=[HI, nameless])) == [(["messages", 1, "tool_call_id"], "required")]


def test_all_failures_of_a_message_are_listed_in_order():
    assert failures(Message(role="x", content=None)) == [("role", "unknown"), ("content", "invalid_type")]


def test_valid_messages():
    validate(HI)
    validate(Message(role="user", content=[]))
    parts = [TextPart(text=""), ImagePart(image=PICTURE), DocumentPart(document=Document.from_url("u"))]
    validate(Message(role="user", content=parts))
    validate(answer("c0"))


# --- tools --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"name": ""}, ("name", "empty")),
        *(({"name": word}, ("name", "reserved_tool_name")) for word in ("auto", "none", "required")),
        ({"name": "a b"}, ("name", "invalid_format")),
        ({"name": "a\n"}, ("name", "invalid_format")),
        ({"name": "a" * 65}, ("name", "invalid_format")),
        ({"name": 5}, ("name", "invalid_format")),
        ({"description": None}, ("description", "not_a_string")),
        ({"schema": []}, ("schema", "not_a_map")),
    ],
)
def test_invalid_tools(fields, failure):
    assert failures(tool(**fields)) == [failure]
    assert reason(tool(**fields)) == "invalid_tool"


# --- threads ------------------------------------------------------------------------------------------------------


def test_an_empty_thread_is_valid():
    validate(Thread())


def test_failures_in_a_thread_have_a_path():
    thread = Thread(messages=[HI, Message(role="x", content="")])
    assert failures(thread) == [(["messages", 1, "role"], "unknown")]
    assert reason(thread) == "invalid_thread"


def test_what_is_no_message_and_no_list():
    assert failures(Thread(messages=[{}])) == [(["messages", 0], "invalid_type")]
    assert failures(Thread(messages="hi")) == [("messages", "invalid_type")]


def test_an_answer_without_a_call():
    assert failures(Thread(messages=[HI, answer("c0")])) == [
        (["messages", 1, "tool_call_id"], "unknown_tool_call_id")
    ]


@pytest.mark.parametrize("id", [5, [], b"c0"], ids=str)
def test_an_answer_whose_id_is_no_text_answers_nothing(id):
    answered = [calling("c0"), answer("c0"), answer(id)]
    assert failures(Thread(messages=answered)) == [(["messages", 2, "tool_call_id"], "unknown_tool_call_id")]


def test_only_the_model_makes_calls():
    said = Message(role="user", content="", metadata={"tool_calls": [call("c0")]})
    for messages in ([answer("c0")], [said, answer("c0")]):
        assert failures(Thread(messages=messages)) == [
            (["messages", len(messages) - 1, "tool_call_id"], "unknown_tool_call_id")
        ]
    validate(Request(messages=[said]))
    own = Message(role="user", content=[TextPart(text="a")], metadata={"tool_calls": "the user's own word"})
    validate(Request(messages=[own]))


@pytest.mark.parametrize("metadata", [None, ["tool_calls"], {"tool_calls": None}, {"tool_calls": []}])
def test_who_makes_no_call_needs_no_answer(metadata):
    messages = [HI, Message(role="assistant", content="", metadata=metadata)]
    validate(Request(messages=messages))
    assert are_whole(messages)


@pytest.mark.parametrize("calls", [5, "c0", {"id": "c0"}, [{"id": "c0"}], [call("c0"), 5]])
def test_what_is_no_call_is_refused_where_the_model_makes_it(calls):
    said = Message(role="assistant", content="", metadata={"tool_calls": calls})
    assert (["messages", 1, "tool_calls"], "invalid_type") in failures(Request(messages=[HI, said]))
    assert (["messages", 0, "tool_calls"], "invalid_type") in failures(Thread(messages=[said]))


def test_what_is_no_message_hides_nothing_that_is_wrong_with_the_others():
    assert failures(Thread(messages=[HI, {}, answer("c0")])) == [
        (["messages", 1], "invalid_type"),
        (["messages", 2, "tool_call_id"], "unknown_tool_call_id"),
    ]


def test_a_second_answer():
    thread = Thread(messages=[calling("c0"), answer("c0"), answer("c0")])
    assert failures(thread) == [(["messages", 2, "tool_call_id"], "already_answered")]


def test_calls_may_be_open_only_in_the_last_assistant_message():
    validate(Thread(messages=[HI, calling("a", "b"), answer("b")]))
    earlier = [calling("a", "b"), answer("b"), HI, Message(role="assistant", content="")]
    assert failures(Thread(messages=earlier)) == [(["messages", 0, "tool_calls"], "unanswered_tool_call")]
    assert failures(Session(thread=Thread(messages=earlier))) == [
        (["thread", "messages", 0, "tool_calls"], "unanswered_tool_call")
    ]


def test_a_call_stays_open_when_the_calls_after_it_are_answered():
    messages = [HI, calling("a"), calling("b"), answer("b")]
    for value in (Thread(messages=messages), Request(messages=messages)):
        assert failures(value) == [(["messages", 1, "tool_calls"], "unanswered_tool_call")]


def test_calls_of_two_messages_may_wait_for_their_answers_together():
    messages = [HI, calling("a"), calling("b"), HI, answer("a"), answer("b")]
    validate(Request(messages=messages))
    assert are_whole(messages)


def test_one_answer_is_not_for_two_calls_of_a_message():
    assert failures(Request(messages=[HI, calling("c0", "c0"), answer("c0")])) == [
        (["messages", 1, "tool_calls"], "unanswered_tool_call")
    ]
    validate(Thread(messages=[calling("c0", "c0")]))


def test_ids_may_be_used_again():
    validate(Thread(messages=[calling("c0"), answer("c0"), calling("c0"), answer("c0")]))


# --- requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"messages": []}, ("messages", "empty")),
        ({"messages": None}, ("messages", "invalid_type")),
        ({"messages": [Message(role="x", content="")]}, (["messages", 0, "role"], "unknown")),
        ({"messages": [calling("c0")]}, (["messages", 0, "tool_calls"], "unanswered_tool_call")),
        ({"tools": [tool(name="")]}, (["tools", 0, "name"], "empty")),
        ({"tools": [tool(name=[])]}, (["tools", 0, "name"], "invalid_format")),
        ({"tools": [tool(), tool()]}, ("tools", "duplicate_name")),
        ({"tools": [tool(name="tool_help"), tool(compact=True)]}, ("tools", "duplicate_name")),
        ({"tools": [5]}, (["tools", 0], "invalid_type")),
        ({"temperature": 2.1}, ("temperature", "out_of_range")),
        ({"temperature": -0.1}, ("temperature", "out_of_range")),
        ({"temperature": float("nan")}, ("temperature", "out_of_range")),
        ({"temperature": True}, ("temperature", "out_of_range")),
        ({"max_tokens": 0}, ("max_tokens", "must_be_positive")),
        ({"max_tokens": 1.5}, ("max_tokens", "must_be_positive")),
        ({"response_format": "json"}, ("response_format", "invalid_shape")),
        ({"structured_finalize": True}, ("structured_finalize", "requires_json_schema")),
        (
            {"structured_finalize": True, "response_format": {"type": "json_object"}},
            ("structured_finalize", "requires_json_schema"),
        ),
        ({"prompt_cache": {"key": 5, "retention": "short"}}, ("prompt_cache", "invalid_shape")),
        ({"prompt_cache": {"key": "k"}}, ("prompt_cache", "invalid_shape")),
        ({"prompt_cache": {"key": "", "retention": "short"}}, ("prompt_cache", "invalid_shape")),
        ({"prompt_cache": {"key": None, "retention": "forever"}}, ("prompt_cache", "invalid_shape")),
    ],
)
def test_invalid_requests(fields, failure):
    request = Request(**({"messages": [HI]} | fields))
    assert failures(request) == [failure]
    assert reason(request) == "invalid_request"


def test_failures_of_a_request_keep_their_order():
    request = Request(
        messages=[calling("c0"), Message(role="tool", content=None)],
        tools=[tool(description=None), tool()],
        temperature=3,
        max_tokens=-1,
        response_format=5,
        structured_finalize=True,
        prompt_cache={},
    )
    assert failures(request) == [
        (["messages", 1, "content"], "invalid_type"),
        (["messages", 1, "tool_call_id"], "required"),
        (["tools", 0, "description"], "not_a_string"),
        ("tools", "duplicate_name"),
        ("temperature", "out_of_range"),
        ("max_tokens", "must_be_positive"),
        ("response_format", "invalid_shape"),
        ("structured_finalize", "requires_json_schema"),
        ("prompt_cache", "invalid_shape"),
        (["messages", 0, "tool_calls"], "unanswered_tool_call"),
    ]


def test_valid_requests():
    validate(Request(messages=[HI], temperature=0, max_tokens=1, response_format="text"))
    validate(Request(messages=[HI], temperature=2, prompt_cache={"key": None, "retention": "long"}))
    validate(Request(messages=[HI], prompt_cache={"key": "k", "retention": "short"}))
    validate(Request(messages=[HI], response_format={"type": "json_schema"}, structured_finalize=True))
    validate(Request(messages=[HI, calling("c0"), answer("c0")], tools=[tool(name="tool_help")]))


def test_the_tool_that_explains_compact_ones_may_be_there_already():
    validate(Request(messages=[HI], tools=with_help([tool(compact=True)])))


# --- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"status": "asleep"}, ("status", "unknown")),
        ({"status": "awaiting_user"}, ("pending_question", "required_for_status")),
        ({"status": "awaiting_tools"}, ("pending_tool_calls", "required_for_status")),
        ({"status": "error"}, ("metadata", "error_required_for_status")),
        ({"status": "error", "metadata": None}, ("metadata", "error_required_for_status")),
        ({"pending_tool_calls": None}, ("pending_tool_calls", "invalid_type")),
        ({"pending_tool_calls": [5]}, ("pending_tool_calls", "invalid_type")),
        ({"thread": None}, ("thread", "invalid_type")),
        (
            {"thread": Thread(messages=[Message(role="x", content="")])},
            (["thread", "messages", 0, "role"], "unknown"),
        ),
    ],
)
def test_invalid_sessions(fields, failure):
    assert failures(Session(**fields)) == [failure]
    assert reason(Session(**fields)) == "invalid_session"


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"operation": "draw"}, ("operation", "unknown")),
        ({"n": 0}, ("n", "must_be_positive")),
        ({"response_format": "oil"}, ("response_format", "unknown")),
        ({"size": (0, 1)}, ("size", "invalid_shape")),
        ({"size": (1, 2, 3)}, ("size", "invalid_shape")),
        ({"size": 5}, ("size", "invalid_shape")),
        ({"input_images": None}, ("input_images", "not_a_list")),
        ({"operation": "edit", "input_images": None}, ("input_images", "not_a_list")),
        ({"operation": "variation", "prompt": None, "input_images": 5}, ("input_images", "not_a_list")),
        ({"operation": "edit", "input_images": ["x"]}, (["input_images", 0], "invalid_image")),
        ({"mask": "x"}, ("mask", "invalid_image")),
        ({"prompt": ""}, ("prompt", "required_for_operation")),
        ({"prompt": 5}, ("prompt", "required_for_operation")),
        ({"input_images": [PICTURE]}, ("input_images", "must_be_empty")),
        ({"operation": "edit", "input_images": []}, ("input_images", "invalid_count")),
        ({"operation": "edit", "input_images": [PICTURE] * 3}, ("input_images", "invalid_count")),
        (
            {"operation": "edit", "prompt": None, "input_images": [PICTURE]},
            ("prompt", "required_for_operation"),
        ),
        ({"operation": "variation", "input_images": [PICTURE]}, ("prompt", "not_allowed_for_operation")),
        ({"operation": "variation", "prompt": ""}, ("input_images", "invalid_count")),
    ],
)
def test_invalid_image_requests(fields, failure):
    request = ImageRequest(**({"prompt": "a cat"} | fields))
    assert failures(request) == [failure]
    assert reason(request) == "invalid_image_request"


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": "binary", "size": (1, 2)},
        {"response_format": "base64", "size": "1024x1024"},
        {"response_format": "url", "operation": "edit", "input_images": [PICTURE], "mask": PICTURE},
        {"operation": "edit", "input_images": [PICTURE] * 2},
        {"operation": "variation", "prompt": None, "input_images": [PICTURE]},
    ],
)
def test_valid_image_requests(fields):
    validate(ImageRequest(**({"prompt": "a cat"} | fields)))


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, {}, [HI], "hi", Image.from_url("u")], ids=lambda v: type(v).__name__)
def test_nothing_else_is_validated(value):
    with pytest.raises(
        TypeError, match="validate takes one of Message, Tool, Thread, Request, Session, ImageRequest"
    ):
        validate(value)


@given(
    strategies.messages()
    | strategies.tools()
    | strategies.threads(open_calls=True)
    | strategies.requests()
    | strategies.sessions()
    | strategies.image_requests()
    | strategies.embedding_requests()
    | strategies.moderation_requests()
    | strategies.speech_requests()
    | strategies.transcription_requests()
    | strategies.classification_requests()
)
def test_what_the_strategies_draw_is_valid(value):
    validate(value)


GREAT = 10**5000  # more digits than Python writes
ODD = st.recursive(
    strategies.json_values()
    | st.sampled_from([b"x", float("nan"), object(), HI, PICTURE])
    | st.sampled_from([1, -1]).map(lambda sign: sign * GREAT)
    | st.just(1).map(lambda one: (one * GREAT, one)),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=3,
)


@given(strategies.threads())
def test_a_conversation_in_text_alone_is_seen_to_be_whole(thread):
    assert are_whole(thread.messages) == all(isinstance(each.content, str) for each in thread.messages)


@given(st.data())
def test_anything_at_all_is_valid_or_a_validation_error(data):
    value = data.draw(strategies.requests() | strategies.sessions() | strategies.image_requests())
    field = data.draw(st.sampled_from(value.__struct_fields__))
    with contextlib.suppress(ValidationError):
        validate(msgspec.structs.replace(value, **{field: data.draw(ODD)}))


@given(st.lists(ODD, max_size=2), ODD, st.lists(ODD, max_size=2))
def test_calls_and_answers_with_any_id_are_paired_or_are_not(ids, answered, more):
    messages = [calling(*ids), answer(answered), calling(*more)]
    for value in (Thread(messages=messages), Request(messages=messages)):
        with contextlib.suppress(ValidationError):
            validate(value)


@pytest.mark.parametrize("id", [[], {}, 5, None], ids=str)
def test_a_call_whose_id_is_no_text_has_no_answer(id):
    validate(Thread(messages=[calling(id)]))
    assert failures(Request(messages=[calling(id), answer("c0")])) == [
        (["messages", 1, "tool_call_id"], "unknown_tool_call_id"),
        (["messages", 0, "tool_calls"], "unanswered_tool_call"),
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Request(messages=[HI], temperature=GREAT), "expected a number from 0 to 2, got int"),
        (Request(messages=[HI], max_tokens=-GREAT), "expected a whole number above 0, got int"),
        (ImageRequest(prompt="a", n=-GREAT), "expected a whole number above 0, got int"),
        (ImageRequest(prompt="a", size=(GREAT, 0)), "a tuple of two whole numbers above 0, got tuple"),
        (ImageRequest(prompt="a", size=[1, 2]), "a tuple of two whole numbers above 0, got list"),
    ],
    ids=["temperature", "max_tokens", "n", "size", "list"],
)
def test_a_number_that_cannot_be_shown_is_called_one(value, words):
    assert words in message_of(value)


# --- the message --------------------------------------------------------------------------------------------------


def message_of(value):
    with pytest.raises(ValidationError) as caught:
        validate(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": "hot"}, "temperature: out_of_range (expected a number from 0 to 2, got 'hot')"),
        ({"max_tokens": "10"}, "max_tokens: must_be_positive (expected a whole number above 0, got '10')"),
        ({"response_format": "json"}, "such as allm.json_schema(name, type), got 'json')"),
        ({"response_format": Message}, "got the class Message; pass it as response_model)"),
        ({"response_format": list[int]}, "got GenericAlias; pass it as response_model)"),
        ({"max_tokens": Message}, "got the class Message)"),
        ({"prompt_cache": "secret"}, "'short' or 'long', got str)"),
        ({"messages": []}, "messages: empty (give at least one message"),
        (
            {"messages": ["hi"]},
            "messages.0: invalid_type (expected a Message, such as allm.user('…'), got str)",
        ),
        ({"messages": [Message(role="usr", content="x")]}, "'system', 'tool', 'user', got 'usr')"),
        ({"messages": [Message(role="user", content=3)]}, "and DocumentPart, got int)"),
        ({"tools": [tool(), 3]}, "tools.1: invalid_type (expected a Tool (see allm.tool), got int)"),
        ({"temperature": "x" * 58}, f"got '{'x' * 58}')"),
        ({"temperature": "x" * 59}, "got str)"),
        ({"temperature": 3, "max_tokens": 0}, "got 3); max_tokens: must_be_positive (expected"),
        ({"temperature": 2.5}, "got 2.5)"),
        ({"max_tokens": True}, "got True)"),
        ({"messages": [Message(role=None, content="x")]}, "got None)"),
    ],
    ids=range(18),
)
def test_a_failure_says_what_belongs_there_and_what_is_there(changes, words):
    request = Request(**{"messages": [Message(role="user", content="hi")], **changes})
    assert words in message_of(request)


def question(**fields):
    asked = ClassificationQuestion(**{"type": "yes_no", "instructions": "?"} | fields)
    return ClassificationRequest(state="a", questions={"messages": asked})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            Request(messages=[HI], prompt_cache=True),
            "expected True (only as an option of a call), or a dict with",
        ),
        (ImageRequest(operation="edit", prompt="a"), "an edit takes one or two pictures"),
        (ImageRequest(prompt="a", input_images=[PICTURE]), "use operation='edit' or allm.edit_image"),
        (ImageRequest(), "describe the picture in a non-empty text"),
        (
            ImageRequest(operation="variation", prompt="a", input_images=[PICTURE]),
            "use an edit if you need one",
        ),
        (ImageRequest(prompt="a", size=(0, 1)), "a tuple of two whole numbers above 0, got (0, 1)"),
        (
            Session(thread=Thread(messages="hi")),
            "expected a list of messages, such as [allm.user('…')], got str",
        ),
        (ClassificationRequest(state="a", questions={"messages": 5}), "a ClassificationQuestion, such as"),
        (ClassificationRequest(state="a", questions={5: 5}), "a ClassificationQuestion, such as"),
        (question(criteria=5), "None, or a dict that says what 'true' and 'false' mean, got int"),
        (question(type="score", criteria=["one"]), "at least two levels"),
        (ModerationRequest(input=[5]), "each must be a text or an ImagePart"),
        (Request(messages=[Message(role="user", content=[5])]), "each part must be a TextPart"),
    ],
    ids=range(13),
)
def test_every_failure_says_what_to_do(value, words):
    assert words in message_of(value)


def test_what_was_said_is_not_in_the_message():
    assert "secret" not in message_of(Request(messages=[Message(role="user", content=["secret"])]))
    assert "secret" not in message_of(EmbeddingRequest(input=["a", b"secret"]))


@given(strategies.requests(), strategies.json_values())
def test_any_value_has_words(request_, value):
    for field in ("messages", "tools", "temperature", "max_tokens", "response_format", "prompt_cache"):
        with contextlib.suppress(ValidationError):  # and nothing else
            validate(msgspec.structs.replace(request_, **{field: value}))
