"""Sessions as values: whole, streamed and reduced, awaited, or as the session of a host, the same comes of it."""

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors.data.rules.validate import validate
from allm_actors.execution import sessions

from . import drivers
from .drivers import HI, Loop, Pure, cases, outcome, shape

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
law = settings(max_examples=1000 if THOROUGH else 60, derandomize=not THOROUGH)
ID = allm.Session(id="s", metadata={"kept": 1})
SESSION = msgspec.structs.replace(ID, thread=allm.Thread(messages=HI, metadata={"of": "the thread"}))


@pytest.fixture(scope="module")
def loop():
    running = Loop()
    yield running
    running.close()


@pytest.fixture(scope="module")
def host():
    with allm.Host() as running:
        yield running


WAYS = {
    "start": lambda case, module: module.start(case.engine(), SESSION, **case.all_options),
    "reply": lambda case, module: module.reply(case.engine(), ID, "hi", **case.all_options),
    "continue": lambda case, module: module.continue_(case.engine(), ID, HI[0], **case.all_options),
    "step": lambda case, module: module.step(case.engine(), SESSION, **case.all_options),
}
STREAMS = {
    "start": lambda case: allm.session.stream_start(case.engine(), SESSION, **case.all_options),
    "reply": lambda case: allm.session.stream_reply(case.engine(), ID, "hi", **case.all_options),
    "continue": lambda case: allm.session.stream_continue(case.engine(), ID, HI[0], **case.all_options),
    "step": lambda case: allm.session.stream_step(case.engine(), SESSION, **case.all_options),
}
GIVEN = {"start": SESSION, "reply": ID, "continue": ID, "step": SESSION}


def kind_of(way):
    return "step" if way == "step" else "chat"


def reduced(way, case, *, given):
    """The stream, read to its end by a reducer that holds the value that was given, or the one the run began with."""
    stream = STREAMS[way](case)
    reducer = allm.session.StreamReducer(GIVEN[way] if given else stream.session, mode=kind_of(way))
    for event in stream:
        reducer.apply(event)
    assert shape(reducer.finish()) == shape(reducer.finish())
    return reducer.finish()


@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_a_session_is_its_stream_reduced(way, loop):
    @law
    @given(cases(kind_of(way)))
    def holds(case):
        expected = outcome(WAYS[way], case, allm.session)
        assert outcome(reduced, way, case, given=True) == expected
        assert outcome(reduced, way, case, given=False) == expected
        assert outcome(lambda: STREAMS[way](case).finish()) == expected
        assert outcome(lambda: loop.run(WAYS[way](case, allm.aio.session))) == expected

    holds()


@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_a_session_is_what_the_machine_makes_of_its_thread(way):
    @law
    @given(cases(kind_of(way)))
    def holds(case):
        verdict, result = outcome(WAYS[way], case, allm.session)
        reference = Pure(kind_of(way), case)
        pure_verdict, pure = outcome(reference)
        assert verdict == pure_verdict
        if verdict == "raised":
            assert result == pure
        else:
            assert _threadless(result[1]) == _threadless(pure)

    holds()


def _threadless(value):
    """Without the threads' own metadata, which the machine here was not given."""
    match value:
        case ("Thread", fields):
            return ("Thread", fields["messages"])
        case tuple() | list():
            return [_threadless(item) for item in value]
        case dict():
            return {key: _threadless(item) for key, item in value.items()}
        case _:
            return value


@law
@given(cases("chat"))
def test_a_reply_is_what_the_session_of_a_host_comes_to(host, case):
    def hosted():
        session = host.session(f"v{next(drivers._numbers)}", case.engine())
        try:
            result = session.reply("hi", **case.all_options).result()
            return session.value, result
        finally:
            session.stop()

    def as_value():
        session, result = allm.session.reply(case.engine(), allm.Session(), "hi", **case.all_options)
        metadata = {name: drivers._stored(value) for name, value in session.metadata.items()}
        return msgspec.structs.replace(session, metadata=metadata), result

    verdict, value = outcome(as_value)
    hosted_verdict, of_host = outcome(hosted)
    assert hosted_verdict == verdict
    if verdict == "raised":
        assert of_host == value
    else:
        (_, session), result = value[0], value[1]
        (_, other), other_result = of_host[0], of_host[1]
        assert {**other, "id": None} == session
        assert other_result == result


