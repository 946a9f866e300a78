"""What is done, in which order, and what news changes nothing."""

import pytest

from allm_actors.data import (
    AskUser,
    TextDelta,
    Tool,
)
from allm_actors.execution import loop
from allm_actors.execution.effects import (
    CallModel,
    CancelTool,
    Checkpoint,
    Emit,
    Finish,
    RunTool,
    SettleError,
)
from allm_actors.execution.inputs import (
    AnswerParsed,
    Cancelled,
    HaltAnswered,
    HandlerEnded,
    ModelEnded,
    ModelEvents,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
    ToolTimedOut,
)
from allm_actors.execution.tools import settle, settle_error
from tests.unit.allm_actors.execution.driver import (
    HI,
    RATE_LIMITED,
    calls,
    chat,
    echo,
    kinds,
    options,
    ran_until_tools,
    shape,
    text,
    tools,
)

# --- effects, in order ------------------------------------------------------------------------------------------------


def test_a_step_is_stored_before_its_tools_run_and_each_answer_before_it_is_shown():
    state, effects = ran_until_tools(("c0", "echo"), ("c1", "echo"), tools=tools(echo=echo))
    assert kinds(effects) == [Checkpoint, RunTool, RunTool, Emit]
    assert shape(effects[0].thread) == ["U hi", "A  +tc"]
    state, effects = loop.step(state, ToolReturned("c1", settle(effects[2].call, 1)))
    assert kinds(effects) == [Checkpoint, Emit]
    assert shape(effects[0].thread) == ["U hi", "A  +tc", "T(c1) 1"]
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
    call = effects[1].call
    state, effects = loop.step(state, ToolReturned("c0", settle(call, 0)))
    assert [effect.call.id for effect in effects if isinstance(effect, RunTool)] == ["c2"]
    assert [event.tag for event in effects[-1].events] == ["tool_execution_started"]


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


@pytest.mark.parametrize("effect", ["idempotent", "pure"])
def test_a_tool_that_may_run_twice_is_run_once_more_after_a_crash(effect):
    may = {"echo": Tool(name="echo", description="", schema={}, handler=echo, effect=effect)}
    state, effects = ran_until_tools(("c0", "echo"), tools=may)
    run = next(effect for effect in effects if isinstance(effect, RunTool))
    state, effects = loop.step(state, ToolCrashed("c0", "gone"))
    assert effects == (run,)
    state, effects = loop.step(state, ToolCrashed("c0", "gone"))
    assert "gone" in state.thread.last.content


def test_a_tool_that_no_worker_could_begin_is_answered_and_not_run_again():
    may = {"echo": Tool(name="echo", description="", schema={}, handler=echo, effect="pure")}
    state, _ = ran_until_tools(("c0", "echo"), tools=may)
    state, effects = loop.step(state, ToolCrashed("c0", "no room", begun=False))
    assert not any(isinstance(effect, RunTool) for effect in effects)
    assert "echo was not started: no room" in state.thread.last.content


def test_a_tool_that_took_too_long_is_not_run_again():
    may = {"echo": Tool(name="echo", description="", schema={}, handler=echo, effect="pure")}
    state, _ = ran_until_tools(("c0", "echo"), tools=may)
    state, effects = loop.step(state, ToolTimedOut("c0"))
    assert not any(isinstance(effect, RunTool) for effect in effects)


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


def test_a_call_that_is_being_settled_was_started_and_is_not_answered():
    made = [("c0", "echo"), ("c1", "echo")]
    state, _ = ran_until_tools(*made, tools=tools(echo=echo), max_concurrency=1, on_tool_error="function")
    state, effects = loop.step(state, ToolTimedOut("c0"))
    assert [effect.timeout for effect in effects if isinstance(effect, SettleError)] == [30.0]
    assert RunTool not in kinds(effects), "or two would run at once, for whoever reads the events"
    state, effects = loop.step(state, ToolReturned("c0", settle(calls(("c0", "echo"))[2], 1)))
    assert [effect.call.id for effect in effects if isinstance(effect, RunTool)] == ["c1"]


