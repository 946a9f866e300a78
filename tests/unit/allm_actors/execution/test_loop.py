"""The machine, trace by trace and decision by decision."""

import inspect

import pytest

from allm_actors.data import (
    AdapterError,
    AskUser,
    ChatCompleted,
    ChatResult,
    EngineError,
    Err,
    ErrorEvent,
    Halt,
    Message,
    MessageStarted,
    Request,
    Response,
    StepCompleted,
    TextDelta,
    Thread,
    Tool,
    ToolCallDelta,
    ToolCallStarted,
    ToolError,
    ToolHalt,
)
from allm_actors.data.codec import to_json
from allm_actors.data.rules.validate import validate
from allm_actors.execution import loop
from allm_actors.execution.effects import (
    Emit,
    Refused,
    RunTool,
)
from allm_actors.execution.fold import fold
from allm_actors.execution.inputs import (
    Cancelled,
    HaltAnswered,
    ModelEnded,
    ModelEvents,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
    ToolTimedOut,
)
from allm_actors.execution.tools import as_policy, settle
from tests.unit.allm_actors.execution.driver import (
    HI,
    RATE_LIMITED,
    World,
    boom,
    broken,
    calls,
    chat,
    done,
    echo,
    options,
    shape,
    text,
    tools,
)

# --- worked traces ----------------------------------------------------------------------------------------------------


def test_a_chat_with_a_tool_takes_two_turns():
    result, world = chat(calls(("c0", "echo", {"x": 1})), text("done"), tools=tools(echo=echo))
    assert shape(result.thread) == ["U hi", "A  +tc", 'T(c0) {"x":1}', "A done"]
    assert [message.metadata.get("finish_reason") for message in result.thread.messages[1::2]] == [
        "tool_calls",
        "stop",
    ]
    first, second = result.steps
    assert (first.done, first.tool_results, first.metadata) == (False, [result.thread.messages[2]], {})
    assert (second.done, second.tool_results, second.metadata) == (True, [], {})
    assert (result.halted_reason, result.halted, result.metadata) == ("completed", False, {})
    assert result.final_response.output_text == "done"
    assert world.tags == [
        "message_started",
        "tool_call_started",
        "tool_call_completed",
        "message_completed",
        "tool_execution_started",
        "tool_execution_completed",
        "tool_result_encoded",
        "step_completed",
        "message_started",
        "text_delta",
        "text_delta",
        "text_completed",
        "message_completed",
        "step_completed",
        "chat_completed",
    ]


def test_a_tool_that_asks_the_user_halts_and_its_question_is_in_the_result_only():
    ask = tools(where=lambda _: AskUser("which city?", choices=["A", "B"]))
    result, world = chat(calls(("c0", "where")), tools=ask)
    step = result.steps[0]
    pending = {
        "pending_question": "which city?",
        "pending_tool_call_id": "c0",
        "ask_user_opts": {"choices": ["A", "B"]},
    }
    assert shape(step.thread) == ["U hi", "A  +tc", "T(c0) <awaiting user response>"]
    assert (step.done, step.metadata) == (True, {"halted_reason": "ask_user", **pending})
    assert shape(result.thread) == [*shape(step.thread), "A which city?"]
    assert result.thread.last.metadata == {"ask_user": True, "tool_call_id": "c0"}
    assert (result.halted_reason, result.metadata) == ("ask_user", pending)
    assert (result.pending_question, result.pending_tool_call_id) == ("which city?", "c0")
    assert world.tags[-5:] == [
        "tool_execution_started",
        "tool_execution_completed",
        "ask_user_requested",
        "step_completed",
        "chat_completed",
    ]
    assert world.events[-2].thread == step.thread