@law
@given(cases("chat"), st.integers(0, 30))
def test_a_run_that_is_left_early_keeps_what_was_said_and_can_be_replied_to(case, count):
    try:
        stream = allm.session.stream_reply(case.engine(), ID, "hi", **case.all_options)
    except allm.AllmError:
        return
    reducer = allm.session.StreamReducer(stream.session)
    over = False
    for _, event in zip(range(count), stream, strict=False):
        reducer.apply(event)
        over = over or isinstance(event, allm.ChatCompleted)
    stream.close()
    for session, result in (reducer.finish(), stream.finish()):
        assert session.messages[:1] == HI
        assert session.thread == result.thread
        validate(session.thread)
        if result.halted_reason == "cancelled":
            assert session.status == "idle"
            validate(allm.Request(messages=sessions.begin(session, "reply", HI).messages))
    if not over:
        session, result = reducer.finish()
        assert result.halted_reason in ("cancelled", "error")
        shows_all = (
            case.all_options.get("emit_text_deltas", True)
            and "response_format" not in case.all_options
            and not any(map(_goes_on_after_its_error, case.scripts))
        )
        if result.halted_reason == "error" and shows_all:
            ended, whole = stream.finish()
            assert (session.status, session.thread) == (ended.status, ended.thread)
            for told in (result, whole):
                assert told.final_response == told.steps[-1].response
            assert len(result.steps) == len(whole.steps)
            early, late = result.final_response, whole.final_response
            assert (early.text(), early.request_id) == (late.text(), late.request_id)


def _goes_on_after_its_error(script):
    """What comes after an error is told, too, and whoever has left before has not heard it."""
    tags = [entry[0] for entry in script]
    return "error" in tags and not {"text", "tool_call"}.isdisjoint(tags[tags.index("error") :])


OPERATIONS = (
    "reply",
    "reply",
    "continue_user",
    "continue_none",
    "step",
    "submit",
    "submit",
    "recover",
    "rewind",
    "trim",
)


def on_value(engine, session, name, options):
    """An operation of a session value: the value after it, and what it gave."""
    match name:
        case "reply":
            return allm.session.reply(engine, session, "go on", **options)
        case "continue_user":
            return allm.session.continue_(engine, session, "go on", **options)
        case "continue_none":
            return allm.session.continue_(engine, session, None, **options)
        case "step":
            return allm.session.step(engine, session, **options)
        case "submit":
            return allm.session.submit_tool_result(session, _first_pending(session), {"by": "hand"}), None
        case "recover":
            return allm.session.recover(session), None
        case "rewind":
            return allm.session.replace_messages(session, _rewound(session)), None
        case "trim":
            return allm.session.replace_messages(session, _trimmed(session)), None


def on_handle(handle, name, options):
    """The same of a host's session."""
    match name:
        case "reply":
            return handle.reply("go on", **options).result()
        case "continue_user":
            return handle.continue_("go on", **options).result()
        case "continue_none":
            return handle.continue_(None, **options).result()
        case "step":
            return handle.step(**options).result()
        case "submit":
            handle.submit_tool_result(_first_pending(handle.value), {"by": "hand"})
            return None
        case "recover":
            handle.recover()
            return None
        case "rewind":
            handle.replace_messages(_rewound(handle.value))
            return None
        case "trim":
            handle.replace_messages(_trimmed(handle.value))
            return None


def _first_pending(session):
    return session.pending_tool_calls[0].id if session.pending_tool_calls else "nobody"


def _rewound(session):
    return session.messages[:-1]


def _trimmed(session):
    """What follows the first exchange: perhaps answers to calls that are not there any more, which is refused."""
    return session.messages[2:]


def _as_stored(session):
    metadata = {name: drivers._stored(value) for name, value in session.metadata.items()}
    return msgspec.structs.replace(session, metadata=metadata)


@law
@given(cases("chat"), st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=7), st.data())
def test_a_whole_conversation_is_the_same_with_a_host_and_without(host, case, operations, data):
    scripts = case.scripts + data.draw(st.lists(drivers.turns(), min_size=4, max_size=8))
    case = drivers.Case(scripts, case.options, case.filters)
    engine = case.engine()
    value = allm.Session(id=f"v{next(drivers._numbers)}")
    handle = host.session(value.id, case.engine())
    try:
        for name in operations:
            after = [value]  # the value itself, besides its shape

            def on_this(name=name, after=after):
                session, result = on_value(engine, after[0], name, case.all_options)
                after[0] = _as_stored(session)
                return result

            assert outcome(on_this) == outcome(on_handle, handle, name, case.all_options)
            (value,) = after
            assert shape(handle.value) == shape(value)
    finally:
        handle.stop()
