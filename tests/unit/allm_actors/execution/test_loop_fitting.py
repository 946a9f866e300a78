"""Answers that have to fit a type: what is asked again, how often, and what a run then comes to."""

import pytest

from allm_actors.data import AdapterError, ErrorEvent, Response, StepCompleted, ValidationError
from allm_actors.execution import loop
from allm_actors.execution.effects import CallModel, Checkpoint, Emit, Finish, ParseAnswer
from allm_actors.execution.fold import fold
from allm_actors.execution.inputs import AnswerParsed, Cancelled, ModelEnded, ModelEvents, ModelFailed
from tests.unit.allm_actors.execution.driver import (
    HI,
    RATE_LIMITED,
    World,
    calls,
    chat,
    echo,
    kinds,
    options,
    shape,
    text,
    tools,
)

BAD = (
    "Your answer does not have the form that was asked for: bad\n"
    "Answer again, with the corrected JSON and nothing else."
)


class Fitting(World):
    """A world whose type takes an answer that says `42`."""

    def perform(self, effect):
        match effect:
            case ParseAnswer(turn, "42"):
                return [AnswerParsed(turn, 42)]
            case ParseAnswer(turn, "broken"):
                return [AnswerParsed(turn, error=ValidationError("invalid_response", []))]
            case ParseAnswer(turn):
                return [AnswerParsed(turn, problem="bad")]
        return super().perform(effect)


def fitting(*script, kind="chat", **fields):
    world = Fitting(fields.pop("script", list(script)))
    world.halt_when = fields.pop("judge", None)
    fields["halt_when"] = world.halt_when is not None
    return world.run(options(kind, parses=True, **fields)), world


def test_an_answer_that_fits_is_parsed():
    for kind in ("generate", "step", "chat"):
        result, world = fitting(text("42"), kind=kind)
        assert len(world.asked) == 1
        response = result.final_response if kind == "chat" else getattr(result, "response", result)
        assert (response.parsed, response.finish_reason) == (42, "stop")


def test_a_chat_asks_again_in_a_step_of_its_own():
    result, world = fitting(text("no", k="v"), text("42"))
    assert shape(result.thread) == ["U hi", "A no", f"U {BAD}", "A 42"]
    assert result.thread.messages[2].metadata == {"response_retry": 1}
    assert [step.done for step in result.steps] == [False, True]
    assert result.steps[0].response.metadata == {"k": "v", "rejected": "bad"}
    assert (result.halted_reason, result.final_response.parsed) == ("completed", 42)
    assert fold(world.events[:-1], HI).chat_result().steps == result.steps


def test_asking_again_costs_no_turn_and_tools_do():
    use = calls(("c0", "echo"))
    result, world = fitting(text("no"), use, text("no"), text("42"), tools=tools(echo=echo), max_turns=2)
    assert (result.halted_reason, len(world.asked)) == ("completed", 4)
    result, world = fitting(text("no"), use, use, tools=tools(echo=echo), max_turns=2)
    assert (result.halted_reason, len(world.asked)) == ("max_turns", 3)
    assert result.metadata == {"max_turns": 2}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_what_never_fits_ends_with_the_error(retries):
    result, world = fitting(*[text("no")] * 9, max_retries=retries, max_turns=1)
    assert [asked.turn for asked in world.asked] == list(range(1 + retries))
    assert result.halted_reason == "error"
    error = result.metadata["error"]
    assert (error.reason, error.errors) == ("invalid_response", [("parsed", "bad")])
    assert result.final_response.metadata["error"] == error
    assert (result.final_response.parsed, result.final_response.output_text) == (None, "no")


def test_a_single_answer_is_asked_for_again_in_a_turn_of_its_own():
    _, world = fitting(*[text("no")] * 9, kind="generate", max_retries=3)
    assert [asked.turn for asked in world.asked] == [0, 1, 2, 3]


def test_what_the_types_own_code_breaks_is_not_asked_again():
    result, world = fitting(text("broken"))
    assert (result.halted_reason, len(world.asked)) == ("error", 1)


def test_a_single_answer_is_the_last_one_with_the_usage_of_all_and_says_so_in_its_stream():
    said = [text("no", usage={"input_tokens": 3, "total_tokens": 5}), text("42", usage={"input_tokens": 4})]
    for kind in ("generate", "step"):
        result, world = fitting(*said, kind=kind)
        response = result if kind == "generate" else result.response
        assert response.parsed == 42
        assert (response.usage.input_tokens, response.usage.total_tokens) == (7, 5)
        assert world.tags.count("step_completed") == 1
        assert world.tags[-1] == "step_completed"
        assert shape(world.events[-1].thread) == ["U hi", "A no", f"U {BAD}", "A 42"]
        told = fold(world.events)
        assert (told.response() if kind == "generate" else told.step_result()) == result