def test_of_several_calls_that_are_being_settled_each_is_waited_for():
    state, effects = ran_until_tools(("c0", "nope"), ("c1", "nope"), on_tool_error="function")
    first, second = [effect for effect in effects if isinstance(effect, SettleError)]
    state, effects = loop.step(state, ToolReturned("c0", settle_error(first.call, first.error)))
    assert kinds(effects) == [Checkpoint, Emit]
    state, effects = loop.step(state, ToolReturned("c1", settle_error(second.call, second.error)))
    assert kinds(effects)[-1] is CallModel
    assert len(state.steps[0].tool_results) == 2


@pytest.mark.parametrize("lost", [ToolCrashed("c0", "killed"), ToolTimedOut("c0")])
@pytest.mark.parametrize("policy", ["continue", "halt", "function"])
def test_a_call_whose_handler_is_over_is_not_run_or_settled_again(lost, policy):
    again = Tool(name="echo", description="", schema={}, handler=echo, effect="pure")
    rules = {"on_tool_error": policy, "custom_encoder": True}
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=again), **rules)
    state, effects = loop.step(state, HandlerEnded("c0", "no such city"))
    assert effects == ()
    state, effects = loop.step(state, lost)
    assert not {RunTool, SettleError} & set(kinds(effects))
    (message,) = state.steps[0].tool_results
    assert message.content == '{"error":"no such city"}'
    assert isinstance(state.phase, loop.Finished) is (policy != "continue")


def test_what_a_handler_gave_is_lost_with_what_makes_a_text_of_it():
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo), custom_encoder=True)
    state, _ = loop.step(state, HandlerEnded("c0"))
    state, _ = loop.step(state, ToolCrashed("c0", "killed"))
    assert "encoding its answer as text did not finish" in state.steps[0].tool_results[0].content


def test_a_handler_is_over_once():
    state, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo), custom_encoder=True)
    state, _ = loop.step(state, HandlerEnded("c0"))
    for news in (HandlerEnded("c0"), HandlerEnded("c1"), HandlerEnded("c0", turn=3)):
        after, effects = loop.step(state, news)
        assert after is state
        assert effects == ()


@pytest.mark.parametrize("turn", [None, 0])
def test_news_of_a_tool_may_say_of_which_turn_it_is(turn):
    begun, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo))
    for news in (HandlerEnded("c0", None, turn), ToolCrashed("c0", "x", turn), ToolTimedOut("c0", turn)):
        assert loop.step(begun, news)[0] is not begun


# --- news that changes nothing ----------------------------------------------------------------------------------------


def stray():
    outcome = settle(calls(("c9", "echo"))[2], 1)
    return [
        ModelEvents(7, text("x")),
        ModelEvents(0, []),
        ModelEnded(7),
        ModelFailed(7, RATE_LIMITED),
        ToolReturned("c9", outcome),
        HandlerEnded("c9"),
        HandlerEnded("c0", None, 3),
        ToolReturned("c0", outcome, 3),
        ToolCrashed("c0", "x", 3),
        ToolTimedOut("c0", 3),
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


def test_news_of_another_phase_of_the_same_turn_changes_nothing():
    of_models = [ModelEvents(0, text("x")), ModelEnded(0), ModelFailed(0, RATE_LIMITED)]
    of_tools = [
        HandlerEnded("c0"),
        ToolReturned("c0", settle(calls(("c0", "echo"))[2], 1)),
        ToolCrashed("c0", "x"),
        ToolTimedOut("c0"),
    ]
    of_answers, of_judges = [AnswerParsed(0, 5)], [HaltAnswered(0, True)]
    asking, _ = loop.start(options(), HI)
    running, _ = ran_until_tools(("c0", "echo"), tools=tools(echo=echo))
    judging, _ = ran_until_tools(("c0", "nope"), halt_when=True)
    parsing, _ = loop.step(loop.start(options(parses=True), HI)[0], ModelEvents(0, text("{}")))
    parsing, _ = loop.step(parsing, ModelEnded(0))
    for state, others in (
        (asking, of_tools + of_answers + of_judges),
        (running, of_models + of_answers + of_judges),
        (judging, of_models + of_tools + of_answers),
        (parsing, of_models + of_tools + of_judges),
    ):
        for news in others:
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
    assert one.phase.log is left.phase.log is begun.phase.log, "or every event would copy all before it"
