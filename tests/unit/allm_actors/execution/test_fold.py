"""What events come to."""

import pytest

from allm_actors.data import (
    AdapterError,
    AskUserRequested,
    ChatCompleted,
    ChatResult,
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    MessageStarted,
    RawChunk,
    Response,
    StepCompleted,
    StreamError,
    TextCompleted,
    TextDelta,
    TextPart,
    Thread,
    ToolCall,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
    ToolError,
    ToolHalt,
    ToolResultEncoded,
    Usage,
    read_arguments,
)
from allm_actors.execution.fold import Fold, fold

HI = Thread().add_user("hi")
SAID = Message(role="assistant", content="hello")
ERROR = AdapterError("rate_limited")


def nested(levels):
    it: object = None
    for _ in range(levels):
        it = {"a": it}
    return it


def response(*events):
    return fold(events).response()


# --- text ---------------------------------------------------------------------------------------------------------


def test_a_text_is_the_join_of_its_deltas():
    assert response(TextDelta("hel"), TextDelta("lo")).output_text == "hello"


def test_the_completed_text_has_the_last_word():
    assert response(TextDelta("hel"), TextCompleted("hello")).output_text == "hello"


def test_blocks_are_told_apart_by_their_ids():
    events = TextDelta("a", "1"), TextDelta("b", "2"), TextCompleted("A", "1"), TextCompleted("B", "2")
    assert response(*events).output_text == "AB"


def test_completed_blocks_alone_are_the_text():
    assert response(TextCompleted("A", "1"), TextCompleted("B", "2")).output_text == "AB"


def test_a_completed_text_without_an_id_is_the_whole_text():
    assert response(TextDelta("a", "1"), TextDelta("b", "2"), TextCompleted("AB")).output_text == "AB"


def test_a_completed_block_has_the_last_word_over_deltas_without_an_id():
    assert response(TextDelta("hel"), TextCompleted("hello", "1")).output_text == "hello"


def test_the_completed_message_has_the_text_if_nothing_else_has():
    assert response(MessageStarted(), MessageCompleted(SAID, "stop")).output_text == "hello"
    parts = Message(role="assistant", content=[TextPart(text="hel"), TextPart(text="lo")])
    assert response(MessageCompleted(parts, "stop")).output_text == "hello"
    for said in (TextDelta("hi"), TextCompleted("hi"), TextCompleted("hi", "1")):
        assert response(said, MessageCompleted(SAID, "stop")).output_text == "hi"
    assert response(TextCompleted(""), MessageCompleted(SAID, "stop")).output_text == ""
    nothing = Message(role="assistant", content="")
    assert response(MessageCompleted(nothing, "stop")).output_text == ""


def test_a_message_says_what_its_texts_say_whatever_else_is_in_it():
    picture = ImagePart(image=Image(source=("url", "https://pictures.example/cat.png")))
    parts = Message(role="assistant", content=[TextPart(text="hel"), picture, TextPart(text="lo")])
    assert response(MessageCompleted(parts, "stop")).output_text == "hello"


def test_an_answer_of_calls_only_has_an_empty_text():
    assert response(ToolCallStarted("c0", "echo")).output_text == ""


# --- calls --------------------------------------------------------------------------------------------------------


def test_a_completed_call_keeps_the_place_of_its_first_sight():
    events = (
        ToolCallStarted("c0", "a"),
        ToolCallStarted("c1", "b"),
        ToolCallCompleted("c1", "b", {"x": 1}, '{"x":1}'),
        ToolCallCompleted("c0", "a", {}, "{}", {"k": "v"}),
    )
    assert response(*events).tool_calls == [
        ToolCall(id="c0", name="a", arguments={}, raw_arguments="{}", metadata={"k": "v"}),
        ToolCall(id="c1", name="b", arguments={"x": 1}, raw_arguments='{"x":1}'),
    ]


