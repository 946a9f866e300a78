"""Sessions as values, and the tables that they and a host's sessions follow, walked from outside."""

import asyncio
import datetime

import msgspec
import pytest

import allm_actors as allm
from allm_actors.actors.store import MemoryStore, Save
from allm_actors.data import Session, Thread, ToolCall
from allm_actors.execution import sessions
from allm_actors.testing import script

from .halts import CALLS_LEFT, CHATS, HALTED_REASONS, HI, OWN, SAYS, STEPS, TOOLS, called, fake, tool

CALLS = [ToolCall(id="m1", name="manual", arguments={})]
OPEN = [*HI, allm.Message(role="assistant", content="", metadata={"tool_calls": CALLS})]
ERROR = allm.AdapterError("rate_limited")
STANDING = {
    "idle": {"thread": Thread(messages=HI)},
    "completed": {"thread": Thread(messages=HI), "status": "completed"},
    "awaiting_user": {
        "thread": Thread(messages=HI),
        "status": "awaiting_user",
        "pending_question": "?",
        "pending_tool_call_id": "c0",
    },
    "awaiting_tools": {"thread": Thread(messages=HI), "status": "awaiting_tools"},
    "pending": {"thread": Thread(messages=OPEN), "status": "awaiting_tools", "pending_tool_calls": CALLS},
    "error": {"thread": Thread(messages=HI), "status": "error", "metadata": {"error": ERROR}},
}
VALUES = {
    "start": lambda engine, session: allm.session.start(engine, session)[0],
    "reply": lambda engine, session: allm.session.reply(engine, session, "A")[0],
    "continue_user": lambda engine, session: allm.session.continue_(engine, session, "A")[0],
    "continue_other": lambda engine, session: allm.session.continue_(
        engine, session, allm.system("be brief")
    )[0],
    "continue_none": lambda engine, session: allm.session.continue_(engine, session, None)[0],
    "step": lambda engine, session: allm.session.step(engine, session)[0],
    "submit": lambda _engine, session: allm.session.submit_tool_result(session, "m1", "x"),
}
HANDLES = {
    "reply": lambda handle: handle.reply("A").result(),
    "continue_user": lambda handle: handle.continue_("A").result(),
    "continue_other": lambda handle: handle.continue_(allm.system("be brief")).result(),
    "continue_none": lambda handle: handle.continue_().result(),
    "step": lambda handle: handle.step().result(),
    "submit": lambda handle: handle.submit_tool_result("m1", "x"),
}


def refusal(rule):
    return {
        "raise": (allm.SessionStatusError, "illegal_for_status"),
        "error": (allm.SessionError, "session_in_error_state"),
        "unknown": (allm.SessionError, "unknown_tool_call_id"),
    }[rule]


# --- what may be done ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", sessions.OPERATIONS)
@pytest.mark.parametrize("row", sessions.RULES)
def test_a_value_may_do_what_the_table_says(row, operation):
    record = []
    engine = allm.Engine(adapter="fake", adapter_opts={"script": SAYS, "record": record})
    session = Session(id="s", **STANDING[row])
    before = allm.to_json(session)
    rule = sessions.RULES[row][sessions.OPERATIONS.index(operation)]
    if rule == "run":
        after = VALUES[operation](engine, session)
        assert after.status == ("idle" if operation == "submit" else "completed")
        assert len(record) == (operation != "submit")
    else:
        with pytest.raises(allm.AllmError) as refused:
            VALUES[operation](engine, session)
        assert (type(refused.value), refused.value.reason) == refusal(rule)
        assert record == []
    assert allm.to_json(session) == before


