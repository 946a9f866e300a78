"""The machine, trace by trace and row by row."""

import inspect

import pytest

from allm_actors.data import (
    AdapterError,
    AskUser,
    ChatCompleted,
    ChatResult,
    EngineError,
    Err,
    Halt,
    Message,
    MessageStarted,
    Request,
    Response,
    StepCompleted,
    StreamError,
    TextDelta,
    Thread,
    ToolCallDelta,
    ToolCallStarted,
    ToolError,
    ToolHalt,
)
from allm_actors.data.validate import validate
from allm_actors.execution import gates, loop
from allm_actors.execution.effects import (
    AskHalt,
    CallModel,
    CancelModel,
    CancelTool,
    Checkpoint,
    Emit,
    Finish,
    Refused,
    RunTool,
    SettleError,
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
from allm_actors.execution.tools import as_policy, settle, settle_error
from tests.unit.allm_actors.execution.driver import (
    HI,
    World,
    broken,
    calls,
    done,
    echo,
    options,
    shape,
    text,
    tools,
)

RATE_LIMITED = AdapterError("rate_limited")


def boom(arguments):
    raise ValueError("boom")


def chat(*script, world=None, thread=HI, **fields):
    world = world or World()
    world.script = list(script)
    return world.run(options(**fields), thread), world


# --- worked traces ------------------------------------------------------------------------------------------------


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
    assert [call.id for call in world.checkpoints[-1].pending_calls] == ["m1", "m2"]


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


def test_the_events_of_a_stream_left_early_fold_to_a_cancelled_chat():
    events = calls(("c0", "echo", {"x": 1}))[:2]
    result = fold(events, HI).chat_result()
    partial = result.final_response
    assert (result.halted_reason, result.steps, result.thread) == ("cancelled", [], HI)
    assert (partial.finish_reason, partial.tool_calls[0].arguments) == (None, {})


# --- two passes ---------------------------------------------------------------------------------------------------


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


# --- decisions ----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("finish", [None, "other", "tool_calls"])
def test_an_answer_that_does_not_end_properly_is_an_error_and_not_asked_again(finish):
    result, world = chat(text("hm", finish=finish))
    assert (result.halted_reason, len(world.asked)) == ("error", 1)
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
    assert world.tags[-2:] == ["step_completed", "chat_completed"]


@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
def test_a_first_call_that_is_refused_is_the_callers_error_and_nothing_was_shown(kind):
    result, world = chat(RATE_LIMITED, kind=kind)
    assert (result, world.events, world.checkpoints) == (Refused(RATE_LIMITED), [], [])


def test_every_response_and_every_tool_knows_the_request_id():
    result, world = chat(calls(("c0", "echo")), text("done"), tools=tools(echo=echo))
    assert [step.response.request_id for step in result.steps] == ["r1", "r1"]
    assert [effect.request_id for effect in world.effects if isinstance(effect, RunTool)] == ["r1"]


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


# --- generate and step --------------------------------------------------------------------------------------------


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


# --- halt_when ----------------------------------------------------------------------------------------------------


def test_halt_when_is_asked_after_a_step_and_anything_true_halts():
    world = World(halt_when=lambda step: "yes")
    result, _ = chat(calls(("c0", "echo")), world=world, tools=tools(echo=echo), halt_when=True)
    assert (result.halted_reason, result.metadata) == ("halt_when", {"halt_when_step_index": 0})


def test_halt_when_is_not_asked_when_the_chat_is_over_anyway():
    world = World(halt_when=boom)
    result, _ = chat(text("done"), world=world, halt_when=True)
    assert result.halted_reason == "completed"


def test_a_falsy_halt_when_goes_on():
    world = World(halt_when=lambda step: None)
    result, _ = chat(calls(("c0", "echo")), text("done"), world=world, tools=tools(echo=echo), halt_when=True)
    assert result.halted_reason == "completed"


def test_a_halt_when_that_raises_ends_the_chat_with_its_error():
    world = World(halt_when=boom)
    result, _ = chat(calls(("c0", "echo")), world=world, tools=tools(echo=echo), halt_when=True)
    assert (result.halted_reason, str(result.metadata["error"])) == ("error", "boom")


# --- effects, in order --------------------------------------------------------------------------------------------


def ran_until_tools(*made, **fields):
    state, _ = loop.start(options(**fields), HI)
    state, _ = loop.step(state, ModelEvents(0, calls(*made)))
    return loop.step(state, ModelEnded(0))


def kinds(effects):
    return [type(effect) for effect in effects]


def test_a_step_is_stored_before_its_tools_run_and_each_answer_before_it_is_shown():
    state, effects = ran_until_tools(("c0", "echo"), ("c1", "echo"), tools=tools(echo=echo))
    assert kinds(effects) == [Checkpoint, Emit, RunTool, RunTool]
    assert shape(effects[0].thread) == ["U hi", "A  +tc"]
    assert [call.id for call in effects[0].pending_calls] == ["c0", "c1"]
    state, effects = loop.step(state, ToolReturned("c1", settle(effects[3].call, 1)))
    assert kinds(effects) == [Checkpoint, Emit]
    assert shape(effects[0].thread)[-1] == "T(c1) 1"
    assert [call.id for call in effects[0].pending_calls] == ["c0"]
    state, effects = loop.step(state, ToolReturned("c0", settle(state.phase.running["c0"], 0)))
    assert kinds(effects) == [Checkpoint, Emit, Emit, CallModel]
    assert shape(effects[0].thread)[-2:] == ["T(c0) 0", "T(c1) 1"]
    assert effects[2].events[0].thread == effects[0].thread == effects[3].thread


def test_an_answer_without_tools_is_stored_before_its_step_is_shown():
    state, _ = loop.start(options(), HI)
    state, _ = loop.step(state, ModelEvents(0, text("done")))
    state, effects = loop.step(state, ModelEnded(0))
    assert kinds(effects) == [Checkpoint, Emit, Emit, Finish]


def test_a_question_is_stored_before_it_is_shown():
    ask = tools(ask=lambda _: AskUser("which?"))
    _, world = chat(calls(("c0", "ask")), tools=ask)
    assert kinds(world.effects[-3:]) == [Checkpoint, Emit, Finish]
    assert world.effects[-3].thread == world.result.thread


def test_no_more_tools_run_at_once_than_allowed():
    made = [(f"c{number}", "echo") for number in range(5)]
    state, effects = ran_until_tools(*made, tools=tools(echo=echo), max_concurrency=2)
    assert [effect.call.id for effect in effects if isinstance(effect, RunTool)] == ["c0", "c1"]
    call = effects[2].call
    state, effects = loop.step(state, ToolReturned("c0", settle(call, 0)))
    assert [effect.call.id for effect in effects if isinstance(effect, RunTool)] == ["c2"]
    assert [event.tag for event in effects[2].events] == ["tool_execution_started"]


def test_a_tools_own_timeout_wins_over_the_calls():
    slow = tools(echo=echo, other=echo)
    slow["echo"] = type(slow["echo"])(name="echo", description="", schema={}, handler=echo, timeout=5.0)
    _, effects = ran_until_tools(("c0", "echo"), ("c1", "other"), tools=slow, tool_timeout=7.0)
    assert [effect.timeout for effect in effects if isinstance(effect, RunTool)] == [5.0, 7.0]


def test_a_tool_that_takes_too_long_is_stopped_and_answered():
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo))
    state, effects = loop.step(state, ToolTimedOut("c0"))
    assert CancelTool("c0", 0) in effects
    assert "did not answer within 30 s" in state.thread.last.content
    assert kinds(effects)[-1] is CallModel