def test_manual_tools_are_left_to_the_caller_and_the_others_run():
    mixed = tools(mine=None, echo=echo)
    result, world = chat(calls(("m1", "mine"), ("a1", "echo"), ("m2", "mine")), tools=mixed)
    step = result.steps[0]
    assert shape(step.thread) == ["U hi", "A  +tc", "T(a1) {}"]
    left = step.metadata["manual_tool_calls"]
    assert ([call.id for call in left], step.done) == (["m1", "m2"], False)
    assert result.halted_reason == "manual_tool_calls"
    assert result.metadata == {"manual_turn_index": 0, "manual_tool_calls": left}
    assert [call.id for call in result.final_response.tool_calls] == ["m1", "a1", "m2"]
    assert world.tags.count("tool_execution_started") == 1
    assert (world.events[-2].manual_tool_calls, world.events[-2].mode) == (left, "auto")
    assert shape(world.checkpoints[-1].thread) == ["U hi", "A  +tc", "T(a1) {}"]


def test_a_step_of_manual_tools_only_runs_nothing():
    result, world = chat(calls(("m1", "mine")), tools=tools(mine=None))
    assert world.tags[-3:] == ["message_completed", "step_completed", "chat_completed"]
    assert list(result.steps[0].metadata) == ["manual_tool_calls"]


def test_in_manual_mode_every_call_is_left_to_the_caller():
    result, world = chat(calls(("c0", "echo")), tools=tools(echo=echo), mode="manual")
    assert (result.halted_reason, result.metadata) == ("manual_tool_calls", {"manual_turn_index": 0})
    assert result.steps[0].metadata == {"mode": "manual"}
    assert (result.steps[0].done, result.steps[0].tool_results) == (False, [])
    assert shape(result.thread) == ["U hi", "A  +tc"]
    assert [shape(each.thread) for each in world.checkpoints] == [["U hi", "A  +tc"]]
    assert world.events[-2].mode == "manual"


def test_in_manual_mode_an_answer_without_calls_completes():
    result, _ = chat(text("hello"), mode="manual")
    assert (result.halted_reason, result.steps[0].metadata) == ("completed", {})


def test_a_failing_tool_halts_when_the_policy_says_so():
    world = World(policy="halt")
    result, _ = chat(calls(("c0", "boom")), world=world, tools=tools(boom=boom), on_tool_error="halt")
    step = result.steps[0]
    assert (step.done, step.metadata) == (True, {"halted_reason": "tool_error", "halt_tool_call_id": "c0"})
    assert (result.halted_reason, result.metadata) == ("tool_error", {"halt_tool_call_id": "c0"})
    assert result.thread.last.content == '{"error":"boom raised ValueError: boom"}'
    halt = world.events[-3]
    assert isinstance(halt, ToolHalt)
    assert isinstance(halt.result, ToolError)
    assert (halt.tool_call_id, halt.reason, halt.content) == ("c0", "tool_error", result.thread.last.content)


def test_a_policy_that_raises_halts_and_what_it_raised_is_told():
    def policy(call, error):
        raise KeyError("oops")

    world = World(policy=as_policy(policy))
    result, _ = chat(calls(("c0", "boom")), world=world, tools=tools(boom=boom), on_tool_error="function")
    assert result.halted_reason == "tool_error"
    assert "oops" in str(result.metadata["on_tool_error_exception"])
    assert result.steps[0].metadata["on_tool_error_exception"] == result.metadata["on_tool_error_exception"]


def test_a_tool_may_halt_with_a_reason_of_its_own():
    result, _ = chat(calls(("c0", "plan")), tools=tools(plan=lambda _: Halt("plan_submitted", {"ok": 1})))
    assert result.thread.last.content == '{"ok":1}'
    assert result.halted_reason == "plan_submitted"
    assert result.metadata == {"halt_tool_call_id": "c0", "halt_result": {"ok": 1}}


def test_endless_tool_calls_end_at_the_turn_limit():
    script = [calls((f"c{turn}", "echo")) for turn in range(9)]
    result, world = chat(*script, tools=tools(echo=echo), max_turns=2)
    assert (len(result.steps), result.halted_reason, result.metadata) == (2, "max_turns", {"max_turns": 2})
    assert shape(result.thread)[-1] == "T(c1) {}"
    assert len(world.asked) == 2


def test_without_a_limit_a_chat_takes_eight_turns():
    result, _ = chat(*[calls((f"c{turn}", "echo")) for turn in range(9)], tools=tools(echo=echo))
    assert (len(result.steps), result.metadata) == (8, {"max_turns": 8})