@pytest.mark.parametrize("row", sessions.RULES)
def test_the_session_of_a_host_may_do_what_the_table_says(row):
    store = MemoryStore()
    names = [operation for operation in sessions.OPERATIONS if operation in HANDLES]
    for name in names:
        store.save([Save(Session(id=name, **STANDING[row]), 0)])
    with allm.Host(store=store) as host:
        for name in names:
            rule = sessions.RULES[row][sessions.OPERATIONS.index(name)]
            handle = host.session(name, fake(SAYS))
            if rule == "run":
                HANDLES[name](handle)
                assert handle.status == ("idle" if name == "submit" else "completed")
            else:
                with pytest.raises(allm.AllmError) as refused:
                    HANDLES[name](handle)
                assert (type(refused.value), refused.value.reason) == refusal(rule)


# --- where it lands -----------------------------------------------------------------------------------------------


def test_there_is_a_chat_for_every_reason_and_a_row_for_every_landing():
    assert CHATS.keys() == HALTED_REASONS
    assert set(sessions.LANDINGS) - {sessions.GOING_ON, sessions.ANY_OTHER} <= HALTED_REASONS
    # A step that leaves calls goes on, and what interrupts it cancels its answer.
    assert {*STEPS, "manual_tool_calls", "interrupted"} == set(sessions.LANDINGS)


@pytest.mark.parametrize("reason", CHATS)
def test_a_chat_lands_where_the_table_says(reason):
    session, result = CHATS[reason]()
    landing = sessions.LANDINGS.get(reason, sessions.LANDINGS[sessions.ANY_OTHER])
    assert result.halted_reason == reason
    left = bool(session.pending_tool_calls)
    assert session.status == (landing.with_calls_left if left else landing.status)
    assert session.thread == result.thread
    assert (session.pending_question is not None) == (landing.question == "asked")
    assert ("error" in session.metadata) == landing.failed
    allm.validate(session)


@pytest.mark.parametrize("row", STEPS)
def test_a_step_lands_where_the_table_says(row):
    session, result = STEPS[row]()
    landing = sessions.LANDINGS[row]
    assert isinstance(result, allm.StepResult)
    assert (session.status, session.thread) == (landing.status, result.thread)
    assert (session.pending_question is not None) == (landing.question == "asked")
    assert ("error" in session.metadata) == landing.failed
    allm.validate(session)


@pytest.mark.parametrize("row", CALLS_LEFT)
def test_a_call_that_was_left_stays_pending_as_the_table_says(row):
    session, _ = CALLS_LEFT[row]()
    assert session.status == sessions.LANDINGS[row].with_calls_left
    assert [call.name for call in session.pending_tool_calls] == ["manual"]


def test_what_was_cancelled_keeps_the_question():
    asked, _ = CHATS["ask_user"]()
    stream = allm.session.stream_reply(fake(SAYS), asked, "A")
    stream.close()
    session, result = stream.finish()
    assert (session.status, session.pending_question) == ("idle", "which city?")
    assert (result.halted_reason, session.messages[-1].content) == ("cancelled", "A")


def test_what_failed_can_be_recovered():
    failed, _ = CHATS["error"]()
    session = allm.session.recover(failed)
    assert (session.status, "error" in session.metadata) == ("idle", False)
    session, result = allm.session.continue_(fake(SAYS), session, None)
    assert (session.status, result.final_response.text()) == ("completed", "ok")


# --- what else a session brings -----------------------------------------------------------------------------------


def test_contexts_go_over_each_other_and_the_id_is_told():
    seen = []
    look = allm.Tool(
        name="look",
        description="",
        schema={},
        handler=lambda _, context: seen.append((context.context, context.session_id)),
    )
    engine = fake(called("look"), SAYS, called("look"), SAYS, tools=[look], context={"a": 1, "b": 1, "c": 1})
    session = Session(id="s", context={"b": 2, "c": 2})
    allm.session.reply(engine, session, "hi", context={"c": 3})
    allm.session.reply(engine, Session(id=""), "hi")
    assert seen == [({"a": 1, "b": 2, "c": 3}, "s"), ({"a": 1, "b": 1, "c": 1}, None)]


