"""The scripted provider plays what was written, and nothing else."""

import time

import pytest

from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    Message,
    MessageCompleted,
    MessageStarted,
    RawChunk,
    Request,
    StreamError,
    TextCompleted,
    TextDelta,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from allm_actors.engine import Adapter, Call, Delay, Scripted
from allm_actors.engine.fake import Counter, FakeAdapter
from allm_actors.execution.fold import fold
from allm_actors.testing import script as s

ASK = Request(messages=[Message(role="user", content="hi")])


def call(**options):
    return Call(request_id="r1", options=options, cursor_key=1)


def play(*entries, **options):
    return list(FakeAdapter().play(ASK, call(script=list(entries), **options)))


def test_it_keeps_both_contracts():
    assert isinstance(FakeAdapter(), Adapter)
    assert isinstance(FakeAdapter(), Scripted)


def test_a_misspelt_option_is_refused_and_one_of_another_layer_is_not():
    with pytest.raises(
        TypeError, match="adapter_opts of 'fake' has no option 'scritps'; did you mean 'scripts'"
    ):
        play(s.text("a"), scritps=[])
    assert play(s.text("a"), s.finish("stop"), stream_timeout=1.0, base_url="http://x", mine=3)


def test_text_is_delta_by_delta_and_then_whole():
    assert play(s.text("Hel"), s.text(""), s.text("lo"), s.finish("stop")) == [
        MessageStarted(),
        TextDelta("Hel"),
        TextDelta("lo"),
        TextCompleted("Hello"),
        MessageCompleted(Message(role="assistant", content="Hello"), "stop"),
    ]


def test_calls_are_numbered_through_all_scripts_unless_they_have_an_id():
    fake = FakeAdapter(
        scripts=[[s.tool_call("a"), s.tool_call("b", {"n": 1}, id="mine")], [s.tool_call("a")]]
    )
    first, second = list(fake.play(ASK, call())), list(fake.play(ASK, call()))
    assert [e for e in first if isinstance(e, ToolCallStarted)] == [
        ToolCallStarted("c0", "a"),
        ToolCallStarted("mine", "b"),
    ]
    completed = [e for e in first if isinstance(e, ToolCallCompleted)]
    assert completed[1] == ToolCallCompleted("mine", "b", {"n": 1}, '{"n":1}')
    assert second[1] == ToolCallStarted("c2", "a")
    assert [c.id for c in first[-1].message.tool_calls] == ["c0", "mine"]


def ids(events):
    return [e.id for e in events if isinstance(e, ToolCallStarted)]


def test_a_number_that_the_script_gives_to_a_call_is_left_to_it():
    first, second = s.tool_call("t", {"n": 1}), s.tool_call("t", {"n": 2}, id="c0")
    events = play(first, second, s.finish("tool_calls"))
    assert ids(events) == ["c1", "c0"]
    assert [c.id for c in events[-1].message.tool_calls] == ["c1", "c0"]
    assert ids(play(second, first)) == ["c0", "c1"]


def test_numbers_stay_within_their_script():
    fake = FakeAdapter(scripts=[[s.tool_call("t", id="c1"), s.tool_call("t")], [s.tool_call("t")]])
    assert [ids(fake.play(ASK, call())) for _ in range(2)] == [["c1", "c0"], ["c2"]]


def test_raw_arguments_are_read_and_their_errors_kept():
    good, bad = [
        e
        for e in play(s.tool_call("a", raw_arguments='{"n": 1}'), s.tool_call("a", raw_arguments="{"))
        if isinstance(e, ToolCallCompleted)
    ]
    assert (good.arguments, good.raw_arguments, good.metadata) == ({"n": 1}, '{"n": 1}', {})
    assert (bad.arguments, bad.raw_arguments) == ({}, "{")
    assert "not valid JSON" in bad.metadata["arguments_error"]


def test_the_last_usage_is_in_the_completed_message_and_the_option_wins():
    last = play(s.usage(input_tokens=1), s.usage(input_tokens=2), s.finish("stop"))[-1]
    assert last.metadata == {"usage": Usage(input_tokens=2)}
    last = play(s.usage(input_tokens=1), usage={"input_tokens": 9})[-1]
    assert last.metadata == {"usage": Usage(input_tokens=9)}
    with pytest.raises(TypeError):
        s.usage(inputs=1)


