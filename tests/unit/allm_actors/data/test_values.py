"""Values: frozen, equal by content, and the little they can do."""

import msgspec
import pytest

from allm_actors.data import (
    EVENTS,
    TAGS,
    AskUser,
    ChatResult,
    EmbeddingResponse,
    Image,
    ImagePart,
    ImageResponse,
    Message,
    MessageStarted,
    Response,
    Session,
    StepResult,
    TextPart,
    Thread,
    Tool,
    ToolCall,
    Usage,
)


def test_values_are_frozen_and_equal_by_content():
    message = Message(role="user", content="hi")
    assert message == Message(role="user", content="hi")
    with pytest.raises(AttributeError):
        message.content = "other"
    with pytest.raises(TypeError):
        Message(role="user", content="hi", colour="red")


def test_defaults_are_not_shared():
    one, other = Message(role="user", content=""), Message(role="user", content="")
    one.metadata["mine"] = True
    assert other.metadata == {}


def test_the_parts_of_a_message():
    assert Message(role="user", content="hi").parts() == [TextPart(text="hi")]
    parts = [ImagePart(image=Image.from_url("u"))]
    assert Message(role="user", content=parts).parts() == parts


def test_the_calls_of_a_message():
    call = ToolCall(id="c0", name="f", arguments={})
    assert Message(role="assistant", content="", metadata={"tool_calls": [call]}).tool_calls == [call]
    assert Message(role="assistant", content="").tool_calls == []


def test_a_thread_only_grows():
    empty = Thread()
    thread = empty.add_system("a").add_user("b").add_assistant("c")
    assert [m.role for m in thread.messages] == ["system", "user", "assistant"]
    assert empty.messages == []
    assert empty.last is None
    assert thread.last.content == "c"
    assert Thread.from_messages(iter(thread.messages)) == thread
    assert Thread(metadata={"k": 1}).add_user("b").metadata == {"k": 1}
    assert Session(thread=thread).messages == thread.messages


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        (Usage(), None),
        (Usage(input_tokens=1), None),
        (Usage(input_tokens=1, output_tokens=2), 3),
        (Usage(input_tokens=1, output_tokens=2, total_tokens=9), 9),
        (Usage(input_tokens=0, output_tokens=0, total_tokens=0), 0),
    ],
    ids=["nothing", "half", "sum", "said", "zero"],
)
def test_all_tokens(usage, total):
    assert usage.total() == total


def test_the_text_of_a_response():
    listed = Message(role="assistant", content=[TextPart(text="a")])
    assert Response().text() is None
    assert Response(output_text="").text() == ""
    assert Response(message=Message(role="assistant", content="hi")).text() == "hi"
    assert Response(message=listed).text() is None


def test_whether_a_chat_halted():
    assert ChatResult(halted_reason="max_turns").halted
    assert not ChatResult(halted_reason="completed").halted


def test_what_a_chat_said_last():
    assert ChatResult().text() is None
    assert ChatResult(final_response=Response(output_text="hi")).text() == "hi"


def used(tokens, *, text=None):
    return Response(output_text=text, usage=Usage(input_tokens=tokens, total_cost=tokens / 1000))


@pytest.mark.parametrize(
    ("steps", "final", "tokens"),
    [
        ([], None, None),
        ([], used(5), 5),
        ([used(5)], used(5), 5),
        ([used(5), used(7)], used(7), 12),
        ([used(5), used(5)], used(5), 10),
        ([used(5), None], None, 5),
        ([used(5)], used(7, text="One "), 12),
    ],
    ids=[
        "nothing",
        "broken off at once",
        "one step",
        "two",
        "two alike",
        "a step that failed",
        "broken off after a step",
    ],
)
def test_what_a_chat_has_used(steps, final, tokens):
    steps = [StepResult(thread=Thread(), response=response) for response in steps]
    spent = ChatResult(steps=steps, final_response=final).usage()
    assert spent == Usage(input_tokens=tokens, total_cost=None if tokens is None else tokens / 1000)


def test_a_question_keeps_its_options_by_name():
    question = AskUser("which?", choices=["a"], self="x")
    assert (question.question, question.options) == ("which?", {"choices": ["a"], "self": "x"})
    assert AskUser(question="which?", choices=["a"]) == AskUser("which?", choices=["a"])
    assert AskUser("which?", question="an option").options == {"question": "an option"}
    with pytest.raises(TypeError, match="AskUser needs a question"):
        AskUser(choices=["a"])


def test_a_tool_can_be_called_like_its_function():
    assert Tool(name="f", description="", schema={}, handler=len)("abc") == 3
    with pytest.raises(TypeError, match="tool 'f' has no handler"):
        Tool(name="f", description="", schema={})()


def test_there_are_sixteen_events_with_sixteen_tags():
    assert len(EVENTS) == len(set(TAGS)) == 16


