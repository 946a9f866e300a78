"""What a session may do, and where a result leaves it: each cell of each table."""

import re

import msgspec
import pytest

from allm_actors.data import (
    AdapterError,
    AskUser,
    ChatCompleted,
    ChatResult,
    Err,
    ErrorEvent,
    Halt,
    Message,
    Ok,
    Request,
    Response,
    Session,
    SessionError,
    SessionStatusError,
    StepCompleted,
    StepResult,
    StreamError,
    TextDelta,
    TextPart,
    Thread,
    ToolCall,
    ToolCallStarted,
    ToolError,
    ToolResultEncoded,
    ValidationError,
)
from allm_actors.data.rules.validate import validate
from allm_actors.execution import sessions
from allm_actors.execution.effects import Emit
from allm_actors.execution.inputs import Cancelled, ModelEvents
from allm_actors.execution.loop import start, step
from allm_actors.execution.reducer import StreamReducer
from allm_actors.execution.sessions import (
    apply,
    begin,
    halted_reason_of,
    opened,
    recover,
    replace_messages,
    said_by_user,
    spoken,
    submit_tool_result,
    submit_tool_results,
)
from tests.unit.allm_actors.execution.driver import HI, World, broken, calls, options, shape, text, tools

ERROR = AdapterError("rate_limited", request_id="r1")
USER = Message(role="user", content="A")
SYSTEM = Message(role="system", content="be brief")
CALLS = [ToolCall(id=call_id, name="t", arguments={}) for call_id in ("m1", "m2")]
OPEN = HI.add(Message(role="assistant", content="", metadata={"tool_calls": CALLS}))

STANDING = {
    "idle": Session(thread=HI),
    "completed": Session(thread=HI, status="completed"),
    "awaiting_user": Session(
        thread=HI, status="awaiting_user", pending_question="?", pending_tool_call_id="c0"
    ),
    "awaiting_tools": Session(thread=HI, status="awaiting_tools"),
    "pending": Session(thread=OPEN, status="awaiting_tools", pending_tool_calls=CALLS),
    "error": Session(id="s", thread=HI, status="error", metadata={"error": ERROR}),
}
DOING = {
    "start": lambda session: begin(session, "start", [USER]),
    "reply": lambda session: begin(session, "reply", [USER]),
    "continue_user": lambda session: begin(session, "continue", [USER]),
    "continue_other": lambda session: begin(session, "continue", [SYSTEM]),
    "continue_none": lambda session: begin(session, "continue"),
    "step": lambda session: begin(session, "step"),
    "submit": lambda session: submit_tool_result(session, "m1", "x"),
}

OPERATION_NAMES = {
    "continue_user": "continue",
    "continue_other": "continue",
    "continue_none": "continue",
    "submit": "submit_tool_result",
}


def docstring_rules():
    """The first table of the docstring: what may be done, by row and column."""
    lines = sessions.__doc__.splitlines()
    first = next(index for index, line in enumerate(lines) if line.strip().startswith("-----")) + 1
    rows = [line.split() for line in lines[first : first + 6]]
    return {row[0]: tuple(row[1:]) for row in rows}


def docstring_landings():
    """The second table of the docstring: where a result leaves a session."""
    lines = sessions.__doc__.splitlines()
    last = [index for index, line in enumerate(lines) if line.strip().startswith("-----")][-1] + 1
    return [re.split(r"  +", line.strip()) for line in lines[last:] if line.strip()]


def test_the_docstring_is_the_table():
    assert docstring_rules() == sessions.RULES
    assert docstring_landings() == [
        [reason, row.status, row.with_calls_left, row.question, "set" if row.failed else "-"]
        for reason, row in sessions.LANDINGS.items()
    ]


@pytest.mark.parametrize("operation", sessions.OPERATIONS)
@pytest.mark.parametrize("row", sessions.RULES)
def test_a_session_may_do_what_the_table_says(row, operation):
    rule = sessions.RULES[row][sessions.OPERATIONS.index(operation)]
    session, do = STANDING[row], DOING[operation]
    match rule:
        case "run":
            assert do(session).status == ("awaiting_tools" if operation == "submit" else "idle")
        case "raise":
            with pytest.raises(SessionStatusError, match=session.status) as raised:
                do(session)
            assert raised.value.status == session.status
            assert raised.value.operation == OPERATION_NAMES.get(operation, operation)
            assert isinstance(raised.value, ValueError)
        case "unknown":
            with pytest.raises(SessionError, match="m1") as refused:
                do(session)
            assert (refused.value.reason, refused.value.metadata) == (
                "unknown_tool_call_id",
                {"tool_call_id": "m1"},
            )
        case "error":
            with pytest.raises(SessionError, match="recover") as refused:
                do(session)
            assert (refused.value.reason, refused.value.metadata) == (
                "session_in_error_state",
                {"error": ERROR},
            )