def test_a_tool_that_crashes_is_answered():
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo))
    state, effects = loop.step(state, ToolCrashed("c0", "segmentation fault"))
    assert "segmentation fault" in state.thread.last.content
    assert kinds(effects)[-1] is CallModel


def test_an_error_without_a_worker_is_taken_to_the_users_policy():
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo), on_tool_error="function")
    state, effects = loop.step(state, ToolTimedOut("c0"))
    assert kinds(effects) == [Checkpoint, CancelTool, SettleError]
    settle_this = effects[2]
    assert settle_this.error.reason == "timeout"
    outcome = settle_error(
        settle_this.call, settle_this.error, policy=lambda call, error: ("continue", "later")
    )
    state, effects = loop.step(state, ToolReturned("c0", outcome))
    assert state.thread.last.content == "later"


@pytest.mark.parametrize("lost", [ToolTimedOut("c0"), ToolCrashed("c0", "gone")])
def test_a_policy_that_comes_to_no_end_halts(lost):
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo), on_tool_error="function")
    state, _ = loop.step(state, ToolTimedOut("c0"))
    state, effects = loop.step(state, lost)
    assert effects[-1].result.halted_reason == "tool_error"


def test_a_custom_encoder_hears_of_errors_too():
    _, effects = ran_until_tools(("c0", "nope"), custom_encoder=True)
    assert kinds(effects) == [Checkpoint, SettleError]


def test_an_error_that_is_being_settled_does_not_hold_a_worker():
    made = [("c0", "echo"), ("c1", "echo")]
    state, _ = ran_until_tools(*made, tools=tools(echo=echo), max_concurrency=1, on_tool_error="function")
    state, effects = loop.step(state, ToolTimedOut("c0"))
    assert [effect.call.id for effect in effects if isinstance(effect, RunTool)] == ["c1"]


# --- news that changes nothing ------------------------------------------------------------------------------------


def stray():
    outcome = settle(calls(("c9", "echo"))[2], 1)
    return [
        ModelEvents(7, text("x")),
        ModelEvents(0, []),
        ModelEnded(7),
        ModelFailed(7, RATE_LIMITED),
        ToolReturned("c9", outcome),
        ToolReturned("c0", outcome, 3),
        ToolCrashed("c9", "x"),
        ToolTimedOut("c9"),
        HaltAnswered(7, True),
    ]


