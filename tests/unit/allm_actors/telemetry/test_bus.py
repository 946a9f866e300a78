"""Who listens hears what they asked for, and can break nothing."""

import asyncio
import contextvars
import threading

import pytest

from allm_actors import telemetry
from allm_actors.telemetry import EVENTS, Span


@pytest.fixture
def attach():
    ids = []

    def attach(handler, events=None):
        ids.append(f"test-{len(ids)}")
        telemetry.attach(ids[-1], handler, events)
        return ids[-1]

    yield attach
    for id in ids:
        telemetry.detach(id)
    assert not telemetry.listening()


def test_a_handler_hears_the_events_that_it_asked_for(attach):
    heard = []
    attach(heard.append, ["allm.chat.stop"])
    Span("chat", {"request_id": "r"}).start().stop(chat_result=1)
    Span("step", {}).start().stop()
    (event,) = heard
    assert event.name == "allm.chat.stop"
    assert event.metadata == {"request_id": "r", "chat_result": 1}
    assert set(event.measurements) == {"duration", "monotonic_time"}
    assert event.measurements["duration"] >= 0


def test_a_span_says_when_it_began(attach):
    heard = []
    attach(heard.append, "allm.tool.start")
    Span("tool", {}).start()
    assert set(heard[0].measurements) == {"system_time", "monotonic_time"}


def test_a_span_is_told_also_from_within_its_own_context(attach):
    heard = []
    attach(heard.append)
    context = contextvars.copy_context()
    context.run(Span("chat", {}, context).start)
    assert [event.name for event in heard] == ["allm.chat.start"]


def test_a_span_ends_once_and_not_before_it_began(attach):
    heard = []
    attach(lambda event: heard.append((event.name, event.metadata)))
    span = Span("tool", {})
    span.start().exception("exit", "timeout")
    span.stop(result=1)
    span.start()
    never = Span("tool", {})
    never.stop()
    never.start()
    assert heard == [
        ("allm.tool.start", {}),
        ("allm.tool.exception", {"kind": "exit", "reason": "timeout", "stacktrace": ()}),
    ]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        BaseException(),
    ],
)
def test_a_handler_that_raises_is_detached_and_the_others_go_on(attach, caplog, error):
    heard = []

    def breaks(event):
        raise error

    id = attach(breaks)
    attach(heard.append)
    Span("chat", {}).start().stop()
    assert [event.name for event in heard] == ["allm.chat.start", "allm.chat.stop"]
    assert [record.getMessage() for record in caplog.records] == [
        f"telemetry handler {id!r} raised at allm.chat.start and was detached"
    ]
    assert not telemetry.detach(id)


def test_the_log_of_a_handler_that_raised_does_not_say_what_its_caller_was_handling(attach, caplog):
    def breaks(event):
        try:
            raise KeyError("first of the handler")
        except KeyError:
            try:
                raise ValueError("second of the handler")
            except ValueError as second:
                raise RuntimeError("third of the handler") from second

    attach(breaks)
    try:
        raise LookupError("what a call said")
    except LookupError:
        Span("chat", {}).start().stop()
    for own in ("first", "second", "third"):
        assert f"{own} of the handler" in caplog.text
    assert "what a call said" not in caplog.text


def test_what_makes_no_sense_is_refused(attach):
    with pytest.raises(
        ValueError, match=r"no telemetry event 'allm\.chat\.stopp'; did you mean 'allm\.chat\.stop'"
    ):
        telemetry.attach("x", print, ["allm.chat.stopp"])
    with pytest.raises(TypeError, match="callable"):
        telemetry.attach("x", None)

    async def late(_event):
        """Would never be awaited."""

    async def later(_event):
        yield

    late_object = type("Late", (), {"__call__": late})()
    for handler in (late, later, late_object):
        with pytest.raises(TypeError, match="must be a plain function, because it is never awaited"):
            telemetry.attach("x", handler)
    with pytest.raises(
        TypeError, match="events must be the name of an event, several names, or None for all, got: 5"
    ):
        telemetry.attach("x", print, 5)
    with pytest.raises(ValueError, match="no telemetry span 'chatt'; did you mean 'chat'"):
        Span("chatt", {})
    id = attach(print, "allm.chat.stop")
    with pytest.raises(ValueError, match="already attached"):
        telemetry.attach(id, print)


def test_handlers_come_and_go_while_others_are_told(attach):
    heard = []
    attach(heard.append, "allm.stream.stop")

    def churn(number):
        for _ in range(200):
            telemetry.attach(f"churn-{number}", print, "allm.stream.start")
            telemetry.detach(f"churn-{number}")

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(500):
        Span("stream", {}).start().stop()
    for thread in threads:
        thread.join(10)
    assert len(heard) == 500


def test_the_events_are_those_of_the_spans_and_of_the_adapters():
    assert len(EVENTS) == len(set(EVENTS)) == 3 * len(telemetry.SPANS) + 2