def test_other_entries():
    events = play(
        s.tool_call_delta("c", "{"), s.raw_chunk({"x": 1}), s.delay(2), s.finish("length"), s.text("never")
    )
    assert events[1:4] == [ToolCallDelta("c", "{"), RawChunk({"x": 1}), Delay(2.0)]
    assert events[-1].finish_reason == "length"


def test_a_script_without_finish_ends_without_a_reason():
    assert play()[-1] == MessageCompleted(Message(role="assistant", content=""), None)


def test_errors_are_events_and_the_script_goes_on():
    events = play(
        s.error("rate_limited", retry_after_ms=500),
        s.error("boom"),
        s.error(StreamError("cancelled")),
        s.finish("stop"),
    )
    first, second, third = [e.error for e in events if isinstance(e, ErrorEvent)]
    assert first == AdapterError("rate_limited", provider="fake", retry_after_ms=500)
    assert (second.reason, second.cause) == ("unknown", "boom")
    assert third == StreamError("cancelled")
    assert events[-1].finish_reason == "stop"


def test_a_preflight_error_is_raised_by_the_call_itself():
    with pytest.raises(AdapterError) as refused:
        FakeAdapter().play(ASK, call(script=[s.preflight_error("authentication_failed", status=401)]))
    assert (refused.value.reason, refused.value.status) == ("authentication_failed", 401)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"script": [("bogus", 1)]}, "bogus.*text"),
        ({"script": [s.finish("nope")]}, "nope"),
        ({"script": [s.text("a"), s.preflight_error("timeout")]}, "first entry"),
        ({"script": [s.delay(-1)]}, "seconds"),
        ({"script": [], "scripts": []}, "cannot mix"),
    ],
)
def test_a_script_that_cannot_be_played_is_refused_at_the_call(options, names):
    with pytest.raises(ValueError, match=names):
        FakeAdapter().play(ASK, call(**options))


@pytest.mark.parametrize(
    ("entry", "error", "what"),
    [
        (("text",), ValueError, "it takes one value, got: 0; it is written as script.text"),
        (("text", "a", "b"), ValueError, "it takes one value, got: 2"),
        (("finish",), ValueError, r"written as script.finish\(reason\)"),
        (("raw_chunk",), ValueError, r"written as script.raw_chunk\(payload\)"),
        (("error",), ValueError, "it takes a reason and, optionally, fields, got: 0 values"),
        (("error", "rate_limited", 5), TypeError, r"written as script.error\(reason, \*\*fields\)"),
        (s.error("timeout", colour="red"), TypeError, "AdapterError has no field 'colour'"),
        (("stream_error", "nope"), ValueError, "StreamError reason must be one of"),
        (("tool_call",), TypeError, "a tool_call must have a name, got: None"),
        (("tool_call", "c0"), TypeError, "a tool_call must have a name, got: None"),
        (("tool_call", {"arguments": {}}), TypeError, r"written as script.tool_call\(name, arguments"),
        (("tool_call", {"name": "t", "bogus": 1}), TypeError, "unexpected keyword argument 'bogus'"),
        (("tool_call", "c", "t", {}, "{}", 5), TypeError, "positional arguments"),
        (("tool_call", {"name": "t", "id": 5}), TypeError, "id of a tool_call must be a string, got: 5"),
        (s.tool_call("t", raw_arguments=5), TypeError, "raw_arguments must be JSON text, got: 5"),
        (("usage", {"input_tokens": "x"}), TypeError, "input_tokens of a usage must be a number, got: 'x'"),
        (("usage", Usage(output_cost=True)), TypeError, "output_cost of a usage must be a number, got: True"),
        (
            s.tool_call("t", '{"x":1}'),
            TypeError,
            "arguments must be a dict .JSON text goes into raw_arguments",
        ),
        (s.tool_call("t", {"a": "\ud800"}), ValueError, "surrogates not allowed"),
        (s.tool_call_delta("c", 5), TypeError, "a fragment of text, got: 'c', 5"),
        (("usage", 5), TypeError, r"written as script.usage\(\*\*fields\)"),
        (("nope", 1), ValueError, "entries begin with one of: text"),
        (5, TypeError, "an entry must be a tuple that begins with its kind"),
    ],
    ids=repr,
)
def test_an_entry_that_cannot_be_played_is_named_with_how_it_is_written(entry, error, what):
    with pytest.raises(error, match=what) as refused:
        play(s.delay(0), entry)
    assert str(refused.value).startswith("script entry [1], ")
    assert "cannot be played: " in str(refused.value)


