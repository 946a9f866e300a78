"""A run can be ended at any moment, and its thread can be asked with again."""

import msgspec
import pytest

from allm_actors.data import (
    ChatCompleted,
    ErrorEvent,
    MessageStarted,
    Request,
    StreamError,
    TextDelta,
    ToolCallStarted,
    ToolExecutionCompleted,
)
from allm_actors.data.rules.validate import validate
from allm_actors.execution import loop
from allm_actors.execution.effects import (
    AskHalt,
    CancelModel,
    CancelTool,
    Checkpoint,
    Emit,
    Finish,
    RunTool,
)
from allm_actors.execution.inputs import (
    Cancelled,
    HandlerEnded,
    ModelEnded,
    ModelEvents,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
    ToolTimedOut,
)
from allm_actors.execution.tools import settle
from tests.unit.allm_actors.execution.driver import (
    HI,
    RATE_LIMITED,
    broken,
    calls,
    echo,
    kinds,
    options,
    ran_until_tools,
    shape,
    text,
    tools,
)

CUTS = [("cancelled", {}), ("interrupted", {}), ("error", {"error": RATE_LIMITED})]


def cut(state, reason):
    return loop.step(state, Cancelled(reason, RATE_LIMITED if reason == "error" else None))


@pytest.mark.parametrize(("reason", "metadata"), CUTS)
def test_a_cancel_before_the_first_word_keeps_the_thread(reason, metadata):
    _, effects = cut(loop.start(options(), HI)[0], reason)
    shown = [Emit] if reason == "error" else []
    assert kinds(effects) == [CancelModel, *shown, Emit, Finish]
    result = effects[-1].result
    assert (result.halted_reason, result.metadata, result.thread) == (reason, metadata, HI)
    assert effects[-2].events == (ChatCompleted(result),)


@pytest.mark.parametrize("reason", ["cancelled", "interrupted", "error"])
@pytest.mark.parametrize(
    "heard", [[], [MessageStarted()], [MessageStarted(), TextDelta("{par")]], ids=range(3)
)
def test_a_second_pass_that_nobody_answers_was_not_asked_for(heard, reason):
    state, _ = loop.start(options(structured_finalize=True), HI)
    state, _ = loop.step(state, ModelEvents(0, text("free")))
    state, effects = loop.step(state, ModelEnded(0))
    assert shape(effects[-1].thread)[-1] == "U Now provide your final structured response."
    state, _ = loop.step(state, ModelEvents(1, heard))
    _, effects = cut(state, reason)
    said = shape(effects[-1].result.thread)
    asked = ["U Now provide your final structured response.", "A {par"] if len(heard) == 2 else []
    assert said == ["U hi", "A free", *asked]


@pytest.mark.parametrize(("reason", "metadata"), CUTS)
def test_a_cancel_in_the_middle_of_an_answer_keeps_its_text(reason, metadata):
    state, _ = loop.start(options(), HI)
    state, _ = loop.step(
        state, ModelEvents(0, [MessageStarted(), TextDelta("par"), ToolCallStarted("c0", "echo")])
    )
    state, effects = cut(state, reason)
    shown = [Emit] if reason == "error" else []
    assert kinds(effects) == [CancelModel, Checkpoint, *shown, Emit, Finish]
    result = effects[-1].result
    assert result.thread.last.content == "par"
    assert result.thread.last.metadata == {"finish_reason": None, "partial": True}
    assert (result.final_response.output_text, result.halted_reason, result.metadata) == (
        "par",
        reason,
        metadata,
    )
    validate(Request(messages=result.thread.messages))


@pytest.mark.parametrize(("reason", "metadata"), CUTS)
def test_a_cancel_among_tools_answers_every_call(reason, metadata):
    known = tools(echo=echo, mine=None)
    made = [("c0", "echo"), ("c1", "echo"), ("c2", "echo"), ("m1", "mine")]
    state, effects = ran_until_tools(*made, tools=known, max_concurrency=2)
    state, _ = loop.step(state, ToolReturned("c0", settle(effects[1].call, "ok")))
    state, effects = cut(state, reason)
    result = effects[-1].result
    why = "interrupted" if reason == "interrupted" else "cancelled"
    assert shape(result.thread)[2:] == [
        "T(c0) ok",
        f'T(c1) {{"error":"{why}: the outcome is unknown"}}',
        f'T(c2) {{"error":"{why}: the outcome is unknown"}}',
        f'T(m1) {{"error":"{why}: the call was not started"}}',
    ]
    assert [effect.call_id for effect in effects if isinstance(effect, CancelTool)] == ["c1", "c2"]
    assert (result.halted_reason, result.metadata, len(result.steps)) == (reason, metadata, 1)
    assert result.steps[0].metadata == {}, "the caller's call is answered, and left to nobody"
    assert kinds(effects)[-4:] == [Emit, Emit, Emit, Finish]
    validate(Request(messages=result.thread.messages))