def test_a_single_answer_that_need_not_fit_has_no_such_event():
    world = World([text("42")])
    response = world.run(options("generate"))
    assert isinstance(response, Response)
    assert not any(isinstance(event, StepCompleted) for event in world.events)


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_only_a_whole_answer_is_parsed(finish):
    result, world = fitting(text("no", finish=finish))
    assert (result.halted_reason, result.final_response.parsed) == ("completed", None)
    assert not any(isinstance(effect, ParseAnswer) for effect in world.effects)


def test_of_two_passes_only_the_second_has_to_fit():
    result, world = fitting(text("draft"), text("no"), text("42"), structured_finalize=True, max_turns=1)
    assert [asked.purpose for asked in world.asked] == ["draft", "finalize", "finalize"]
    assert result.final_response.parsed == 42
    assert result.metadata == {"structured_finalize": {"pass_1_halted": "completed"}}


def test_what_fails_while_asking_again_is_data():
    for kind in ("generate", "step"):
        result, _ = fitting(text("no"), RATE_LIMITED, kind=kind)
        response = result if kind == "generate" else result.response
        assert response.metadata["error"] == RATE_LIMITED
    for fields in ({}, {"structured_finalize": True, "script": [text("draft"), text("no"), RATE_LIMITED]}):
        result, _ = fitting(text("no"), RATE_LIMITED, **fields)
        assert (result.halted_reason, result.metadata["error"]) == ("error", RATE_LIMITED)
        assert "rejected" in result.steps[-1].response.metadata


def test_halt_when_is_asked_about_a_rejected_answer():
    result, world = fitting(text("no"), judge=lambda step: "rejected" in step.response.metadata)
    assert (result.halted_reason, len(world.asked)) == ("halt_when", 1)


def test_an_adapter_cannot_reject_in_our_name():
    result, world = fitting(text("42", rejected="ha"))
    assert (result.halted_reason, len(world.asked)) == ("completed", 1)
    assert result.final_response.metadata == {}
    result, _ = chat(text("hi", rejected="ha"))
    assert result.halted_reason == "completed"


def parsing(kind, **fields):
    state, _ = loop.start(options(kind, parses=True, **fields), HI)
    state, _ = loop.step(state, ModelEvents(0, text("no")))
    state, effects = loop.step(state, ModelEnded(0))
    assert effects[-1] == ParseAnswer(0, "no")
    assert [shape(effect.thread) for effect in effects[:-1]] == [["U hi", "A no"]], (
        "stored before it is parsed"
    )
    return state


def test_a_rejected_answer_is_stored_before_it_is_asked_for_again():
    for kind, done in [("chat", [Checkpoint, Emit, CallModel]), ("step", [Checkpoint, CallModel])]:
        _, effects = loop.step(parsing(kind), AnswerParsed(0, problem="bad"))
        assert kinds(effects) == done
        assert effects[-1].thread == effects[0].thread
        assert effects[-1].turn == 1


def test_news_of_another_turn_changes_nothing():
    state = parsing("chat")
    for news in (AnswerParsed(1, 42), ModelEnded(0), ModelFailed(0, AdapterError("unknown"))):
        assert loop.step(state, news) == (state, ())


@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
def test_a_cancel_while_the_answer_is_parsed_keeps_the_answer(kind):
    _, effects = loop.step(parsing(kind), Cancelled())
    result = effects[-1].result
    assert isinstance(effects[-1], Finish)
    if kind == "chat":
        assert (result.halted_reason, shape(result.thread)) == ("cancelled", ["U hi", "A no"])
        assert result.final_response.output_text == "no"
        return
    response = result if kind == "generate" else result.response
    assert (response.output_text, response.parsed) == ("no", None)
    error = response.metadata["error"]
    assert error.reason == "cancelled"
    shown = [event for effect in effects if isinstance(effect, Emit) for event in effect.events]
    assert shown[0] == ErrorEvent(error), "whoever only reads the events knows it too"


@pytest.mark.parametrize("bad", [-1, 1.5, True, "2"])
def test_a_number_of_retries_that_means_nothing(bad):
    with pytest.raises(ValueError, match="max_retries must be 0 or a positive integer"):
        options(max_retries=bad)


def test_a_cancel_while_the_second_pass_is_asked_again_keeps_the_thread_of_the_last_step():
    state, _ = loop.start(options(parses=True, structured_finalize=True), HI)
    for turn, said in enumerate(["free", "no"]):
        state, _ = loop.step(state, ModelEvents(turn, text(said)))
        state, _ = loop.step(state, ModelEnded(turn))
    state, _ = loop.step(state, AnswerParsed(1, problem="bad"))
    _, effects = loop.step(state, Cancelled("cancelled"))
    result = effects[-1].result
    assert len(result.steps) == 2
    assert result.thread == result.steps[-1].thread