class TestImages:
    def test_the_type_of_a_file_is_its_extension(self):
        assert Image.from_file("a/b.PNG").mime_type == "image/png"
        assert Image.from_file("b.jpeg").mime_type == "image/jpeg"
        assert Image.from_file("b.txt").mime_type is None

    def test_bytes_and_data_uris(self, tmp_path):
        path = tmp_path / "a.gif"
        path.write_bytes(b"\x01\x02")
        uri = "data:image/gif;base64,AQI="
        for image in (
            Image.from_bytes(b"\x01\x02", "image/gif"),
            Image.from_base64("AQI=", "image/gif"),
            Image.from_data_uri(uri),
            Image.from_file(path),
        ):
            assert image.to_bytes() == b"\x01\x02"
            assert image.to_data_uri() == uri

    def test_what_cannot_be_read_says_why(self, tmp_path):
        url = Image.from_url("http://x/y.png")
        for read in (url.to_bytes, url.to_data_uri):
            with pytest.raises(ValueError, match="remote_source"):
                read()
        with pytest.raises(ValueError, match="invalid_base64"):
            Image.from_base64("?", "image/png").to_bytes()
        with pytest.raises(ValueError, match="missing_mime_type"):
            Image.from_file(tmp_path / "x.bin").to_data_uri()
        with pytest.raises(FileNotFoundError):
            Image.from_file(tmp_path / "x.png").to_bytes()
        with pytest.raises(ValueError, match="not a data URI"):
            Image.from_data_uri("http://x")


@pytest.mark.parametrize(
    ("make", "data", "mime_type"),
    [
        (Image.from_bytes, b"x", None),
        (Image.from_bytes, "x", "image/png"),
        (Image.from_base64, b"eA==", "image/png"),
        (Image.from_base64, "eA==", None),
    ],
    ids=["no type", "text", "bytes", "no type of text"],
)
def test_a_picture_of_bytes_has_bytes_and_a_type(make, data, mime_type):
    with pytest.raises(TypeError, match="MIME type"):
        make(data, mime_type)


@pytest.mark.parametrize(
    ("path", "mime"),
    [
        ("a.PNG", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.jpeg", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.gif", "image/gif"),
        ("a.tiff", None),
        ("a", None),
    ],
)
def test_the_type_of_a_file_is_in_its_name_and_the_file_is_not_touched(path, mime):
    assert Image.from_file(path) == Image(source=("file", path), mime_type=mime)


def test_the_bytes_of_a_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x01\x02")
    for image in (
        Image.from_bytes(b"\x01\x02", "image/png"),
        Image.from_base64("AQI=", "image/png"),
        Image.from_file(path),
        Image(source=("file", path), mime_type="image/png"),
        Image.from_data_uri("data:image/png;base64,AQI="),
        Image.from_data_uri("DATA:image/png;BASE64,AQI="),
    ):
        assert image.to_bytes() == b"\x01\x02"
        assert image.to_data_uri() == "data:image/png;base64,AQI="
    assert Image.from_base64("not base64", "image/png").to_data_uri() == "data:image/png;base64,not base64"


@pytest.mark.parametrize(
    ("take", "error", "words"),
    [
        (lambda: Image.from_url("https://example.org/a.png").to_bytes(), ValueError, "remote_source"),
        (lambda: Image.from_url("https://example.org/a.png").to_data_uri(), ValueError, "remote_source"),
        (lambda: Image.from_base64("%", "image/png").to_bytes(), ValueError, "invalid_base64"),
        (lambda: Image(source=("binary", b"x")).to_data_uri(), ValueError, "missing_mime_type"),
        (lambda: Image.from_file("/nonexistent.png").to_bytes(), OSError, "nonexistent"),
        (lambda: Image.from_data_uri("data:image/png,x"), ValueError, "data URI"),
        (lambda: Image.from_data_uri("data:;base64,AQI="), ValueError, "missing_mime_type.*image/png"),
        (lambda: Image.from_data_uri("data:;charset=a/b;base64,AQI="), ValueError, "missing_mime_type"),
        (lambda: Image.from_data_uri("data:png;base64,AQI="), ValueError, "missing_mime_type"),
        (lambda: Image.from_data_uri("data:;base64"), ValueError, "data URI"),
        (lambda: Image.from_data_uri(b"data:image/png;base64,AQI="), TypeError, "takes text, got bytes"),
    ],
    ids=range(11),
)
def test_a_picture_without_bytes_says_why(take, error, words):
    with pytest.raises(error, match=words):
        take()


STATUSES = ("idle", "awaiting_user", "awaiting_tools", "completed", "error")


@pytest.mark.parametrize("status", STATUSES)
def test_a_session_takes_messages_whatever_its_status(status):
    call = ToolCall(id="c0", name="refund", arguments={})
    before = Session(id="s", status=status, pending_tool_calls=[call], metadata={"n": 1})
    parts = [TextPart(text="x")]
    session = before.append_user("hi").append_tool_result("c0", "5").append_tool_result("c0", parts)
    session = session.append(Message(role="assistant", content="Well."))
    assert [(m.role, m.content, m.tool_call_id) for m in session.messages] == [
        ("user", "hi", None),
        ("tool", "5", "c0"),
        ("tool", parts, "c0"),
        ("assistant", "Well.", None),
    ]
    assert msgspec.structs.replace(session, thread=before.thread) == before
    assert before.messages == []


def test_a_session_takes_messages_under_the_names_of_a_thread_too():
    message = Message(role="system", content="Be brief.")
    added = Session().add(message, message).add_user("hi").add_tool_result("c0", "x")
    assert added == Session().append(message, message).append_user("hi").append_tool_result("c0", "x")
    assert added.thread == Thread().add(message, message).add_user("hi").add(added.messages[-1])


@pytest.mark.parametrize("cls", [Session, Response, ImageResponse, EmbeddingResponse, MessageStarted])
def test_no_two_values_share_what_can_be_changed_by_default(cls):
    one, other = cls(), cls()
    for name in cls.__struct_fields__:
        mine, theirs = getattr(one, name), getattr(other, name)
        shared = isinstance(mine, list | dict) or hasattr(mine, "__struct_fields__")
        assert not (shared and mine is theirs), name
    assert Session().thread.messages is not Session().thread.messages