def test_fragments_of_arguments_are_gathered_and_never_parsed():
    events = ToolCallStarted("c0", "a"), ToolCallDelta("c0", '{"x"'), ToolCallDelta("c0", ":1}")
    assert response(*events).tool_calls == [
        ToolCall(id="c0", name="a", arguments={}, raw_arguments='{"x":1}')
    ]
    assert fold(events).unfinished_calls == {"c0"}


def test_a_fragment_of_an_unknown_call_begins_one_without_a_name():
    assert response(ToolCallDelta("c0", "{")).tool_calls == [
        ToolCall(id="c0", name="", arguments={}, raw_arguments="{")
    ]


def test_the_name_of_a_completed_call_is_a_text():
    assert response(ToolCallCompleted("c0", 5, {})).tool_calls[0].name == "5"


def test_a_completed_call_is_no_longer_unfinished():
    assert (
        fold([ToolCallStarted("c0", "a"), ToolCallCompleted("c0", "a", {})]).unfinished_calls == frozenset()
    )


def test_arguments_that_are_nested_too_deeply_to_be_stored_are_none():
    looped: dict = {"x": 1}
    looped |= {"a": looped, "b": looped}
    for deep in (nested(65), [nested(64)], looped):
        [call] = response(ToolCallCompleted("c0", "a", deep, None, {"k": "v"})).tool_calls
        assert (call.arguments, call.metadata.pop("arguments_error")) == (
            {},
            "the arguments are nested more than 64 levels deep",
        )
        assert call.metadata == {"k": "v"}
    [call] = response(ToolCallCompleted("c0", "a", nested(64))).tool_calls
    assert (call.arguments, call.metadata) == (nested(64), {})


def test_arguments_that_an_adapter_could_not_read_are_said_to_be_invalid():
    for raw in ('{"x": 1', "[1]", "null", "*.txt"):
        [call] = response(ToolCallCompleted("c0", "a", {}, raw, {"k": "v"})).tool_calls
        assert (call.arguments, call.raw_arguments) == ({}, raw)
        assert call.metadata.pop("arguments_error") == read_arguments(raw)[1]["arguments_error"]
        assert call.metadata == {"k": "v"}
    [call] = response(ToolCallCompleted("c0", "a", {}, "{", {"arguments_error": "mine"})).tool_calls
    assert call.metadata == {"arguments_error": "mine"}
    for given, raw in (({}, "{}"), ({}, " "), ({}, None), ({}, {}), ({"x": 1}, "{"), ({"x": 1}, None)):
        [call] = response(ToolCallCompleted("c0", "a", given, raw)).tool_calls
        assert (call.arguments, call.metadata) == (given, {})


# --- the end of an answer -----------------------------------------------------------------------------------------


def test_the_end_carries_who_answered_and_what_it_cost():
    usage = Usage(input_tokens=1)
    carried = {
        "id": "x",
        "model": "m",
        "request_id": "r",
        "raw_finish_reason": "end_turn",
        "usage": usage,
        "k": "v",
    }
    answer = response(MessageCompleted(SAID, "stop", carried))
    assert (answer.id, answer.model, answer.request_id, answer.raw_finish_reason) == (
        "x",
        "m",
        "r",
        "end_turn",
    )
    assert (answer.message, answer.finish_reason, answer.usage, answer.metadata) == (
        SAID,
        "stop",
        usage,
        {"k": "v"},
    )


def test_usage_is_merged_field_by_field():
    answer = response(
        RawChunk(("usage", {"input_tokens": 1, "output_tokens": 1, "extra": {"a": 1}})),
        MessageCompleted(SAID, "stop", {"usage": Usage(output_tokens=5)}),
        RawChunk(["usage", {"total_tokens": 6, "input_tokens": None, "extra": {"b": 2}}]),
    )
    assert answer.usage == Usage(input_tokens=1, output_tokens=5, total_tokens=6, extra={"a": 1, "b": 2})


def test_usage_that_has_no_field_is_kept_as_extra():
    assert response(RawChunk(("usage", {"web_searches": 2}))).usage == Usage(extra={"web_searches": 2})
    searched, read = RawChunk(("usage", {"web_searches": 2})), RawChunk(("usage", {"pages": 3}))
    assert response(searched, read).usage == Usage(extra={"web_searches": 2, "pages": 3})