def test_a_start_keeps_the_session_and_the_thread_it_is_given():
    thread = Thread(messages=HI, metadata={"title": "rain"})
    session, _ = allm.session.start(fake(SAYS), Session(id="s", thread=thread, metadata={"owner": 7}))
    assert (session.id, session.metadata, session.thread.metadata) == ("s", {"owner": 7}, {"title": "rain"})
    session, _ = allm.session.start(fake(SAYS), thread)
    assert session.thread.metadata == {"title": "rain"}
    assert session.messages[:1] == HI


def test_two_replies_to_one_value_are_two_branches():
    session, _ = allm.session.start(fake(SAYS), HI)
    one, _ = allm.session.reply(fake(SAYS), session, "left")
    two, _ = allm.session.reply(fake(SAYS), session, "right")
    assert [m.content for m in one.messages[2:]] == ["left", "ok"]
    assert [m.content for m in two.messages[2:]] == ["right", "ok"]
    assert len(session.messages) == 2


def test_a_refusal_before_the_first_event_is_raised_and_leaves_the_value():
    session = Session(thread=Thread(messages=HI))
    with pytest.raises(allm.AdapterError, match="rate_limited"):
        allm.session.reply(fake([script.preflight_error("rate_limited")]), session, "hi")
    assert session == Session(thread=Thread(messages=HI))


def test_a_run_that_nobody_reads_asks_nobody():
    ran = []
    stream = allm.session.stream_start(fake(called("t"), SAYS, tools=[tool("t", ran.append)]), HI)
    stream.close()
    session, result = stream.finish()
    assert (ran, session.status, result.halted_reason, session.messages) == ([], "idle", "cancelled", HI)


def test_a_run_that_is_left_among_its_tools_keeps_what_they_did():
    engine = fake(called("gives", "gives"), SAYS, tools=TOOLS)
    stream = allm.session.stream_start(engine, HI, max_concurrency=1)
    reducer = allm.session.StreamReducer(stream.session)
    for event in stream:
        reducer.apply(event)
        if isinstance(event, allm.ToolResultEncoded):
            break
    stream.close()
    session, result = reducer.finish()
    assert (session.status, result.halted_reason) == ("idle", "cancelled")
    _, calling, first, second = session.messages
    assert [call.id for call in calling.tool_calls] == ["c0", "c1"]
    assert (first.content, second.tool_call_id) == ("{}", "c1")
    assert "interrupted" in second.content or "unknown" in second.content
    _, after = allm.session.reply(fake(SAYS), session, "go on")
    assert after.halted_reason == "completed"


@pytest.mark.parametrize("session", ["hi", None, Thread(), HI], ids=lambda value: type(value).__name__)
def test_only_a_session_is_replied_to(session):
    with pytest.raises(TypeError, match=r"session\.start"):
        allm.session.reply(fake(SAYS), session, "hi")


def test_only_the_user_replies():
    with pytest.raises(ValueError, match="continue_"):
        allm.session.reply(fake(SAYS), Session(), allm.system("be brief"))
    with pytest.raises(TypeError, match="Message"):
        allm.session.reply(fake(SAYS), Session(), 5)


def test_sessions_are_awaited_too():
    async def run():
        engine = fake(called("manual"), SAYS, SAYS, tools=TOOLS)
        session, result = await allm.aio.session.start(engine, HI)
        assert result.halted_reason == "manual_tool_calls"
        session = allm.aio.session.submit_tool_results(session, [("c0", {"x": 1})])
        session, result = await allm.aio.session.continue_(engine, session, None)
        assert session.messages[2].content == '{"x":1}'
        stream = allm.aio.session.stream_reply(engine, session, "and?")
        reducer = allm.aio.session.StreamReducer(stream.session)
        async for event in stream:
            reducer.apply(event)
        assert reducer.finish() == await stream.afinish()
        return reducer.finish()[0]

    assert asyncio.run(run()).status == "completed"