def test_a_stream_that_breaks_on_the_second_turn_ends_the_chat_with_what_there_is():
    result, world = chat(calls(("c0", "echo")), broken(RATE_LIMITED), tools=tools(echo=echo))
    assert len(result.steps) == 2
    last = result.steps[1].response
    assert (last.finish_reason, last.metadata) == ("error", {"error": RATE_LIMITED})
    assert result.thread.last == Message(role="assistant", content="", metadata={"finish_reason": "error"})
    assert (result.halted_reason, result.metadata) == ("error", {"error": RATE_LIMITED})
    assert world.tags[-3:] == ["error", "step_completed", "chat_completed"]


@pytest.mark.parametrize("at_once", [True, False])
def test_of_the_errors_of_an_answer_the_first_is_told_and_kept(at_once):
    said = [*broken(RATE_LIMITED), ErrorEvent(AdapterError("timeout")), done("", "stop")]
    state, _ = loop.start(options(request_id="r7"), HI)
    shown = []
    for events in [said] if at_once else [[event] for event in said]:
        state, effects = loop.step(state, ModelEvents(0, events))
        shown += [event for effect in effects for event in effect.events]
    assert [event.tag for event in shown] == ["message_started", "error", "message_completed"]
    _, effects = loop.step(state, ModelEnded(0))
    assert effects[-1].result.metadata["error"] == shown[1].error == RATE_LIMITED.of_call("r7")


def test_the_events_of_a_stream_left_early_fold_to_a_cancelled_chat():
    events = calls(("c0", "echo", {"x": 1}))[:2]
    result = fold(events, HI).chat_result()
    partial = result.final_response
    assert (result.halted_reason, result.steps, result.thread) == ("cancelled", [], HI)
    assert (partial.finish_reason, partial.tool_calls[0].arguments) == (None, {})


# --- two passes -------------------------------------------------------------------------------------------------------


def test_every_answer_is_asked_for_in_a_turn_of_its_own():
    made = calls(("c0", "echo"))
    _, world = chat(made, made, text("free"), text("{}"), tools=tools(echo=echo), structured_finalize=True)
    assert [asked.turn for asked in world.asked] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["chat", "step"])
def test_an_answer_whose_calls_cannot_be_told_apart_is_an_error_that_is_shown_once(kind):
    _, world = chat(calls(("c0", "echo"), ("c0", "echo", {"a": 1})), kind=kind, tools=tools(echo=echo))
    assert world.tags.count("error") == 1


def finalized(*script, **fields):
    fields = {"tools": tools(echo=echo), "structured_finalize": True} | fields
    return chat(*script, **fields)


def test_a_structure_is_asked_for_in_a_second_pass_without_tools():
    result, world = finalized(calls(("c0", "echo")), text("tool done"), text("{}"))
    assert (len(result.steps), result.final_response.output_text, result.halted_reason) == (
        3,
        "{}",
        "completed",
    )
    assert result.metadata == {"structured_finalize": {"pass_1_halted": "completed"}}
    nudge = "U Now provide your final structured response."
    assert shape(result.thread) == ["U hi", "A  +tc", "T(c0) {}", "A tool done", nudge, "A {}"]
    assert [asked.purpose for asked in world.asked] == ["draft", "draft", "finalize"]
    assert world.tags.count("chat_completed") == 1


def test_a_chat_that_its_caller_halts_has_a_second_pass():
    world = World(halt_when=lambda _: True)
    result, _ = finalized(calls(("c0", "echo")), text("{}"), world=world, halt_when=True)
    assert result.metadata == {"structured_finalize": {"pass_1_halted": "halt_when"}}
    assert result.final_response.output_text == "{}"


@pytest.mark.parametrize(
    ("nudge", "added"),
    [("", []), ("JSON!", ["U JSON!"]), (None, ["U Now provide your final structured response."])],
)
def test_the_nudge_is_the_callers(nudge, added):
    result, _ = finalized(text("free"), text("{}"), nudge=nudge)
    assert shape(result.thread)[2:-1] == added