def test_what_several_tools_used_is_added_up_by_name():
    told = [RawChunk(("usage", {"tool_usage": {name: 1}})) for name in ("search", "code")]
    assert response(*told).usage == Usage(tool_usage={"search": 1, "code": 1})


def test_an_error_is_not_hidden_by_a_later_end():
    answer = response(ErrorEvent(ERROR), MessageCompleted(SAID, "stop"))
    assert (answer.finish_reason, answer.metadata) == ("error", {"error": ERROR})


def test_an_error_is_not_hidden_by_an_earlier_end():
    assert response(MessageCompleted(SAID, "stop"), ErrorEvent(ERROR)).finish_reason == "error"


def test_the_first_error_stays():
    assert response(ErrorEvent(ERROR), ErrorEvent(StreamError("timeout"))).metadata == {"error": ERROR}


def test_an_error_without_a_value_is_still_an_error():
    assert response(ErrorEvent(None)).metadata["error"].reason == "unknown"


@pytest.mark.parametrize(
    ("given", "words"),
    [("boom", "boom"), (ValueError("boom"), "ValueError: boom"), ({"a": 1}, "{'a': 1}"), ("", ""), (0, "0")],
)
def test_what_is_no_error_of_this_library_is_quoted_by_one(given, words):
    error = response(ErrorEvent(given)).metadata["error"]
    assert error == StreamError("unknown", message=f"the adapter failed: {words}")


def test_an_error_may_tell_whose_answer_it_ended():
    known = {"response_id": "x", "model": "m", "raw_finish_reason": "MALFORMED"}
    failed = ErrorEvent(AdapterError("malformed_response", metadata=known))
    answer = response(failed)
    assert (answer.id, answer.model, answer.raw_finish_reason) == ("x", "m", "MALFORMED")
    answer = response(MessageCompleted(SAID, "stop", {"id": "y"}), failed)
    assert (answer.id, answer.model) == ("y", "m")
    answer = response(ErrorEvent(AdapterError("malformed_response", metadata={"response_id": 5})))
    assert (answer.id, answer.finish_reason) == (None, "error")


def test_nothing_is_an_empty_answer():
    assert response() == Response(output_text="")


# --- steps and chats ----------------------------------------------------------------------------------------------


def step(*calls, thread=HI, finish="tool_calls", **fields):
    made = [ToolCall(id=call, name="t", arguments={}) for call in calls]
    return StepCompleted(Response(tool_calls=made, finish_reason=finish), thread, **fields)


def test_answers_are_in_the_order_of_the_calls():
    events = ToolResultEncoded("c1", "one"), ToolResultEncoded("c0", "zero"), step("c0", "c1")
    result = fold(events).step_result()
    assert [message.content for message in result.tool_results] == ["zero", "one"]
    assert (result.done, result.metadata) == (False, {})


def test_the_first_halt_in_the_order_of_the_calls_decides():
    events = ToolHalt("c1", "late", 1, "1"), AskUserRequested("c0", "t", "which?", {"k": 1}), step("c0", "c1")
    result = fold(events).step_result()
    assert result.done
    assert result.metadata == {
        "halted_reason": "ask_user",
        "pending_question": "which?",
        "pending_tool_call_id": "c0",
        "ask_user_opts": {"k": 1},
    }
    assert [message.content for message in result.tool_results] == ["<awaiting user response>", "1"]


def test_a_custom_halt_carries_its_result_and_a_tool_error_does_not():
    assert fold([ToolHalt("c0", "plan", {"a": 1}, "x"), step("c0")]).step_result().metadata == {
        "halted_reason": "plan",
        "halt_tool_call_id": "c0",
        "halt_result": {"a": 1},
    }
    assert fold(
        [ToolHalt("c0", "tool_error", ToolError("timeout"), "x"), step("c0")]
    ).step_result().metadata == {
        "halted_reason": "tool_error",
        "halt_tool_call_id": "c0",
    }