def test_a_value_can_be_stored_and_woken_as_it_was():
    session, _ = CHATS[OWN]()
    assert allm.from_json(allm.to_json(session)) == session
    woken = allm.from_msgpack(allm.to_msgpack(session))
    after, _ = allm.session.reply(fake(SAYS), woken, "go on")
    assert after.status == "completed"
    assert msgspec.structs.replace(woken, thread=Thread()) == msgspec.structs.replace(
        session, thread=Thread()
    )


@allm.tool
def reserve(seats: int) -> allm.Halt:
    """Reserve seats."""
    return allm.Halt("reserved", {"seats": seats, "until": datetime.date(2026, 5, 4)})


@allm.tool
def choose() -> allm.AskUser:
    """Ask for a seat."""
    return allm.AskUser("which seat?", free=["1a", "1b"], plan=open)


@pytest.mark.parametrize(
    ("tool", "arguments", "kept"),
    [
        (reserve, {"seats": 2}, {"halt_result": {"seats": 2, "until": "2026-05-04"}}),
        (choose, {}, {"ask_user_opts": {"free": ["1a", "1b"], "plan": repr(open)}}),
    ],
    ids=["halt", "question"],
)
def test_whatever_a_tool_said_a_session_can_be_stored(tool, arguments, kept):
    played = [script.tool_call(tool.name, arguments), script.finish("tool_calls")]
    engine = allm.Engine("fake", tools=[tool], adapter_opts={"scripts": [played]})
    value, _ = allm.session.start(engine, HI)
    with allm.Host() as host:
        handle = host.session("s", allm.Engine("fake", tools=[tool], adapter_opts={"scripts": [played]}))
        handle.reply("hi").result()
        for session in (value, handle.value):
            assert kept.items() <= session.metadata.items()
            assert allm.from_json(allm.to_json(session)) == session


# --- turns that are closed before they are read -------------------------------------------------------------------

SHAPE = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
CLOSED = {
    "a chat": ("continue", {}, {}),
    "a step": ("step", {}, {}),
    "a chat of two passes": (
        "continue",
        {"structured_finalize": True, "response_format": SHAPE},
        {"structured_finalize": {"pass_1_halted": "cancelled"}},
    ),
}


@pytest.mark.parametrize("what", CLOSED)
def test_what_is_closed_before_it_is_read_has_one_result(what):
    operation, options, metadata = CLOSED[what]
    value = Session(id="s", thread=Thread(messages=HI))
    opens = {"continue": allm.session.stream_continue, "step": allm.session.stream_step}
    stream = opens[operation](fake(SAYS), value, request_id="r", **options)
    stream.close()
    value, of_value = stream.finish()
    with allm.Host() as host:
        chat = host.session("s", fake(SAYS))
        chat.replace_messages(HI)
        turn = {"continue": chat.continue_, "step": chat.step}[operation](request_id="r", **options)
        turn.close()
        of_host = turn.result()
        assert chat.value == value
    assert (of_value.metadata, value.metadata, value.status) == (metadata, metadata, "idle")
    assert of_host.metadata == metadata
    if operation == "step":
        assert of_value.response.output_text == of_host.response.output_text == ""
        assert of_value.response.metadata["error"].reason == "cancelled"
    else:
        assert of_value == of_host


# --- messages that no request can carry ---------------------------------------------------------------------------

UNREADABLE = allm.user([allm.ImagePart(image=allm.Image.from_base64("!!!", mime_type="image/png"))])
WAY_OUT = (
    r"the session has had messages\[0\] since an earlier turn: take it out with session.replace_messages"
)


def strict(**options):
    """An engine whose adapter refuses what it cannot send; nothing is ever sent."""
    return allm.Engine("openai-compatible:m", adapter_opts={"base_url": "http://127.0.0.1:9/v1"}, **options)


