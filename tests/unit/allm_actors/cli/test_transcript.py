"""A turn is printed as its events say, and nothing of it can break the terminal."""

import io

import pytest

from allm_actors.cli.terminal import Terminal
from allm_actors.cli.transcript import Transcript, call_text, count_text, cut
from allm_actors.data import (
    AdapterError,
    AskUserRequested,
    ChatResult,
    Err,
    Event,
    Message,
    Ok,
    Response,
    Session,
    StepResult,
    TextDelta,
    Thread,
    ToolCallCompleted,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolHalt,
    ToolResultEncoded,
    Usage,
)


def printed(*events: Event, result: ChatResult | None = None) -> tuple[list[str], str]:
    out, err = io.StringIO(), io.StringIO()
    transcript = Transcript(Terminal(out, err, io.StringIO(), {"NO_COLOR": "1"}))
    for event in events:
        transcript.show(event)
    if result is not None:
        transcript.end(result)
    return out.getvalue().splitlines(), err.getvalue()


def test_text_is_printed_as_it_comes() -> None:
    assert printed(TextDelta("Hel"), TextDelta("lo\n"))[0] == ["Hello"]


def test_tools_have_a_line_when_they_start_and_when_they_answer() -> None:
    lines, _ = printed(
        TextDelta("Let me see."),
        ToolExecutionStarted("c0", "get_weather", {"city": "Lisbon"}),
        ToolExecutionCompleted("c0", "get_weather", Ok({"c": 17})),
        ToolResultEncoded("c0", '{"c":17}'),
    )
    assert lines[:2] == ["Let me see.", '  ⚙ get_weather(city="Lisbon")']
    assert lines[2].startswith('  ✓ get_weather  {"c":17}')


def test_a_tool_that_failed_is_marked() -> None:
    lines, _ = printed(
        ToolExecutionStarted("c0", "get_tides", {}),
        ToolExecutionCompleted("c0", "get_tides", Err("no table")),
        ToolResultEncoded("c0", '{"error":"no table"}'),
    )
    assert lines[1].startswith('  ✗ get_tides  {"error":"no table"}')


def test_a_call_of_an_unknown_tool_has_its_name_and_cannot_steer_the_terminal() -> None:
    answer = ToolResultEncoded("id\x1b]0;x\x07", "unknown tool")
    called = ToolCallCompleted(answer.id, "nope\n\x1b[2J", {})
    assert printed(called, answer)[0] == ["  ✓ nope ␛[2J  unknown tool"]
    assert printed(answer)[0] == ["  ✓ id␛]0;x␇  unknown tool"], "an adapter may leave the call out"


def test_a_failed_turn_says_why_on_stderr() -> None:
    error = AdapterError("rate_limited", message="too fast; wait 3 s")
    lines, complaint = printed(
        TextDelta("Well"), result=ChatResult(halted_reason="error", metadata={"error": error})
    )
    assert lines == ["Well"]
    assert complaint == "allm: too fast; wait 3 s\n"


@pytest.mark.parametrize(
    ("reason", "out", "complaint"),
    [
        ("tool_error", [], "allm: the turn failed without giving a reason\n"),
        ("cancelled", ["stopped; what has arrived so far is kept"], ""),
        ("interrupted", ["stopped; what has arrived so far is kept"], ""),
        ("max_turns", [], "allm: stopped after 2 model calls, all of which called tools\n"),
    ],
)
def test_how_a_turn_ended_is_said_on_a_line_of_its_own(reason: str, out: list[str], complaint: str) -> None:
    steps = [StepResult(thread=Thread())] * 2
    assert printed(TextDelta("Well"), result=ChatResult(halted_reason=reason, steps=steps)) == (
        ["Well", *out],
        complaint,
    )


def test_only_a_turn_that_came_to_its_end_is_as_it_should_be() -> None:
    def good(reason: str, finish: str = "stop") -> bool:
        response = Response(message=Message(role="assistant", content="hi"), finish_reason=finish)
        result = ChatResult(halted_reason=reason, final_response=response)
        terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO(), {})
        return Transcript(terminal).end(result)

    assert good("completed")
    assert not any(map(good, ("error", "tool_error", "cancelled", "interrupted", "max_turns")))
    assert not good("completed", "length")


def test_a_tool_that_asks_or_ends_the_turn_says_so() -> None:
    lines, _ = printed(
        ToolExecutionStarted("c0", "choose", {}),
        AskUserRequested(tool_call_id="c0", tool_name="choose", question="Window?"),
        ToolExecutionStarted("c1", "enough", {}),
        ToolHalt(tool_call_id="c1", reason="late"),
    )
    assert [lines[1][:20], lines[3][:34]] == ["  ✓ choose  asks you", "  ✓ enough  ends the turn: late"]


def test_messages_are_counted() -> None:
    thread = Thread()
    assert count_text(Session(thread=thread)) == "0 messages"
    assert count_text(Session(thread=thread.add_user("a"))) == "1 message"
    assert count_text(Session(thread=thread.add_user("a").add_user("b"))) == "2 messages"


def test_a_call_is_written_as_a_programmer_would() -> None:
    assert call_text("f", {"a": "é", "b": [1, True]}) == 'f(a="é", b=[1, true])'


def test_a_call_cannot_be_written_so_that_it_reads_as_another() -> None:
    assert call_text("pay", {'to="bob", note': "x"}) == 'pay("to=\\"bob\\", note"="x")'
    assert call_text("rm", {"path": "a\u202etxt.exe"}) == 'rm(path="a\\u202etxt.exe")'


def test_what_is_long_is_cut_to_one_line() -> None:
    assert cut("one\ntwo\x1b", 50) == "one two␛"
    assert cut("x" * 100, 30) == "x" * 29 + "…"
    assert cut("x" * 30, 30) == "x" * 30
    assert cut("x" * 100, 3) == "x" * 19 + "…", "there is always a little room"


def test_tokens_are_added_up_as_far_as_they_are_known() -> None:
    steps = [
        StepResult(thread=Thread(), response=Response(usage=Usage(input_tokens=3, output_tokens=4))),
        StepResult(thread=Thread(), response=Response()),
        StepResult(thread=Thread(), response=Response(usage=Usage(total_tokens=5))),
    ]
    transcript = Transcript(Terminal(io.StringIO(), io.StringIO(), io.StringIO(), {}))
    assert transcript.summary(ChatResult(steps=steps)).endswith(" s · 12 tokens")
    assert transcript.summary(ChatResult(steps=steps[1:2])).endswith(" s")