def test_calls_that_are_pending_keep_a_session_from_asking_whatever_its_status():
    asked = msgspec.structs.replace(STANDING["awaiting_user"], thread=OPEN, pending_tool_calls=CALLS)
    with pytest.raises(SessionStatusError, match="m1, m2"):
        begin(asked, "reply", [USER])


def test_an_error_comes_before_the_calls_that_are_pending():
    failed = msgspec.structs.replace(STANDING["error"], thread=OPEN, pending_tool_calls=CALLS)
    for do in DOING.values():
        with pytest.raises(SessionError, match="recover"):
            do(failed)


# --- beginning ----------------------------------------------------------------------------------------------------


def test_what_is_said_is_at_the_end_of_the_thread():
    session = begin(STANDING["idle"], "reply", [USER])
    assert (shape(session.thread), session.status) == (["U hi", "U A"], "idle")
    assert shape(STANDING["idle"].thread) == ["U hi"]


def test_a_question_stays_pending_until_its_answer_was_answered():
    session = begin(STANDING["awaiting_user"], "reply", [USER])
    assert (session.pending_question, session.pending_tool_call_id) == ("?", "c0")


def test_a_thread_that_was_cut_off_is_made_whole():
    session = begin(Session(thread=OPEN), "reply", [USER])
    validate(Request(messages=session.thread.messages))


def test_nothing_to_say_leaves_the_thread_as_it_is():
    assert begin(STANDING["idle"], "continue").thread is HI


@pytest.mark.parametrize("given", [Session(thread=HI, id="s"), HI, list(HI.messages), ()])
def test_a_session_opens_from_what_holds_messages(given):
    assert isinstance(opened(given), Session)


def test_a_session_that_is_given_keeps_what_it_is():
    assert opened(STANDING["error"]) is STANDING["error"]


@pytest.mark.parametrize("given", ["hi", None, ["hi"], {"messages": []}])
def test_a_session_opens_from_nothing_else(given):
    words = rf"\(expected a list of messages, .*, or a Thread, got {type(given).__name__}\)$"
    with pytest.raises(ValidationError, match=words) as refused:
        opened(given)
    assert (refused.value.reason, refused.value.errors) == (
        "invalid_session_input",
        [("session_input", "invalid_type")],
    )


# --- where a chat leaves it ---------------------------------------------------------------------------------------


def after(reason, session=STANDING["idle"], thread=HI, **fields):
    return apply(session, ChatResult(halted_reason=reason, thread=thread, **fields))


def test_what_is_said_is_a_text_or_a_message():
    assert spoken("A") == USER
    assert spoken(SYSTEM) is SYSTEM
    with pytest.raises(TypeError, match="got int"):
        spoken(5)


def test_what_the_user_says_is_of_the_user():
    assert said_by_user("A") == USER
    assert said_by_user(USER) is USER
    with pytest.raises(ValueError, match="'system' message"):
        said_by_user(SYSTEM)


@pytest.mark.parametrize("reason", ["completed", "max_turns", "halt_when", "plan_submitted"])
def test_a_chat_that_came_to_an_end_completes(reason):
    assert after(reason, metadata={"k": 1}).status == "completed"


def test_a_question_waits_for_the_user():
    session = after("ask_user", pending_question="?", pending_tool_call_id="c0")
    assert (session.status, session.pending_question, session.pending_tool_call_id) == (
        "awaiting_user",
        "?",
        "c0",
    )


def test_manual_calls_wait_for_their_results():
    session = after("manual_tool_calls", thread=OPEN, metadata={"manual_tool_calls": CALLS[:1]})
    assert (session.status, session.pending_tool_calls) == ("awaiting_tools", CALLS[:1])


def test_in_manual_mode_all_calls_of_the_answer_wait():
    session = after("manual_tool_calls", thread=OPEN, final_response=Response(tool_calls=CALLS))
    assert (session.status, session.pending_tool_calls) == ("awaiting_tools", CALLS)


def test_no_call_waits_where_there_is_none():
    session = after("manual_tool_calls", final_response=None)
    assert (session.status, session.pending_tool_calls) == ("awaiting_tools", [])
    step = StepResult(thread=HI, response=None, done=False, metadata={"mode": "manual"})
    assert (apply(session, step).status, apply(session, step).pending_tool_calls) == ("idle", [])


def test_no_call_waits_that_was_answered():
    answered = OPEN.add(Message(role="tool", content="x", tool_call_id="m1"))
    session = after("manual_tool_calls", thread=answered, final_response=Response(tool_calls=CALLS))
    assert session.pending_tool_calls == CALLS[1:]