def test_the_second_pass_has_a_turn_of_its_own():
    result, _ = finalized(calls(("c0", "echo")), text("{}"), max_turns=1)
    assert (result.halted_reason, result.metadata) == (
        "completed",
        {"structured_finalize": {"pass_1_halted": "max_turns"}},
    )


def test_a_first_pass_that_did_not_come_to_its_end_is_the_result():
    result, world = finalized(calls(("c0", "ask")), tools=tools(ask=lambda _: AskUser("which?")))
    assert result.halted_reason == "ask_user"
    assert result.metadata["structured_finalize"] == {"pass_1_halted": "ask_user"}
    assert len(world.asked) == 1


def test_a_second_pass_that_is_refused_keeps_the_first():
    result, world = finalized(text("free"), RATE_LIMITED)
    assert (result.halted_reason, result.final_response.output_text) == ("completed", "free")
    assert result.metadata == {
        "structured_finalize": {"pass_1_halted": "completed", "pass_2_error": RATE_LIMITED}
    }
    assert world.tags.count("chat_completed") == 1


def test_a_second_pass_that_breaks_keeps_the_steps_of_the_first():
    result, _ = finalized(text("free"), broken(RATE_LIMITED))
    assert (result.halted_reason, len(result.steps)) == ("error", 2)
    assert result.metadata == {"error": RATE_LIMITED, "structured_finalize": {"pass_1_halted": "completed"}}


def test_tools_called_in_the_second_pass_do_not_run():
    ran = []
    result, _ = finalized(text("free"), calls(("c0", "echo")), tools=tools(echo=ran.append))
    assert ran == []
    assert (result.halted_reason, result.metadata["max_turns"]) == ("max_turns", 1)


def test_only_a_chat_has_two_passes():
    _, world = finalized(text("free"), kind="step")
    assert [asked.purpose for asked in world.asked] == ["answer"]


# --- decisions --------------------------------------------------------------------------------------------------------


def test_an_unknown_tool_is_answered_with_an_error_and_the_chat_goes_on():
    result, world = chat(calls(("c0", "nope"), ("c1", "echo")), text("sorry"), tools=tools(echo=echo))
    assert result.halted_reason == "completed"
    assert shape(result.thread)[2:4] == [
        'T(c0) {"error":"tool nope not in engine.tools; the tools are: echo"}',
        "T(c1) {}",
    ]
    assert world.tags.count("tool_execution_started") == 1


def test_the_policy_hears_of_an_unknown_tool():
    heard = []

    def policy(call, error):
        heard.append(error)
        return ("continue", "never mind")

    result, world = chat(
        calls(("c0", "nope")), text("ok"), world=World(policy=policy), on_tool_error="function"
    )
    assert [type(error) for error in heard] == [EngineError]
    assert heard[0].reason == "unknown_tool"
    assert shape(result.thread)[2] == "T(c0) never mind"
    assert "tool_execution_completed" not in world.tags


def test_an_unknown_tool_halts_under_a_halting_policy():
    result, _ = chat(calls(("c0", "nope")), on_tool_error="halt")
    assert (result.halted_reason, result.metadata) == ("tool_error", {"halt_tool_call_id": "c0"})


@pytest.mark.parametrize("manual", [False, True])
def test_malformed_arguments_never_reach_a_handler(manual):
    ran = []
    known = tools(echo=None if manual else ran.append)
    bad = calls(("c0", "echo", {}, {"arguments_error": "Expecting value: line 1"}))
    result, _ = chat(bad, text("again"), tools=known)
    assert ran == []
    assert "Expecting value: line 1" in result.steps[0].tool_results[0].content
    assert result.halted_reason == "completed"


@pytest.mark.parametrize("arguments", [[1], "x", 5])
def test_arguments_that_are_no_object_never_reach_a_handler(arguments):
    ran = []
    result, _ = chat(calls(("c0", "echo", arguments)), text("again"), tools=tools(echo=ran.append))
    assert ran == []
    assert "they are not a JSON object" in result.steps[0].tool_results[0].content