@pytest.mark.parametrize(
    "entry",
    [("preflight_error",), ("preflight_error", "timeout", 5), ("preflight_error", "timeout", {"x": 1})],
)
def test_a_refusal_that_cannot_be_played_is_named_too(entry):
    with pytest.raises((TypeError, ValueError), match=r"script entry \[0\].*script.preflight_error\(reason"):
        play(entry)


def test_a_cause_is_plain_data():
    events = play(s.error(["a"]), s.error(RuntimeError("boom")), s.error("unknown", cause=OSError("full")))
    errors = [e.error for e in events if isinstance(e, ErrorEvent)]
    assert {error.reason for error in errors} == {"unknown"}
    assert [error.cause for error in errors] == [["a"], "RuntimeError('boom')", "OSError('full')"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"usage": 5}, "usage in adapter_opts must be a Usage or a mapping of its fields, got: 5"),
        ({"usage": [("input_tokens", 3)]}, "usage in adapter_opts must be a Usage or a mapping"),
        (
            {"usage": {"inputs": 3}},
            r"fields that Usage does not have: \['inputs'\]; its fields are: input_tokens",
        ),
        (
            {"usage": {"output_tokens": "7"}},
            "output_tokens of the usage in adapter_opts must be a number, got: '7'",
        ),
        (
            {"usage": Usage(input_cost=True)},
            "input_cost of the usage in adapter_opts must be a number, got: True",
        ),
        ({"retry_until_call": "2"}, "retry_until_call in adapter_opts must be a whole number, got: '2'"),
        ({"cursor_key": []}, r"cursor_key in adapter_opts must be hashable, such as a text, got: \[\]"),
        ({"cursor_key": ([],)}, "cursor_key in adapter_opts must be hashable"),
    ],
)
def test_an_option_that_means_nothing_is_refused_with_what_belongs_there(options, what):
    with pytest.raises(TypeError, match=what):
        play(s.text("a"), **options)


@pytest.mark.parametrize(
    "options",
    [{"script": "hi"}, {"scripts": [s.text("a")]}, {"script": [s.text]}, {"record": 3, "script": []}],
)
def test_options_of_the_wrong_kind_are_refused(options):
    with pytest.raises(TypeError):
        FakeAdapter().play(ASK, call(**options))


def test_the_cursor_moves_when_the_call_is_opened():
    fake = FakeAdapter(scripts=[[s.text("one")], [s.text("two")]])
    unread = fake.play(ASK, call())
    assert TextDelta("two") in list(fake.play(ASK, call()))
    assert TextDelta("one") in list(unread)
    with pytest.raises(AdapterError, match="no scripted response") as past:
        fake.play(ASK, call())
    assert past.value.reason == "no_scripted_response"


def test_cursors_are_kept_per_engine_and_may_be_shared():
    fake = FakeAdapter()
    options = {"scripts": [[s.text("one")], [s.text("two")]]}

    def said(key, **more):
        return next(
            e.delta
            for e in fake.play(ASK, Call(request_id="r", options=options | more, cursor_key=key))
            if isinstance(e, TextDelta)
        )

    assert [said(1), said(2), said(1), said(2)] == ["one", "one", "two", "two"]
    shared = Counter()
    assert [said(3, script_cursor=shared), said(4, script_cursor=shared)] == ["one", "two"]
    assert [said(5, cursor_key="k"), said(6, cursor_key="k")] == ["one", "two"]

    class Falsy(Counter):
        def __bool__(self):
            return False

    shared = Falsy()
    assert [said(7, script_cursor=shared), said(8, script_cursor=shared)] == ["one", "two"]