@pytest.mark.parametrize("news", stray(), ids=[f"stray{index}" for index in range(len(stray()))])
def test_news_of_something_else_changes_nothing(news):
    asking, _ = loop.start(options(), HI)
    running, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo))
    judging, _ = ran_until_tools(("c0", "nope"), halt_when=True)
    finished, _ = loop.step(asking, Cancelled())
    for state in (asking, running, judging, finished):
        after, effects = loop.step(state, news)
        assert after is state
        assert effects == ()


def test_an_answer_that_comes_twice_counts_once():
    state, effects = ran_until_tools(("c0", "echo"), ("c1", "echo"), tools=tools(echo=echo))
    news = ToolReturned("c0", settle(effects[2].call, 1))
    state, _ = loop.step(state, news)
    after, effects = loop.step(state, news)
    assert (after is state, effects) == (True, ())


def test_a_finished_run_hears_nothing_any_more():
    state, _ = loop.step(loop.start(options(), HI)[0], Cancelled())
    assert loop.step(state, Cancelled()) == (state, ())


def test_an_old_state_means_what_it_meant_although_the_log_is_shared():
    begun, _ = loop.start(options(kind="generate"), HI)
    one, _ = loop.step(begun, ModelEvents(0, [TextDelta("a")]))
    left, _ = loop.step(one, ModelEvents(0, [TextDelta("b")]))
    right, _ = loop.step(one, ModelEvents(0, [TextDelta("c")]))
    ends = [loop.step(state, ModelEnded(0))[1][-1].result.output_text for state in (begun, one, left, right)]
    assert ends == ["", "a", "ab", "ac"]


# --- cancelling ---------------------------------------------------------------------------------------------------

CUTS = [("cancelled", {}), ("interrupted", {}), ("error", {"error": RATE_LIMITED})]


def cut(state, reason):
    return loop.step(state, Cancelled(reason, RATE_LIMITED if reason == "error" else None))


@pytest.mark.parametrize(("reason", "metadata"), CUTS)
def test_a_cancel_before_the_first_word_keeps_the_thread(reason, metadata):
    _, effects = cut(loop.start(options(), HI)[0], reason)
    assert kinds(effects) == [CancelModel, Emit, Finish]
    result = effects[-1].result
    assert (result.halted_reason, result.metadata, result.thread) == (reason, metadata, HI)
    assert effects[1].events == (ChatCompleted(result),)


@pytest.mark.parametrize(("reason", "metadata"), CUTS)
def test_a_cancel_in_the_middle_of_an_answer_keeps_its_text(reason, metadata):
    state, _ = loop.start(options(), HI)
    state, _ = loop.step(
        state, ModelEvents(0, [MessageStarted(), TextDelta("par"), ToolCallStarted("c0", "echo")])
    )
    state, effects = cut(state, reason)
    assert kinds(effects) == [CancelModel, Checkpoint, Emit, Finish]
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
    state, _ = loop.step(state, ToolReturned("c0", settle(effects[2].call, "ok")))
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
    assert kinds(effects)[-4:] == [Emit, Emit, Emit, Finish]
    validate(Request(messages=result.thread.messages))


def test_a_cancel_tells_calls_that_wait_from_calls_that_run():
    state, _ = ran_until_tools(("c0", "echo"), ("c1", "echo"), tools=tools(echo=echo), max_concurrency=1)
    _, effects = cut(state, "cancelled")
    contents = [message.content for message in effects[-1].result.thread.messages[2:]]
    assert ["outcome is unknown" in contents[0], "not started" in contents[1]] == [True, True]


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
    assert effects[0] == CancelModel(1)


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
    assert kinds(effects) == [CancelModel, Checkpoint, Emit, Finish]
    result = effects[-1].result
    assert (result.done, shape(result.thread)) == (True, ["U hi", "A par"])
    assert result.response.metadata["error"] == StreamError("cancelled", message="stream error: cancelled")


def test_a_step_cancelled_among_its_tools_is_still_a_step():
    state, _ = ran_until_tools(("c0", "echo"), kind="step", tools=tools(echo=echo))
    _, effects = cut(state, "cancelled")
    result = effects[-1].result
    assert (result.done, len(result.tool_results)) == (True, 1)
    assert result.response.finish_reason == "error"


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


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, -1, 1.5, "3", True])
def test_a_turn_limit_is_a_positive_integer(bad):
    with pytest.raises(ValueError, match="max_turns must be a positive integer; got:"):
        options(max_turns=bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"mode": "maybe"},
        {"kind": "talk"},
        {"on_tool_error": "explode"},
        {"max_concurrency": 0},
        {"tool_timeout": 0},
    ],
)
def test_what_can_never_work_is_refused_at_once(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        options(**bad)


# --- the tables ---------------------------------------------------------------------------------------------------


def test_the_docstring_lists_every_gate_in_order():
    rows = [line.split() for line in gates.__doc__.splitlines()]
    numbers = [int(row[0]) for row in rows if row and row[0].isdigit()]
    assert numbers == [gate.number for gate in gates.GATES] == list(range(1, len(gates.GATES) + 1))


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