@pytest.mark.parametrize("how", ["closed", "cancelled", "stopped", "interrupted"])
def test_a_host_tells_how_to_take_out_what_an_earlier_turn_left_and_no_request_can_carry(how, tmp_path):
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", strict(), when_busy="interrupt")
        turn = chat.reply(UNREADABLE)
        if how == "closed":
            turn.close()
        elif how == "cancelled":
            chat.cancel()
            assert turn.result().halted_reason == "cancelled"
        elif how == "interrupted":
            with pytest.raises(allm.ValidationError, match=WAY_OUT):
                chat.reply("hello").result()
    with allm.Host(store=tmp_path / "s.db") as host:
        chat = host.session("s", strict())
        assert chat.messages == [UNREADABLE]
        for ask in (chat.continue_, lambda: chat.reply("hello"), chat.step):
            with pytest.raises(allm.ValidationError, match=WAY_OUT) as refused:
                ask().result()
            assert refused.value.reason == "invalid_message"
            assert refused.value.errors == [(["content", 0, 0], "unresolvable_image")]
        chat.replace_messages(chat.messages[1:])
        assert host.session("s", fake(SAYS)).reply("hello").result().halted_reason == "completed"


def test_the_message_of_this_turn_is_refused_without_that_advice():
    with allm.Host() as host, pytest.raises(allm.ValidationError) as refused:
        host.session("s", strict()).reply(UNREADABLE).result()
    assert "earlier turn" not in str(refused.value)
    for ask in (
        lambda: allm.session.start(strict(), [UNREADABLE]),
        lambda: allm.session.reply(strict(), Session(), UNREADABLE),
        lambda: allm.chat(strict(), [UNREADABLE]),
    ):
        with pytest.raises(allm.ValidationError) as refused:
            ask()
        assert "earlier turn" not in str(refused.value)


@pytest.mark.parametrize("key", ["k", lambda: "k"], ids=["at once", "in a worker"])
def test_a_value_tells_that_too(key):
    session = Session(thread=Thread(messages=[UNREADABLE]))
    for ask in (
        lambda: allm.session.reply(strict(), session, "hello", api_key=key),
        lambda: allm.session.continue_(strict(), session, api_key=key),
        lambda: allm.session.step(strict(), session, api_key=key),
    ):
        with pytest.raises(allm.ValidationError, match=WAY_OUT):
            ask()
    session = allm.session.replace_messages(session, [])
    assert allm.session.reply(fake(SAYS), session, "hello")[0].status == "completed"


def test_a_half_answer_that_is_not_sent_does_not_hide_which_message_it_is():
    half = allm.Message(role="assistant", content="Hel", metadata={"partial": True})
    session = Session(thread=Thread(messages=[*HI, half, half, UNREADABLE]))
    for ask in (
        lambda: allm.session.reply(strict(), session, "hello"),
        lambda: allm.session.reply(strict(), session, "hello", api_key=lambda: "k"),
    ):
        with pytest.raises(allm.ValidationError, match=r"has had messages\[3\] since"):
            ask()


def test_a_thread_that_cannot_be_sent_is_refused_alike_before_it_is_stored():
    stray = allm.tool_result("c9", "x")
    with pytest.raises(allm.ValidationError) as of_value:
        allm.session.continue_(fake(SAYS), Session(id="s", thread=Thread(messages=HI)), stray)
    with allm.Host() as host:
        chat = host.session("s", fake(SAYS))
        chat.replace_messages(HI)
        with pytest.raises(allm.ValidationError) as of_host:
            chat.continue_(stray)
        assert chat.messages == HI
    assert of_value.value == of_host.value
    assert of_host.value.reason == "invalid_thread"
    assert of_host.value.errors == [(["messages", 1, "tool_call_id"], "unknown_tool_call_id")]


def test_a_value_with_a_thread_that_was_never_valid_tells_how_to_mend_it():
    session = Session(thread=Thread(messages=[allm.tool_result("c9", "x")]))
    with pytest.raises(allm.ValidationError, match=WAY_OUT):
        allm.session.reply(fake(SAYS), session, "hello")
    session = allm.session.replace_messages(session, HI)
    assert allm.session.reply(fake(SAYS), session, "hello")[0].status == "completed"