def test_stream_script_comes_before_the_others_in_either_form():
    assert TextDelta("s") in play(s.text("x"), stream_script=[s.text("s")])
    fake = FakeAdapter()
    nested = {"stream_script": [[s.text("1")], [s.text("2")]]}
    assert TextDelta("1") in list(fake.play(ASK, call(**nested)))
    assert TextDelta("2") in list(fake.play(ASK, call(**nested)))
    stored = [["text", "as a list, as JSON has it"]]
    assert TextDelta(stored[0][1]) in play(stream_script=stored)


def test_calls_are_recorded_once_before_they_are_played():
    record = []
    fake = FakeAdapter()
    fake.play(ASK, call(script=[s.text("a")], record=record))
    (recorded,) = record
    assert (recorded.request, recorded.call.request_id) == (ASK, "r1")
    heard = []
    fake.play(ASK, call(script=[], record=heard.append, cursor_key="other"))
    assert heard[0].request is ASK


@pytest.mark.parametrize("read", [0, 1, 99])
def test_cleanup_happens_once_however_the_stream_ends(read):
    cleaned = Counter()
    playback = FakeAdapter().play(ASK, call(script=[s.text("a"), s.text("b")], cleanup_observer=cleaned))
    for _ in zip(range(read), playback, strict=False):
        pass
    assert cleaned.value == (1 if read == 99 else 0)
    playback.close()
    playback.close()
    del playback
    assert cleaned.value == 1


def test_a_dropped_stream_is_cleaned_up_too():
    cleaned = Counter()
    FakeAdapter().play(ASK, call(script=[], cleanup_observer=cleaned.take))
    assert cleaned.value == 1


def test_retry_until_call_times_out_and_then_plays():
    fake = FakeAdapter()
    options = call(script=[s.text("at last")], retry_until_call=3)
    for _ in range(2):
        started, failed = fake.play(ASK, options)
        assert (started, failed.error.reason) == (MessageStarted(), "timeout")
    assert TextDelta("at last") in list(fake.play(ASK, options))


def test_after_a_call_that_plays_retry_until_call_counts_anew():
    fake = FakeAdapter(scripts=[[s.text("a")], [s.text("b")]])
    kinds = [list(map(type, fake.play(ASK, call(retry_until_call=2)))) for _ in range(4)]
    assert [ErrorEvent in each for each in kinds] == [True, False, True, False]


def test_stream_sleeps_where_play_says_delay():
    started = time.monotonic()
    events = list(FakeAdapter().stream(ASK, call(script=[s.delay(0.05), s.text("a")])))
    assert time.monotonic() - started >= 0.05
    assert not any(isinstance(event, Delay) for event in events)


def test_sleep_is_what_a_delay_was_called_once():
    with pytest.warns(DeprecationWarning, match=r"use script\.delay\(seconds\)"):
        assert play(("sleep", 0.5), s.text("a"))[1:3] == [Delay(0.5), TextDelta("a")]


def test_the_request_id_may_be_said():
    events = play(s.text("a"), request_id="mine")
    assert fold(events).response().request_id == "mine"
    assert fold(play(s.text("a"))).response().request_id is None
    with pytest.raises(TypeError, match="request_id in adapter_opts must be a text, got: 7"):
        play(s.text("a"), request_id=7)


def test_a_script_is_data():
    assert s.text("a") == s.text("a")
    assert s.tool_call("f", {"n": 1}) == ("tool_call", {"name": "f", "arguments": {"n": 1}})
    assert s.preflight_error("timeout", status=1) == ("preflight_error", "timeout", {"status": 1})


@pytest.mark.parametrize("write", [s.error, s.preflight_error])
def test_a_misspelt_reason_is_refused_where_it_is_written(write):
    for wrong, meant in [("rate_limted", "rate_limited"), ("provider_unavailble", "provider_unavailable")]:
        with pytest.raises(ValueError, match=f"'{wrong}'; did you mean '{meant}'"):
            write(wrong)
    for fine in (
        "rate_limited",
        "unsupported_operation",
        "batch_too_large",
        "malformed_event",
        "overloaded",
        "e",
    ):
        assert write(fine)[1] == fine


def test_a_count_that_is_no_number_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="input_tokens of a usage must be a number, got: 'x'"):
        s.usage(input_tokens="x")
    assert s.usage(input_tokens=1, extra={"a": "b"}) == ("usage", {"input_tokens": 1, "extra": {"a": "b"}})