def test_a_call_waits_whose_id_an_earlier_step_has_used_too():
    again = OPEN.messages[-1]
    earlier = OPEN.add(*[Message(role="tool", content="x", tool_call_id=call.id) for call in CALLS])
    left = {"manual_tool_calls": CALLS}
    assert after("manual_tool_calls", thread=earlier.add(again), metadata=left).pending_tool_calls == CALLS


def test_what_is_no_call_does_not_wait():
    session = after("manual_tool_calls", thread=OPEN, metadata={"manual_tool_calls": [CALLS[0], "m2", {}]})
    assert session.pending_tool_calls == CALLS[:1]


@pytest.mark.parametrize(
    ("reason", "metadata", "error"),
    [
        ("error", {"error": ERROR}, ERROR),
        ("error", {"halt_tool_call_id": "c0"}, {"halt_tool_call_id": "c0"}),
        ("tool_error", {"halt_tool_call_id": "c0"}, {"halt_tool_call_id": "c0"}),
        ("tool_error", {"on_tool_error_exception": ERROR}, ERROR),
    ],
)
def test_a_failed_chat_is_an_error_that_says_why(reason, metadata, error):
    session = after(reason, metadata=metadata)
    assert (session.status, session.metadata["error"]) == ("error", error)
    validate(session)


def test_a_failed_chat_names_its_exception_even_if_that_is_false():
    class Falsy(AdapterError):
        def __bool__(self):
            return False

    error = Falsy("timeout")
    for name in ("error", "on_tool_error_exception"):
        assert after("tool_error", metadata={name: error}).metadata["error"] == str(error)


@pytest.mark.parametrize("reason", ["cancelled", "interrupted"])
def test_a_chat_that_was_stopped_leaves_the_question_where_it_was(reason):
    session = after(reason, session=begin(STANDING["awaiting_user"], "reply", [USER]))
    assert (session.status, session.pending_question, session.pending_tool_call_id) == ("idle", "?", "c0")


def test_an_answered_question_is_gone():
    session = after("completed", session=begin(STANDING["awaiting_user"], "reply", [USER]))
    assert (session.pending_question, session.pending_tool_call_id) == (None, None)


@pytest.mark.parametrize(
    ("reason", "status"), [("plan", "awaiting_tools"), ("ask_user", "awaiting_user"), ("tool_error", "error")]
)
def test_calls_left_to_the_caller_wait_whatever_else_halted(reason, status):
    session = after(reason, thread=OPEN, pending_question="?", metadata={"manual_tool_calls": CALLS})
    assert (session.status, session.pending_tool_calls) == (status, CALLS)


def test_metadata_grows_over_turns_and_the_rest_is_kept():
    before = Session(id="s", context={"k": 1}, metadata={"a": 1, "b": 1})
    session = after("completed", session=before, metadata={"b": 2})
    assert (session.id, session.context, session.metadata) == ("s", {"k": 1}, {"a": 1, "b": 2})


def test_a_result_without_a_thread_keeps_the_sessions():
    assert after("cancelled", thread=None).thread is HI


STOPPED = StreamError("cancelled", metadata={"interrupted": True})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"done": True, "metadata": {"halted_reason": "plan"}}, "plan"),
        ({"done": True}, "completed"),
        ({"done": False}, None),
        ({"done": True, "metadata": {"halted_reason": "ask_user"}}, "ask_user"),
        ({"metadata": {"manual_tool_calls": CALLS}}, "manual_tool_calls"),
        ({"done": True, "response": Response(finish_reason="error", metadata={"error": ERROR})}, "error"),
        ({"response": Response(metadata={"error": StreamError("cancelled")})}, "cancelled"),
        ({"response": Response(metadata={"error": STOPPED})}, "interrupted"),
        ({"response": Response(finish_reason="error", metadata={"error": StreamError("timeout")})}, "error"),
    ],
)
def test_why_a_step_ended(fields, why):
    assert halted_reason_of(StepResult(thread=HI, **fields)) == why
    assert halted_reason_of(Response()) is None