def test_a_halt_without_a_text_is_answered_with_its_result():
    assert fold([ToolHalt("c0", "plan", 5), step("c0")]).step_result().tool_results[0].content == "5"


def test_a_call_is_answered_once():
    result = fold(
        [ToolResultEncoded("c0", "first"), ToolResultEncoded("c0", "second"), step("c0")]
    ).step_result()
    assert [message.content for message in result.tool_results] == ["first"]


def test_answers_to_no_call_of_the_step_come_last():
    events = ToolResultEncoded("c9", "stray"), ToolResultEncoded("c0", "zero"), step("c0")
    result = fold(events).step_result()
    assert [message.content for message in result.tool_results] == ["zero", "stray"]


def test_an_id_may_be_used_again_by_the_next_step():
    events = ToolResultEncoded("c0", "first"), step("c0"), ToolResultEncoded("c0", "second"), step("c0")
    assert fold(events).step_result().tool_results[0].content == "second"


def test_manual_mode_is_told_of_steps_with_calls_only():
    assert fold([step("c0", mode="manual")]).step_result().metadata == {"mode": "manual"}
    assert fold([step(mode="manual", finish="stop")]).step_result().metadata == {}


def test_calls_left_to_the_caller_are_told():
    left = [ToolCall(id="m", name="t", arguments={})]
    assert fold([step("m", manual_tool_calls=left)]).step_result().metadata == {"manual_tool_calls": left}


@pytest.mark.parametrize(
    ("finish", "done"),
    [
        ("stop", True),
        ("length", True),
        ("content_filter", True),
        ("error", True),
        ("tool_calls", False),
        (None, False),
    ],
)
def test_a_step_is_done_when_its_answer_is_final(finish, done):
    assert fold([step(finish=finish)]).step_result().done is done


def test_an_unfinished_step_needs_a_thread_to_be_told():
    events = [TextDelta("x")]
    with pytest.raises(ValueError, match="thread"):
        fold(events).step_result()
    assert fold(events, HI).step_result().thread == HI


def test_an_unfinished_step_says_what_is_known_of_it():
    result = fold([TextDelta("x"), MessageCompleted(SAID, "stop", {"k": "v"})], HI).step_result()
    assert (result.done, result.metadata, result.response.output_text) == (True, {"k": "v"}, "x")
    assert not fold([TextDelta("x")], HI).step_result().done
    called = [ToolCallStarted("c0", "t"), ToolHalt("c0", "enough", result=1, content="1")]
    result = fold([*called, MessageCompleted(SAID, "tool_calls", {"k": "v"})], HI).step_result()
    halt = {"halted_reason": "enough", "halt_tool_call_id": "c0", "halt_result": 1}
    assert (result.done, result.metadata) == (True, {"k": "v"} | halt)
    assert [answer.content for answer in result.tool_results] == ["1"]


def test_between_answers_the_response_is_the_last_one():
    reader = fold([TextDelta("a"), step(finish="stop")])
    assert reader.response().finish_reason == "stop"
    assert reader.apply(TextDelta("b")).response().output_text == "b"


def test_of_several_steps_the_last_one_counts():
    first, last = HI.add_assistant("a"), HI.add_assistant("a").add_user("u").add_assistant("b")
    steps = step(thread=first, finish="length"), step(thread=last, finish="stop")
    reader = fold(steps)
    assert (reader.response(), reader.step_result().thread) == (steps[1].response, last)
    left = reader.chat_result()
    assert (left.thread, left.final_response) == (last, steps[1].response)
    broken = fold([*steps, MessageStarted(), TextDelta("c"), ErrorEvent(ERROR)]).broken()
    assert broken.thread.messages[:-1] == last.messages


def test_an_error_alone_is_an_answer_too():
    reader = fold([TextDelta("a"), step(finish="stop"), ErrorEvent(ERROR)])
    assert (reader.response().finish_reason, reader.response().output_text) == ("error", "")