def test_a_call_of_a_compact_tool_without_what_it_requires_gets_the_schema_and_never_reaches_a_handler():
    ran = []
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    compact = Tool(name="echo", description="Says it.", schema=schema, handler=ran.append, compact=True)
    made = calls(("c0", "echo"), ("c1", "echo", {"city": "Oslo"}))
    result, _ = chat(made, text("again"), tools={"echo": compact})
    assert ran == [{"city": "Oslo"}]
    (missing, _) = result.steps[0].tool_results
    assert "missing required argument(s): city" in missing.content
    assert "Says it." in missing.content


def test_a_call_that_was_cut_off_never_reaches_a_handler():
    ran = []
    cut = [
        MessageStarted(),
        ToolCallStarted("c0", "echo"),
        ToolCallDelta("c0", '{"x'),
        done("", "tool_calls"),
    ]
    result, _ = chat(cut, text("again"), tools=tools(echo=ran.append))
    assert ran == []
    assert "cut off" in result.steps[0].tool_results[0].content


@pytest.mark.parametrize("finish", [None, "other", "tool_calls", "error"])
def test_an_answer_that_does_not_end_properly_is_an_error_and_not_asked_again(finish):
    result, world = chat(text("hm", finish=finish, k="v"))
    assert (result.halted_reason, len(world.asked)) == ("error", 1)
    assert result.final_response.metadata["k"] == "v"
    assert result.metadata["error"].reason == "malformed_response"
    assert result.steps[0].done
    assert result.final_response.metadata["error"] == result.metadata["error"]


def test_calls_of_an_answer_that_ended_otherwise_are_kept_beside_the_conversation():
    ran = []
    result, _ = chat(calls(("c0", "echo"), finish="stop"), tools=tools(echo=ran.append))
    assert ran == []
    assert (result.halted_reason, result.steps[0].tool_results) == ("completed", [])
    assert [call.id for call in result.final_response.tool_calls] == ["c0"]
    assert [call.id for call in result.thread.last.metadata["unexecuted_tool_calls"]] == ["c0"]
    validate(Request(messages=result.thread.messages))


def test_every_halting_sibling_is_answered_and_the_first_call_decides():
    halts = tools(a=lambda _: Halt("first", 1), b=lambda _: Halt("second", 2))
    world = World(script=[calls(("c0", "a"), ("c1", "b"))])
    state, effects = loop.start(options(tools=halts), HI)
    state, effects = loop.step(state, ModelEvents(0, world.script[0]))
    state, effects = loop.step(state, ModelEnded(0))
    runs = [effect for effect in effects if isinstance(effect, RunTool)]
    events = list(world.script[0])
    for run in reversed(runs):
        outcome = settle(run.call, run.tool.handler({}))
        state, effects = loop.step(state, ToolReturned(run.call.id, outcome))
        events += [event for effect in effects if isinstance(effect, Emit) for event in effect.events]
    result = effects[-1].result
    assert (result.halted_reason, result.metadata["halt_tool_call_id"]) == ("first", "c0")
    assert shape(result.thread)[2:] == ["T(c0) 1", "T(c1) 2"]
    assert fold(events[:-1]).chat_result().steps == result.steps


def test_a_sibling_that_asks_leaves_manual_calls_pending():
    both = tools(ask=lambda _: AskUser("which?"), mine=None)
    result, _ = chat(calls(("c0", "ask"), ("m1", "mine")), tools=both)
    assert result.halted_reason == "ask_user"
    assert [call.id for call in result.metadata["manual_tool_calls"]] == ["m1"]
    assert shape(result.thread) == ["U hi", "A  +tc", "T(c0) <awaiting user response>"]
    validate(result.thread)


def test_a_call_that_is_refused_on_a_later_turn_ends_the_chat_with_what_was_done():
    result, world = chat(calls(("c0", "echo")), RATE_LIMITED, tools=tools(echo=echo))
    assert (result.halted_reason, result.metadata) == ("error", {"error": RATE_LIMITED})
    assert (len(result.steps), result.thread) == (1, result.steps[0].thread)
    assert result.final_response == result.steps[0].response
    assert world.tags[-2:] == ["error", "chat_completed"]