# --- where a step leaves it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"done": True}, "completed"),
        ({"done": False}, "idle"),
        ({"done": True, "metadata": {"halted_reason": "plan"}}, "completed"),
        ({"done": True, "metadata": {"halted_reason": "tool_error"}}, "error"),
        ({"done": True, "metadata": {"halted_reason": "ask_user", "pending_question": "?"}}, "awaiting_user"),
        ({"done": True, "metadata": {"halted_reason": "interrupted"}}, "idle"),
        ({"done": True, "metadata": {"halted_reason": "cancelled"}}, "idle"),
        ({"metadata": {"manual_tool_calls": CALLS}}, "awaiting_tools"),
        ({"metadata": {"mode": "manual"}, "response": Response(tool_calls=CALLS)}, "awaiting_tools"),
        ({"done": True, "response": Response(finish_reason="error", metadata={"error": ERROR})}, "error"),
        (
            {
                "done": True,
                "response": Response(finish_reason="error", metadata={"error": StreamError("cancelled")}),
            },
            "idle",
        ),
    ],
    ids=str,
)
def test_a_step_leaves_a_session_where_the_table_says(result, status):
    session = apply(Session(), StepResult(thread=OPEN, **result))
    assert (session.status, session.thread) == (status, OPEN)
    validate(session)


def test_a_bare_response_leaves_a_session_as_it_is():
    assert apply(STANDING["idle"], Response()) is STANDING["idle"]


# --- results of manual calls --------------------------------------------------------------------------------------


def test_results_are_in_the_order_they_were_submitted_in():
    session = submit_tool_result(STANDING["pending"], "m2", "two")
    assert (session.status, session.pending_tool_calls) == ("awaiting_tools", CALLS[:1])
    session = submit_tool_result(session, "m1", "one")
    assert (session.status, session.pending_tool_calls) == ("idle", [])
    assert shape(session.thread)[2:] == ["T(m2) two", "T(m1) one"]


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (Ok("two"), "two"),
        (Ok({"a": 1}), '{"a":1}'),
        (Ok([TextPart(text="two")]), [TextPart(text="two")]),
        (Err("no"), '{"error":"no"}'),
        (None, "null"),
        (5, "5"),
    ],
    ids=str,
)
def test_what_a_handler_returned_can_be_submitted_as_it_is(content, sent):
    session = submit_tool_result(STANDING["pending"], "m2", content)
    assert session.thread.last.content == sent


def test_a_result_can_be_submitted_once():
    session = submit_tool_result(STANDING["pending"], "m1", "one")
    with pytest.raises(SessionError, match="m1"):
        submit_tool_result(session, "m1", "again")


def test_a_call_nobody_waits_for_has_no_result():
    with pytest.raises(SessionError) as refused:
        submit_tool_result(STANDING["pending"], "a1", "x")
    assert (refused.value.reason, refused.value.metadata) == ("unknown_tool_call_id", {"tool_call_id": "a1"})
    assert refused.value.message == "tool_call_id 'a1' not in pending_tool_calls (m1, m2)"
    with pytest.raises(SessionError, match=r"'a1' not in pending_tool_calls \(none\)$") as refused:
        submit_tool_result(STANDING["awaiting_tools"], "a1", "x")
    assert (refused.value.reason, refused.value.metadata) == ("unknown_tool_call_id", {"tool_call_id": "a1"})


def test_an_id_is_a_string():
    with pytest.raises(TypeError, match="string"):
        submit_tool_result(STANDING["pending"], 5, "x")


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        ("x", "x"),
        ({"a": 1}, '{"a":1}'),
        (5, "5"),
        (None, "null"),
        ([1], "[1]"),
        ([], "[]"),
        ([TextPart(text="p")], [TextPart(text="p")]),
        ([TextPart(text="caf\udce9")], [TextPart(text="caf\ufffd")]),
    ],
)
def test_a_result_is_kept_as_text_or_as_parts(content, stored):
    assert submit_tool_result(STANDING["pending"], "m1", content).thread.last.content == stored


def test_a_result_that_json_cannot_carry_is_told_somehow():
    assert "object" in submit_tool_result(STANDING["pending"], "m1", object()).thread.last.content


def test_several_results_are_submitted_together_or_not_at_all():
    assert submit_tool_results(STANDING["pending"], [("m1", "1"), ("m2", "2")]).status == "idle"
    with pytest.raises(SessionError):
        submit_tool_results(STANDING["pending"], [("m1", "1"), ("nope", "2")])
    with pytest.raises(SessionError, match="'m3' not in pending_tool_calls"):
        submit_tool_results(STANDING["pending"], [("m1", "1"), ("m2", "2"), ("m3", "3")])
    with pytest.raises(SessionError, match="'m2' not in pending_tool_calls"):
        submit_tool_results(STANDING["pending"], [("m1", "1"), ("m2", "2"), ("m2", "again")])


@pytest.mark.parametrize("wrong", [{"m1": 1}, "m1", ["m1"], [("m1",)], [(1, "m1")]])
def test_results_that_are_no_pairs_are_refused(wrong):
    with pytest.raises(TypeError, match="got: "):
        submit_tool_results(STANDING["pending"], wrong)