def test_a_cancel_tells_calls_that_wait_from_calls_that_run():
    state, _ = ran_until_tools(("c0", "echo"), ("c1", "echo"), tools=tools(echo=echo), max_concurrency=1)
    _, effects = cut(state, "cancelled")
    contents = [message.content for message in effects[-1].result.thread.messages[2:]]
    assert ["outcome is unknown" in contents[0], "not started" in contents[1]] == [True, True]


def test_a_call_that_still_waited_for_its_worker_was_not_started():
    known = tools(echo=echo)
    known["twice"] = msgspec.structs.replace(known["echo"], name="twice", effect="idempotent")
    state, _ = ran_until_tools(("c0", "echo"), ("c1", "echo"), ("c2", "twice"), tools=known)
    state, again = loop.step(state, ToolCrashed("c2", "gone"))
    assert kinds(again) == [RunTool]
    _, effects = loop.step(state, Cancelled(unbegun=frozenset({"c1", "c2"})))
    contents = [message.content for message in effects[-1].result.thread.messages[2:]]
    assert ["not started" in content for content in contents] == [False, True, False]
    assert [effect.call_id for effect in effects if isinstance(effect, CancelTool)] == ["c0"]
    events = [event for effect in effects if isinstance(effect, Emit) for event in effect.events]
    assert [event.id for event in events if isinstance(event, ToolExecutionCompleted)] == ["c0", "c2"]


def test_a_cancel_while_halt_when_is_asked_ends_after_the_step():
    state, effects = ran_until_tools(("c0", "nope"), halt_when=True)
    assert isinstance(effects[-1], AskHalt)
    state, effects = cut(state, "cancelled")
    assert kinds(effects) == [Emit, Finish]
    assert (effects[-1].result.halted_reason, len(effects[-1].result.steps)) == ("cancelled", 1)


def test_a_cancel_on_a_later_turn_keeps_the_steps():
    state, effects = ran_until_tools(("c0", "nope"))
    state, _ = loop.step(state, ModelEvents(1, [TextDelta("par")]))
    _, effects = cut(state, "cancelled")
    result = effects[-1].result
    assert (len(result.steps), shape(result.thread)[-1]) == (1, "A par")
    assert result.final_response.output_text == "par"
    assert effects[0] == CancelModel(1)


def test_a_cancel_among_the_tools_of_a_later_turn_keeps_the_steps():
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo))
    state, _ = loop.step(state, ToolReturned("c0", settle(calls(("c0", "echo"))[2], 1), 0))
    state, _ = loop.step(state, ModelEvents(1, calls(("c1", "echo"))))
    state, _ = loop.step(state, ModelEnded(1))
    _, effects = cut(state, "cancelled")
    result = effects[-1].result
    assert [[answer.tool_call_id for answer in step.tool_results] for step in result.steps] == [
        ["c0"],
        ["c1"],
    ]
    told = [event.tag for effect in effects if isinstance(effect, Emit) for event in effect.events]
    assert told == ["tool_execution_completed", "tool_result_encoded", "step_completed", "chat_completed"]


def test_a_cancelled_generate_is_a_response_with_an_error():
    state, _ = loop.start(options(kind="generate"), HI)
    state, _ = loop.step(state, ModelEvents(0, [TextDelta("par")]))
    _, effects = cut(state, "cancelled")
    assert kinds(effects) == [CancelModel, Emit, Finish]
    response = effects[-1].result
    assert (response.output_text, response.finish_reason) == ("par", "error")
    assert response.metadata["error"].reason == "cancelled"
    assert response.request_id == "r1"


def test_a_cancelled_step_is_still_a_step():
    state, _ = loop.start(options(kind="step"), HI)
    state, _ = loop.step(state, ModelEvents(0, [TextDelta("par")]))
    _, effects = cut(state, "cancelled")
    assert kinds(effects) == [CancelModel, Emit, Checkpoint, Emit, Finish]
    result = effects[-1].result
    assert (result.done, shape(result.thread)) == (True, ["U hi", "A par"])
    assert result.response.metadata["error"] == StreamError("cancelled", message="stream error: cancelled")