@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
def test_a_first_call_that_is_refused_is_the_callers_error_and_nothing_was_shown(kind):
    result, world = chat(RATE_LIMITED, kind=kind)
    assert (result, world.events, world.checkpoints) == (Refused(RATE_LIMITED), [], [])


def test_every_response_and_every_tool_knows_the_request_id():
    result, world = chat(calls(("c0", "echo")), text("done"), tools=tools(echo=echo))
    assert [step.response.request_id for step in result.steps] == ["r1", "r1"]
    assert [effect.request_id for effect in world.effects if isinstance(effect, RunTool)] == ["r1"]


def test_a_response_that_names_its_call_itself_keeps_the_name():
    result, _ = chat(text("hi", request_id="theirs"), kind="generate")
    assert result.request_id == "theirs"


NAMELESS = AdapterError("rate_limited", cause="c", metadata={"k": 1})


@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
@pytest.mark.parametrize("fails", [NAMELESS, broken(NAMELESS, "par"), calls(finish="tool_calls")])
def test_every_error_of_an_adapter_knows_the_request_id(kind, fails):
    result, world = chat(fails, kind=kind)
    told = [event.error for event in world.events if isinstance(event, ErrorEvent)]
    if isinstance(result, Refused):
        told.append(result.error)
    elif kind == "chat":
        told.append(result.metadata["error"])
    elif error := getattr(result, "response", result).metadata.get("error"):
        told.append(error)
    assert {error.request_id for error in told} <= {"r1"}
    assert told or kind == "generate"
    assert NAMELESS.request_id is None


def test_an_error_of_another_call_stays_its_own():
    other = AdapterError("rate_limited", request_id="another")
    result, _ = chat(broken(other))
    assert result.metadata["error"] is other


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([("a", "echo", {"x": 1}), ("a", "echo", {"x": 2})], "several calls with the id 'a'"),
        ([("a", "echo"), ("b", "echo"), ("a", "other")], "several calls with the id 'a'"),
        ([("", "echo", {"x": 1}), ("", "echo", {"x": 2})], "a call without an id"),
        ([("", "echo")], "a call without an id"),
        ([(None, "echo"), ("b", "echo")], "a call without an id"),
        ([(5, "echo")], "a call without an id"),
    ],
)
@pytest.mark.parametrize("kind", ["step", "chat"])
def test_calls_that_cannot_be_told_apart_are_not_run(kind, made, said):
    result, world = chat(calls(*made), tools=tools(echo=echo), kind=kind)
    response = result.final_response if kind == "chat" else result.response
    error = response.metadata["error"]
    assert {type(call.id) for call in response.tool_calls if call.id} <= {str}
    assert all(call.id for call in response.tool_calls)
    assert (error.reason, error.request_id) == ("malformed_response", "r1")
    assert said in str(error)
    assert not [effect for effect in world.effects if isinstance(effect, RunTool)]
    validate(result.thread)


def test_a_call_that_is_told_twice_is_one_call():
    result, _ = chat(
        calls(("a", "echo", {"x": 1}), ("a", "echo", {"x": 1})), text("ok"), tools=tools(echo=echo)
    )
    assert (result.halted_reason, len(result.steps[0].tool_results)) == ("completed", 1)


def test_what_an_adapter_may_not_say_is_not_passed_on():
    rogue = [
        MessageStarted(),
        ChatCompleted(ChatResult()),
        TextDelta("ok"),
        StepCompleted(Response(), HI),
        done("ok", "stop"),
    ]
    result, world = chat(rogue)
    assert world.tags == [
        "message_started",
        "text_delta",
        "message_completed",
        "step_completed",
        "chat_completed",
    ]
    assert result.final_response.output_text == "ok"


def test_what_an_adapter_keeps_on_a_message_stays_on_it():
    said = [MessageStarted(), TextDelta("ok"), done("ok", "stop")]
    said[-1] = type(said[-1])(
        Message(role="assistant", content="ok", metadata={"thinking": "x", "tool_calls": [1]}), "stop"
    )
    result, _ = chat(said)
    assert result.thread.last.metadata == {"thinking": "x", "finish_reason": "stop"}


# --- generate and step ------------------------------------------------------------------------------------------------