@pytest.mark.parametrize("row", STANDING)
def test_nothing_to_submit_is_always_right(row):
    assert submit_tool_results(STANDING[row], []) is STANDING[row]


# --- recovering ---------------------------------------------------------------------------------------------------


def test_a_session_that_ended_in_an_error_can_go_on():
    failed = HI.add(Message(role="assistant", content="", metadata={"finish_reason": "error"}))
    session = recover(Session(thread=failed, status="error", metadata={"error": ERROR, "k": 1}))
    assert (session.status, session.metadata, session.thread) == ("idle", {"k": 1}, HI)
    begin(session, "reply", [USER])


def test_without_the_empty_answer_the_thread_is_what_it_was():
    metadata = {"title": "weather"}
    messages = [*HI.messages, Message(role="assistant", content="", metadata={"finish_reason": "error"})]
    session = recover(Session(thread=Thread(messages=messages, metadata=metadata), status="error"))
    assert session.thread == Thread(messages=HI.messages, metadata=metadata)


def test_what_was_said_before_an_error_is_kept():
    said = HI.add(Message(role="assistant", content="par", metadata={"finish_reason": "error"}))
    assert recover(Session(thread=said, status="error")).thread is said
    nothing = HI.add(Message(role="assistant", content="", metadata={"finish_reason": "stop"}))
    assert recover(Session(thread=nothing, status="error")).thread is nothing


def test_a_recovered_session_still_waits_for_its_results():
    session = recover(Session(thread=OPEN, status="error", pending_tool_calls=CALLS[:1]))
    assert (session.status, session.pending_tool_calls) == ("awaiting_tools", CALLS[:1])
    assert shape(session.thread)[2:] == ['T(m2) {"error":"interrupted: the outcome is unknown"}']


@pytest.mark.parametrize("row", [row for row in STANDING if row != "error"])
def test_there_is_nothing_to_recover_from_where_nothing_failed(row):
    assert recover(STANDING[row]) is STANDING[row]


@pytest.mark.parametrize(
    ("row", "operation", "advice"),
    [
        ("idle", "submit", "no tool call is pending"),
        ("pending", "reply", "submit the results of m1, m2 first"),
        ("awaiting_tools", "reply", "all results are submitted; continue without a message"),
        ("awaiting_user", "continue_none", "answer the pending question with reply"),
    ],
)
def test_a_refusal_says_what_can_be_done(row, operation, advice):
    with pytest.raises(SessionStatusError, match=advice):
        DOING[operation](STANDING[row])


# --- other messages -----------------------------------------------------------------------------------------------

EARLIER = Message(role="system", content="You are brief.")


@pytest.mark.parametrize("row", STANDING)
def test_a_session_whose_last_message_stays_waits_for_what_it_waited_for(row):
    before = STANDING[row]
    after = replace_messages(before, [EARLIER, *before.thread.messages])
    assert after.thread.messages[0] == EARLIER
    expected = recover(before)
    waits = (
        "status",
        "pending_tool_calls",
        "pending_question",
        "pending_tool_call_id",
        "context",
        "metadata",
    )
    assert [getattr(after, name) for name in waits] == [getattr(expected, name) for name in waits]


@pytest.mark.parametrize("messages", [[], [EARLIER], [USER], [USER, Message(role="assistant", content="!")]])
@pytest.mark.parametrize("row", STANDING)
def test_a_session_with_another_last_message_waits_for_nothing(row, messages):
    before = msgspec.structs.replace(
        STANDING[row], id="s", context={"user": "ada"}, metadata={"error": ERROR, "k": 1}
    )
    metadata = {"k": 1} if row == "error" else before.metadata
    expected = Session(
        id="s", thread=Thread.from_messages(messages), context={"user": "ada"}, metadata=metadata
    )
    assert replace_messages(before, messages) == expected


def test_an_empty_answer_that_an_error_left_is_not_taken_over():
    failed = Message(role="assistant", content="", metadata={"finish_reason": "error"})
    before = Session(thread=HI.add(failed), status="error", metadata={"error": ERROR})
    after = replace_messages(before, [EARLIER, *before.messages])
    assert (after.status, after.messages) == ("idle", [EARLIER, *HI.messages])


@pytest.mark.parametrize("gone", ["the call", "its openness"])
def test_what_is_not_open_any_more_is_not_waited_for(gone):
    half = submit_tool_result(STANDING["pending"], "m1", "one")  # m2 is open
    first, answer = half.messages[:-2], half.messages[-1]
    if gone == "the call":
        made = Message(role="assistant", content="", metadata={"tool_calls": CALLS[:1]})
        messages = [*first, made, answer]
    else:
        messages = [*half.messages[:-1], Message(role="tool", content="two", tool_call_id="m2"), answer]
    after = replace_messages(half, messages)
    assert (after.status, after.pending_tool_calls, after.messages) == ("idle", [], messages)
    begin(after, "continue")


