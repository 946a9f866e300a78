"""What Ollama is sent, and what is made of its answers where no recording shows it."""

import json

import pytest

from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    Request,
    TextPart,
    Tool,
    ToolCall,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.ollama.chat import DIALECT
from allm_actors.engine.lines import LineDecoder
from allm_actors.engine.wire import HttpAnswer

ROW = PROVIDERS["ollama"]
TOOL = Tool(name="look", description="Looks.", schema={"type": "object"})


def sent(*messages, **fields):
    request = Request(messages=list(messages) or [user("hi")], model="llama3", **fields)
    http = DIALECT.encode(request, ROW, "http://x")
    assert http.url == "http://x/api/chat"
    return json.loads(http.body)


def user(content):
    return Message(role="user", content=content)


def stream(*lines, end=b"\n"):
    decoder = DIALECT.decoder(ROW)
    return decoder.feed(b"\n".join(json.dumps(line).encode() for line in lines) + end) + decoder.end()


def test_a_plain_question():
    assert sent() == {"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_parameters_of_the_model_are_options_and_the_rest_is_the_requests():
    body = sent(
        temperature=0.5,
        max_tokens=9,
        response_format={"type": "json_schema", "name": "n", "schema": {"type": "object"}},
        options={
            "num_ctx": 4096,
            "keep_alive": "5m",
            "truncate": False,
            "shift": False,
            "options": {"seed": 1},
        },
    )
    assert (body["truncate"], body["shift"]) == (False, False)
    assert body["options"] == {"temperature": 0.5, "num_predict": 9, "num_ctx": 4096, "seed": 1}
    assert (body["keep_alive"], body["format"]) == ("5m", {"type": "object"})
    assert sent(response_format={"type": "json_object"})["format"] == "json"


def test_calls_and_answers_go_by_name():
    call = ToolCall(id="c", name="look", arguments={"x": 1})
    said = Message(role="assistant", content="", metadata={"tool_calls": [call]})
    body = sent(user("hi"), said, Message(role="tool", content="a", tool_call_id="c"), tools=[TOOL])
    assert body["messages"][1]["tool_calls"] == [{"function": {"name": "look", "arguments": {"x": 1}}}]
    assert body["messages"][2] == {"role": "tool", "content": "a", "tool_name": "look"}
    assert body["tools"][0]["function"]["name"] == "look"


def test_what_the_model_thought_goes_back_with_its_calls():
    call = {"function": {"name": "look", "arguments": {"x": 1}}}
    lines = [{"message": {"thinking": "I "}}, {"message": {"thinking": "look."}}]
    done = {"message": {"content": "", "tool_calls": [call]}, "done": True, "done_reason": "stop"}
    said = stream(*lines, done)[-1].message
    body = sent(user("hi"), said, tools=[TOOL])
    assert body["messages"][1] == {
        "role": "assistant",
        "content": "",
        "thinking": "I look.",
        "tool_calls": [call],
    }
    silent = stream({**done, "message": {"content": "No."}})[-1].message
    assert sent(user("hi"), silent)["messages"][1] == {"role": "assistant", "content": "No."}


def test_a_forced_call_is_refused_and_none_means_no_tools():
    assert "tools" not in sent(tools=[TOOL], tool_choice="none")
    with pytest.raises(AdapterError, match="cannot force a tool call") as refused:
        sent(tools=[TOOL], tool_choice="required")
    assert refused.value.reason == "unsupported_feature"
    assert "tools" not in sent(tool_choice={"type": "none"})  # of no tools


def test_pictures_are_base64():
    picture = ImagePart(image=Image.from_bytes(b"\1\2", "image/png"))
    assert sent(user([TextPart(text="what?"), picture]))["messages"] == [
        {"role": "user", "content": "what?", "images": ["AQI="]}
    ]
    with pytest.raises(AdapterError, match="Ollama takes no picture by URL"):
        sent(user([ImagePart(image=Image.from_url("https://y/z.png"))]))


def test_the_last_line_need_not_be_ended():
    done = {"message": {"content": "hi"}, "done": True, "done_reason": "stop"}
    last = stream(done, end=b"")[-1]
    assert isinstance(last, MessageCompleted)
    assert last.message.content == "hi"


@pytest.mark.parametrize(("reason", "finish"), [("stop", "stop"), ("length", "length"), ("load", "other")])
def test_how_it_ends(reason, finish):
    assert (
        stream({"message": {"content": "hi"}, "done": True, "done_reason": reason})[-1].finish_reason
        == finish
    )


def test_an_error_in_the_stream_and_a_refusal():
    last = stream({"message": {"content": "hi"}, "done": False}, {"error": "it fell over"})[-1]
    assert isinstance(last, ErrorEvent)
    assert "it fell over" in last.error.message
    failure = HttpAnswer(status=404, body=b'{"error":"model \\"nope\\" not found, try pulling it first"}')
    error = DIALECT.decode_error(failure, ROW)
    assert (error.reason, "try pulling it first" in error.message) == ("invalid_request", True)


def test_a_line_that_is_too_long_is_never_kept():
    lines = LineDecoder(max_line_bytes=8)
    assert lines.feed(b"short\n123456789") == [b"short"]
    assert lines.overflowed
    assert lines.feed(b"\nmore\n") == lines.end() == []


def test_many_lines_that_come_in_pieces_are_no_long_line():
    lines = LineDecoder(max_line_bytes=8)
    told = [line for _ in range(4) for piece in (b"12345", b"6\n") for line in lines.feed(piece)]
    assert (told, lines.broken) == ([b"123456"] * 4, None)