@pytest.mark.parametrize("kind", ["generate", "step"])
def test_an_answer_that_had_broken_off_before_the_cancel_keeps_the_error_that_was_shown(kind):
    state, _ = loop.start(options(kind=kind), HI)
    state, (shown,) = loop.step(state, ModelEvents(0, [TextDelta("par"), ErrorEvent(RATE_LIMITED)]))
    _, effects = cut(state, "cancelled")
    result = effects[-1].result
    response = result if kind == "generate" else result.response
    assert (response.finish_reason, response.metadata["error"]) == ("error", shown.events[-1].error)
    told = [event for effect in effects if isinstance(effect, Emit) for event in effect.events]
    assert not any(isinstance(event, ErrorEvent) for event in told)


def test_a_step_cancelled_among_its_tools_is_still_a_step():
    state, _ = ran_until_tools(("c0", "echo"), kind="step", tools=tools(echo=echo))
    _, effects = cut(state, "cancelled")
    result = effects[-1].result
    assert (result.done, len(result.tool_results)) == (True, 1)
    assert result.response.finish_reason == "error"
    assert kinds(effects) == [CancelTool, Checkpoint, Emit, Emit, Emit, Finish]


def test_a_broken_stream_is_told_once():
    state, _ = loop.start(options(), HI)
    state, _ = loop.step(state, ModelEvents(0, broken(RATE_LIMITED)))
    _, effects = loop.step(state, ModelFailed(0, StreamError("unknown")))
    result = effects[-1].result
    assert result.metadata == {"error": RATE_LIMITED}
    assert not any(
        event.tag == "error" for effect in effects if isinstance(effect, Emit) for event in effect.events
    )


def test_a_worker_that_dies_before_the_first_word_breaks_the_stream():
    state, _ = loop.start(options(), HI)
    _, effects = loop.step(state, ModelFailed(0, StreamError("unknown")))
    assert [event.tag for event in effects[0].events] == ["error"]
    assert effects[-1].result.halted_reason == "error"


def test_a_cancel_before_any_text_leaves_no_message():
    state, _ = loop.start(options(), HI)
    state, _ = loop.step(state, ModelEvents(0, [MessageStarted(), ToolCallStarted("c0", "echo")]))
    _, effects = cut(state, "cancelled")
    assert kinds(effects) == [CancelModel, Emit, Finish]
    assert effects[-1].result.thread == HI
    assert effects[-1].result.final_response.tool_calls[0].id == "c0"


def test_a_cancel_stops_what_settles_errors_too():
    state, _ = ran_until_tools(("c0", "nope"), on_tool_error="function")
    _, effects = cut(state, "cancelled")
    assert CancelTool("c0", 0) in effects


def test_a_cancel_tells_of_calls_that_are_settled_what_they_came_to():
    state, _ = ran_until_tools(
        *((f"c{n}", "echo") for n in range(4)),
        ("c4", "nope"),
        tools=tools(echo=echo),
        on_tool_error="function",
        max_concurrency=3,
    )
    state, _ = loop.step(state, ToolTimedOut("c0"))
    state, _ = loop.step(state, HandlerEnded("c1", "no such city"))
    state, _ = loop.step(state, HandlerEnded("c2", None))
    _, effects = cut(state, "cancelled")
    contents = [message.content for message in effects[-1].result.thread.messages[2:]]
    told = ["did not answer", "no such city", "the answer is lost", "not started", "nope not in"]
    assert [word in content for word, content in zip(told, contents, strict=True)] == [True] * 5
    events = [event for effect in effects if isinstance(effect, Emit) for event in effect.events]
    assert [event.id for event in events if isinstance(event, ToolExecutionCompleted)] == ["c0", "c1", "c2"]


def test_a_run_that_broke_without_a_known_error_has_one_all_the_same():
    _, effects = loop.step(loop.start(options(), HI)[0], Cancelled("error"))
    result = effects[-1].result
    assert (result.halted_reason, result.metadata["error"]) == ("error", StreamError("unknown"))


def test_a_refusal_after_the_first_word_is_a_broken_stream():
    state, _ = loop.start(options(), HI)
    state, _ = loop.step(state, ModelEvents(0, [TextDelta("par")]))
    _, effects = loop.step(state, ModelFailed(0, RATE_LIMITED, preflight=True))
    assert effects[-1].result.metadata == {"error": RATE_LIMITED}
    assert effects[-1].result.thread.last.content == "par"