def test_other_messages_leave_what_the_thread_says_of_itself():
    thread = Thread(messages=HI.messages, metadata={"of": "the thread"})
    assert replace_messages(Session(thread=thread), [USER]).thread.metadata == {"of": "the thread"}


def roles(thread):
    return [message.role for message in thread.messages]


def test_calls_that_other_messages_leave_open_are_answered():
    session = replace_messages(Session(thread=HI), [*OPEN.messages, USER])
    assert (session.status, session.pending_tool_calls) == ("idle", [])
    assert roles(session.thread) == [*roles(OPEN), "tool", "tool", "user"]


@pytest.mark.parametrize(
    ("messages", "reason", "path"),
    [
        ("text", "invalid_session_input", "session_input"),
        ([1], "invalid_session_input", "session_input"),
        (None, "invalid_session_input", "session_input"),
        ([Message(role="nobody", content="x")], "invalid_thread", "messages.0.role"),
        ([Message(role="user", content=7)], "invalid_thread", "messages.0.content"),
        (
            [Message(role="assistant", content="", metadata={"tool_calls": 3})],
            "invalid_thread",
            "messages.0.tool_calls",
        ),
        (
            [Message(role="tool", content="x", tool_call_id="c9")],
            "invalid_thread",
            "messages.0.tool_call_id",
        ),
    ],
)
def test_messages_that_no_model_would_accept_are_refused(messages, reason, path):
    with pytest.raises(ValidationError, match=re.escape(path)) as refused:
        replace_messages(STANDING["completed"], messages)
    assert refused.value.reason == reason


# --- conversations, end to end ------------------------------------------------------------------------------------


def turn(session, operation, messages, *script, kind="chat", world=None, **fields):
    """One turn: begin, run, apply."""
    session = begin(session, operation, messages)
    world = world or World()
    world.script = list(script)
    return apply(session, world.run(options(kind, **fields), session.thread))


def test_a_question_and_its_answer():
    ask = tools(where=lambda _: AskUser("which city?"))
    session = turn(Session(), "start", HI.messages, calls(("c0", "where")), tools=ask)
    assert (session.status, session.pending_question, session.pending_tool_call_id) == (
        "awaiting_user",
        "which city?",
        "c0",
    )
    session = turn(session, "reply", [USER], text("sunny"), tools=ask)
    assert shape(session.thread)[3:] == ["A which city?", "U A", "A sunny"]
    assert (session.status, session.pending_question) == ("completed", None)


def test_a_step_that_asks_shows_its_question_when_it_is_answered():
    ask = tools(where=lambda _: AskUser("which city?"))
    session = turn(Session(), "start", HI.messages, calls(("c0", "where")), kind="step", tools=ask)
    assert (session.status, shape(session.thread)[-1]) == ("awaiting_user", "T(c0) <awaiting user response>")
    session = turn(session, "reply", [USER], text("sunny"), tools=ask)
    assert shape(session.thread)[3:] == ["A which city?", "U A", "A sunny"]


@pytest.mark.parametrize("operation", ["continue", "step"])
def test_a_question_is_put_once_where_its_tool_asked_it(operation):
    ask = tools(where=lambda _: AskUser("which city?"))
    session = turn(Session(), "start", HI.messages, calls(("c0", "where")), kind="step", tools=ask)
    stopped = msgspec.structs.replace(session, status="idle")  # as after a reply that was cancelled
    begun = begin(stopped, operation)
    assert shape(begun.thread)[2:] == ["T(c0) <awaiting user response>", "A which city?"]
    assert begin(begun, operation).thread is begun.thread
    elsewhere = msgspec.structs.replace(stopped, pending_tool_call_id="c1")
    assert begin(elsewhere, operation).thread is stopped.thread
    told = msgspec.structs.replace(stopped.thread.last, content="Paris")
    answered = Thread(messages=[*stopped.messages[:-1], told])
    assert begin(msgspec.structs.replace(stopped, thread=answered), operation).thread is answered


def test_a_question_beside_manual_calls_is_put_when_their_results_are_there():
    both = tools(where=lambda _: AskUser("which city?"), mine=None)
    session = turn(Session(), "start", HI.messages, calls(("c0", "where"), ("m1", "mine")), tools=both)
    assert (session.status, [call.id for call in session.pending_tool_calls]) == ("awaiting_user", ["m1"])
    validate(session)
    session = submit_tool_result(session, "m1", "1")
    assert (session.status, session.pending_question) == ("awaiting_user", "which city?")
    session = turn(session, "reply", [USER], text("sunny"), tools=both)
    assert shape(session.thread)[2:] == [
        "T(c0) <awaiting user response>",
        "T(m1) 1",
        "A which city?",
        "U A",
        "A sunny",
    ]
    validate(Request(messages=session.thread.messages))