def test_what_one_answer_used_is_not_counted_for_the_next():
    reader = fold([RawChunk(("usage", {"input_tokens": 3})), step(), TextDelta("b")])
    assert reader.response().usage == Usage()


def test_a_chats_result_is_the_one_it_said():
    result = ChatResult(thread=HI, halted_reason="completed", final_response=Response(output_text="x"))
    reader = fold([ChatCompleted(result)])
    assert reader.chat_result() is result
    assert reader.response() is result.final_response
    said = [TextDelta("part"), ChatCompleted(ChatResult(thread=HI, halted_reason="error"))]
    assert fold(said).response() == Response(output_text="")
    assert fold([step(finish="stop"), *said]).response().finish_reason == "stop"


def test_a_chat_left_early_is_cancelled_with_the_steps_it_took():
    after = HI.add_assistant("a")
    result = fold([step(thread=after, finish="stop"), TextDelta("b")], HI).chat_result()
    assert (result.halted_reason, len(result.steps), result.thread) == ("cancelled", 1, after)
    assert result.final_response == result.steps[0].response


def test_a_chat_left_after_an_error_says_so():
    result = fold([ErrorEvent(ERROR)], HI).chat_result()
    assert (result.halted_reason, result.metadata) == ("error", {"error": ERROR})
    failed = StepCompleted(Response(finish_reason="error", metadata={"error": ERROR}), HI)
    assert fold([failed]).chat_result().halted_reason == "error"


def test_a_chat_left_early_says_what_its_answers_said_and_no_error_where_there_was_none():
    told = [MessageCompleted(SAID, "tool_calls", {"k": "v"}), step(), TextDelta("b")]
    assert fold(told, HI).chat_result().metadata == {"k": "v"}
    assert fold([*told, ErrorEvent(ERROR)], HI).chat_result().metadata == {"k": "v", "error": ERROR}


def test_of_a_chat_left_early_the_first_error_stays():
    later = {"error": StreamError("timeout")}
    failed = StepCompleted(Response(finish_reason="error", metadata=later), HI)
    for end in (failed, step(finish="stop")):
        assert fold([ErrorEvent(ERROR), end]).chat_result().metadata == {"error": ERROR}


def test_a_broken_answer_has_the_request_id_of_its_error():
    failed = ErrorEvent(AdapterError("rate_limited", message="m").of_call("r1"))
    step = fold([MessageStarted(), TextDelta("a"), failed], HI).broken()
    assert (step.response.request_id, step.response.output_text) == ("r1", "a")
    own = MessageCompleted(SAID, "stop", {"request_id": "r0"})
    step = fold([MessageStarted(), own, failed], HI).broken()
    assert step.response.request_id == response(own).request_id


def test_a_chat_left_early_needs_a_thread_to_be_told():
    with pytest.raises(ValueError, match="thread"):
        Fold().chat_result()


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        5,
        "text_delta",
        TextDelta(None),
        TextDelta("a", []),
        TextCompleted(None),
        TextCompleted(5),
        ToolCallStarted([], None),
        ToolCallDelta("c0", None),
        ToolCallCompleted([], None, None),
        MessageCompleted(None, None, None),
        MessageCompleted(SAID, []),
        MessageCompleted("x", None),
        MessageCompleted({"content": "x"}, None),
        MessageCompleted(None, None, {"usage": {"input_tokens": "x", "output_cost": True}}),
        RawChunk(("usage", 5)),
        RawChunk(("usage", {"extra": 5})),
        RawChunk(None),
        StepCompleted(None, None),
        ChatCompleted(None),
        ToolResultEncoded([], None),
        MessageStarted(None),
    ],
    ids=str,
)
def test_an_event_without_sense_does_not_stop_the_fold(nonsense):
    reader = fold([nonsense, TextDelta("o"), nonsense, TextDelta("k")], HI)
    assert reader.response().output_text == "ok"
    assert isinstance(reader.response().message, Message | None)
    assert (reader.response().usage.input_tokens, reader.response().usage.output_cost) == (None, None)
    assert reader.chat_result().halted_reason == "cancelled"
    assert reader.step_result().thread == HI
