"""A response's text, or why there is none."""

import pytest

from allm_actors.data import AdapterError, ChatResult, Message, Response, TextPart, UnwrapError
from allm_actors.data.unwrap import unwrap


def refused(response):
    with pytest.raises(UnwrapError) as caught:
        unwrap(response)
    return caught.value.reason, caught.value.finish_reason


def test_the_text():
    assert unwrap(Response(output_text="hi", finish_reason="stop")) == "hi"
    assert unwrap(Response(output_text="", finish_reason="stop")) == ""
    assert unwrap(Response(message=Message(role="assistant", content="hi"), finish_reason="stop")) == "hi"


def test_structured_content_wins_over_text():
    message = Message(role="assistant", content=[TextPart(text="a")])
    assert refused(Response(message=message, output_text="a", finish_reason="stop")) == (
        "structured_content",
        "stop",
    )


def test_a_stop_without_text():
    assert refused(Response(finish_reason="stop")) == ("empty_stop_response", "stop")


@pytest.mark.parametrize("reason", ["length", "tool_calls", None, "error"], ids=str)
def test_another_finish(reason):
    assert refused(Response(output_text="hi", finish_reason=reason)) == ("non_stop_finish", reason)


def test_the_error_of_the_stream_itself():
    error = AdapterError("rate_limited")
    with pytest.raises(AdapterError) as caught:
        unwrap(Response(finish_reason="error", metadata={"error": error}))
    assert caught.value is error
    answered = Response(output_text="hi", finish_reason="length", metadata={"error": error})
    assert refused(answered) == ("non_stop_finish", "length")


def test_an_error_that_is_a_text_is_quoted():
    broken = Response(finish_reason="error", metadata={"error": "the pipe burst"})
    assert refused(broken) == ("non_stop_finish", "error")
    with pytest.raises(UnwrapError, match=r"with error \(the pipe burst\)"):
        unwrap(broken)


def test_a_refusal_is_quoted():
    no = Response(output_text="", finish_reason="content_filter", metadata={"refusal": "I cannot. " * 99})
    assert refused(no) == ("non_stop_finish", "content_filter")
    with pytest.raises(UnwrapError, match=r"the model refused: (I cannot\. ){50}$"):
        unwrap(no)


def test_nothing_but_a_response_is_unwrapped():
    with pytest.raises(TypeError, match="final_response"):
        unwrap(ChatResult())