def test_the_manual_cycle():
    session = turn(Session(), "start", HI.messages, calls(("m1", "a"), ("m2", "b")), mode="manual")
    session = submit_tool_results(session, [("m2", "2"), ("m1", "1")])
    assert session.status == "idle"
    session = turn(session, "continue", [], text("done"))
    assert (session.status, shape(session.thread)[-1]) == ("completed", "A done")


def test_a_mixed_step_leaves_the_manual_calls_only():
    mixed = tools(mine=None, echo=lambda arguments: arguments)
    made = calls(("m1", "mine"), ("a1", "echo"), ("m2", "mine"))
    session = turn(Session(), "start", HI.messages, made, tools=mixed)
    assert (session.status, [call.id for call in session.pending_tool_calls]) == (
        "awaiting_tools",
        ["m1", "m2"],
    )
    session = submit_tool_results(session, [("m2", "2"), ("m1", "1")])
    assert shape(session.thread)[2:] == ["T(a1) {}", "T(m2) 2", "T(m1) 1"]


def test_a_halted_plan_can_be_talked_about():
    plan = tools(plan=lambda _: Halt("plan_submitted", {"ok": 1}))
    session = turn(Session(), "start", HI.messages, calls(("c0", "plan")), tools=plan)
    assert session.status == "completed"
    assert turn(session, "reply", [USER], text("fine"), tools=plan).status == "completed"


def test_a_failed_tool_and_the_way_back():
    failing = tools(boom=lambda _: ToolError("not_found"))
    session = turn(
        Session(),
        "start",
        HI.messages,
        calls(("c0", "boom")),
        world=World(policy="halt"),
        tools=failing,
        on_tool_error="halt",
    )
    assert (session.status, session.metadata["error"]) == ("error", {"halt_tool_call_id": "c0"})
    assert turn(recover(session), "reply", [USER], text("fine")).status == "completed"


def test_a_broken_answer_and_the_way_back():
    session = turn(Session(), "start", HI.messages, broken(ERROR))
    assert (session.status, session.metadata["error"]) == ("error", ERROR)
    session = turn(recover(session), "reply", [USER], text("fine"))
    assert shape(session.thread) == ["U hi", "U A", "A fine"]


def test_a_cancelled_reply_keeps_what_was_said():
    session = begin(STANDING["awaiting_user"], "reply", [USER])
    state, _ = start(options(), session.thread)
    state, _ = step(state, ModelEvents(0, [TextDelta("par")]))
    _, effects = step(state, Cancelled())
    session = apply(session, effects[-1].result)
    assert shape(session.thread) == ["U hi", "U A", "A par"]
    assert session.thread.last.metadata["partial"] is True
    assert (session.status, session.pending_question) == ("idle", "?")


# --- following a stream -------------------------------------------------------------------------------------------


def reduced(session, events, mode="chat"):
    reducer = StreamReducer(session, mode)
    for event in events:
        reducer.apply(event)
    assert reducer.finish() == reducer.finish()
    return reducer.finish()


def test_following_a_stream_is_applying_its_result():
    world = World(script=[calls(("c0", "echo")), text("done")])
    session = Session(thread=HI)
    result = world.run(options(tools=tools(echo=lambda arguments: arguments)), HI)
    assert reduced(session, world.events) == (apply(session, result), result)


def test_a_stream_that_was_left_early_is_a_cancelled_chat():
    session, result = reduced(STANDING["awaiting_user"], [TextDelta("par")])
    assert (result.halted_reason, session.status, session.pending_question) == ("cancelled", "idle", "?")


def test_a_stream_that_was_left_early_leaves_what_was_said_and_every_call_answered():
    session, _ = reduced(Session(thread=HI), [TextDelta("par"), ToolCallStarted("c0", "echo")])
    assert (shape(session.thread), session.thread.last.metadata["partial"]) == (["U hi", "A par"], True)
    made = calls(("c0", "echo"), ("c1", "echo"))
    session, _ = reduced(Session(thread=HI), [*made, ToolResultEncoded("c0", "zero")])
    assert shape(session.thread) == [
        "U hi",
        "A  +tc",
        "T(c0) zero",
        'T(c1) {"error":"interrupted: the outcome is unknown"}',
    ]