def test_generate_is_the_fold_of_its_events():
    result, world = chat(text("hello", id="x1", model="m"), kind="generate")
    assert (result.output_text, result.finish_reason, result.id, result.model) == ("hello", "stop", "x1", "m")
    assert result.request_id == "r1"
    assert world.tags[-1] == "message_completed"
    assert world.checkpoints == []


def test_generate_leaves_an_unknown_end_as_it_is():
    result, _ = chat(text("hello", finish=None), kind="generate")
    assert (result.finish_reason, result.metadata) == (None, {})


def test_a_broken_generate_is_a_response_with_an_error():
    result, _ = chat(broken(RATE_LIMITED, "par"), kind="generate")
    assert (result.output_text, result.finish_reason, result.metadata) == (
        "par",
        "error",
        {"error": RATE_LIMITED},
    )


def test_a_step_runs_its_tools_and_asks_no_further():
    result, world = chat(calls(("c0", "echo")), kind="step", tools=tools(echo=echo))
    assert (result.done, shape(result.thread)[-1]) == (False, "T(c0) {}")
    assert world.tags[-1] == "step_completed"
    assert fold(world.events).step_result() == result


def test_a_step_with_a_whole_answer_is_done():
    result, _ = chat(text("hello"), kind="step")
    assert (result.done, shape(result.thread)) == (True, ["U hi", "A hello"])


# --- halt_when --------------------------------------------------------------------------------------------------------


def test_halt_when_is_asked_after_a_step_and_anything_true_halts():
    world = World(halt_when=lambda step: "yes")
    result, _ = chat(calls(("c0", "echo")), world=world, tools=tools(echo=echo), halt_when=True)
    assert (result.halted_reason, result.metadata) == ("halt_when", {"halt_when_step_index": 0})


def test_halt_when_is_not_asked_when_the_chat_is_over_anyway():
    world = World(halt_when=boom)
    result, _ = chat(text("done"), world=world, halt_when=True)
    assert result.halted_reason == "completed"


def test_halt_when_is_asked_about_the_last_step_that_is_allowed():
    world = World(halt_when=lambda step: True)
    result, _ = chat(calls(("c0", "echo")), world=world, tools=tools(echo=echo), halt_when=True, max_turns=1)
    assert (result.halted_reason, result.metadata) == ("halt_when", {"halt_when_step_index": 0})


def test_a_falsy_halt_when_goes_on():
    world = World(halt_when=lambda step: None)
    result, _ = chat(calls(("c0", "echo")), text("done"), world=world, tools=tools(echo=echo), halt_when=True)
    assert result.halted_reason == "completed"


def test_a_halt_when_that_raises_ends_the_chat_with_its_error():
    world = World(halt_when=boom)
    result, _ = chat(calls(("c0", "echo")), world=world, tools=tools(echo=echo), halt_when=True)
    error = result.metadata["error"]
    assert result.halted_reason == "error"
    assert "halt_when raised ValueError: boom" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert error.cause == "ValueError: boom"
    assert to_json(result)


# --- the tables -------------------------------------------------------------------------------------------------------


def test_the_docstring_names_every_phase_and_every_input():
    table = loop.__doc__
    for phase in ("Asking", "Batch", "Judging", "Finished"):
        assert phase in table
    for news in (
        ModelEvents,
        ModelEnded,
        ModelFailed,
        ToolReturned,
        ToolCrashed,
        ToolTimedOut,
        HaltAnswered,
        Cancelled,
    ):
        assert news.__name__ in table
        assert f"case {news.__name__}()" in inspect.getsource(loop.step)


def test_an_error_value_of_a_handler_goes_on():
    result, _ = chat(calls(("c0", "no")), text("ok"), tools=tools(no=lambda _: Err("not today")))
    assert shape(result.thread)[2] == 'T(c0) {"error":"not today"}'
    assert result.halted_reason == "completed"


def test_a_thread_that_was_given_is_not_changed():
    thread = Thread().add_user("hi")
    chat(calls(("c0", "echo")), text("done"), thread=thread, tools=tools(echo=echo))
    assert len(thread.messages) == 1