def test_a_result_whose_call_was_filtered_out_of_the_stream_is_not_left_without_it():
    # The model wrote only fragments of c1, and `emit_tool_deltas=False` hides them.
    made = calls(("c0", "echo"))
    answers = [ToolResultEncoded("c0", "zero"), ToolResultEncoded("c1", '{"error":"cut off"}')]
    session, _ = reduced(Session(thread=HI), [*made, *answers])
    assert shape(session.thread) == ["U hi", "A  +tc", "T(c0) zero"]
    validate(session)


def test_a_stream_that_came_to_an_end_leaves_the_thread_of_its_result():
    end = ChatCompleted(ChatResult(thread=HI, halted_reason="cancelled"))
    session, result = reduced(Session(thread=HI), [TextDelta("par"), end])
    assert (result.halted_reason, session.thread) == ("cancelled", HI)


def test_a_reducer_can_be_given_one_event_after_the_other():
    reducer = StreamReducer(Session(thread=HI))
    assert reducer.apply(TextDelta("par")) is reducer


def test_following_a_step_is_applying_it():
    event = StepCompleted(Response(finish_reason="stop"), OPEN)
    for events in ([event], [event, TextDelta("more")]):
        session, result = reduced(Session(thread=HI), events, "step")
        assert (session.status, result.done) == ("completed", True)


@pytest.mark.parametrize("mode", ["chat", "step"])
def test_a_stream_that_was_left_at_its_error_leaves_what_was_said(mode):
    session, result = reduced(Session(thread=HI), [TextDelta("par"), ErrorEvent(ERROR)], mode)
    assert (session.status, session.metadata["error"]) == ("error", ERROR)
    assert shape(session.thread) == ["U hi", "A par"]
    step = result if mode == "step" else result.steps[-1]
    assert (step.done, step.response.text(), step.thread) == (True, "par", session.thread)
    if mode == "chat":
        assert (result.halted_reason, result.final_response) == ("error", step.response)


def test_an_error_whose_step_was_seen_is_said_once():
    response = Response(output_text="par", finish_reason="error", metadata={"error": ERROR})
    thread = HI.add(Message(role="assistant", content="par"))
    closed = [TextDelta("par"), ErrorEvent(ERROR), StepCompleted(response, thread)]
    session, result = reduced(Session(thread=HI), closed)
    assert (session.thread, len(result.steps)) == (thread, 1)


def test_a_step_that_was_left_early_changes_nothing():
    session = Session(thread=HI)
    assert reduced(session, [TextDelta("par")], "step") == (
        session,
        ChatResult(thread=HI, halted_reason="cancelled"),
    )


def test_a_stream_is_followed_as_a_chat_or_as_a_step():
    with pytest.raises(ValueError, match="mode"):
        StreamReducer(Session(), "poem")


def test_sessions_never_lose_a_checkpoint_of_their_turn():
    """What a run shows was stored before: every thread in an event is one of the checkpoints."""
    world = World(script=[calls(("c0", "where"))])
    world.run(options(tools=tools(where=lambda _: AskUser("?"))), HI)
    stored = []
    for effect in world.effects:
        match effect:
            case Emit(events):
                shown = [event.thread for event in events if event.tag == "step_completed"]
                shown += [event.result.thread for event in events if event.tag == "chat_completed"]
                assert all(thread in stored for thread in shown)
            case _ if effect in world.checkpoints:
                stored.append(effect.thread)
            case _:
                pass


def test_threads_are_values():
    assert Thread() == Session().thread


WRONG_SESSIONS = {
    "no session": (None, TypeError, "expected a Session, got NoneType"),
    "no thread": (Session(thread=None), ValidationError, "thread: invalid_type"),
    "no messages": (Session(thread=Thread(messages=[5])), ValidationError, r"messages\.0: invalid_type"),
    "no status": (Session(status=None), ValidationError, "status: unknown"),
    "a list as status": (Session(status=[]), ValidationError, "status: unknown"),
    "pending numbers": (
        Session(pending_tool_calls=[5]),
        ValidationError,
        "it must be a list of ToolCall values",
    ),
    "calls as dicts": (
        Session(thread=HI.add(Message(role="assistant", content="", metadata={"tool_calls": [{"id": "c"}]}))),
        ValidationError,
        "messages.1.tool_calls: invalid_type",
    ),
}


@pytest.mark.parametrize(("value", "error", "words"), WRONG_SESSIONS.values(), ids=WRONG_SESSIONS)
def test_what_is_no_session_is_refused_by_every_operation(value, error, words):
    for operation in (
        lambda: begin(value, "reply", [USER]),
        lambda: begin(value, "step"),
        lambda: submit_tool_result(value, "c0", 1),
        lambda: recover(value),
    ):
        with pytest.raises(error, match=words):
            operation()
