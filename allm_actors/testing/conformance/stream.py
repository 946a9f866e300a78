"""Laws of a stream: what its events are, how it fails, when it asks, and that it is let go.

Rule of this file: events are read one by one, as a user reads them. A failure before the first fragment is raised by
the call or is the one error event; after it, it is always an event.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from copy import deepcopy
from typing import Any

from allm_actors.data import (
    AdapterError,
    AllmError,
    ErrorEvent,
    Event,
    MessageCompleted,
    MessageStarted,
    RawChunk,
    StreamError,
    TextCompleted,
    TextDelta,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm_actors.execution.receiving import text_of
from allm_actors.facade import stream_generate

from .bounded import IF_AN_ADAPTER_HANGS, Bounded
from .requests import CALLS, FORECAST, may_refuse, question, raise_refusal
from .scenes import (
    AGAIN,
    Ending,
    Scene,
    Stage,
    because_of,
    ends,
    on_stage,
    require,
    skip,
    skip_if_used_up,
    skip_unless_played,
    soon,
)

__all__ = ["StreamSuite"]

_MORE_CALLS = 3
_GARBLED = ("malformed_response", "malformed_event")
"""The second is a `StreamError`'s word for one piece of a stream."""


class StreamSuite(Bounded):
    """Subclass it, and implement `stage`; with `requests` and `cleanups` in the `Stage`, or those laws fail."""

    if_it_hangs = IF_AN_ADAPTER_HANGS

    patience: float = 0.3
    """The timeout of the laws about time, in seconds; more, if your provider needs that long to be asked."""

    def stage(self, scene: Scene) -> AbstractContextManager[Stage]:
        """The scene, for the time of a `with` block. Skip with `pytest.skip` what your provider never does."""
        raise NotImplementedError(f"{type(self).__name__} needs stage(scene), a context manager of a Stage")

    def test_refused_authentication_failed(self) -> None:
        """A key that is not accepted."""
        self.refuses("authentication_failed")

    def test_refused_rate_limited(self) -> None:
        """Too many calls."""
        error = self.refuses("rate_limited", retry_after_ms=500)
        assert error.retry_after_ms == 500, (
            f"the provider asked to wait 500 ms: give retry_after_ms=500 to {error!r}"
        )

    def test_refused_invalid_request(self) -> None:
        """A request that the provider does not understand."""
        self.refuses("invalid_request")

    def test_refused_provider_unavailable(self) -> None:
        """A provider in trouble."""
        self.refuses("provider_unavailable")

    def test_refused_context_length_exceeded(self) -> None:
        """A conversation that is too long."""
        self.refuses("context_length_exceeded")

    def test_refused_timeout(self) -> None:
        """A provider that does not begin."""
        self.refuses("timeout", request_timeout=self.patience)

    def test_refused_network_error(self) -> None:
        """A connection that breaks."""
        self.refuses("network_error")

    def test_refused_malformed_response(self) -> None:
        """An answer that makes no sense."""
        self.refuses("malformed_response")

    def test_refused_unknown(self) -> None:
        """A failure that has no name."""
        self.refuses("unknown")

    def test_fragments_come_one_by_one_and_then_the_message(self) -> None:
        """Started, the fragments in order, the whole text, completed."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            events = list(stream_generate(stage.engine, [question()]))
        completed = _completed(scene, events)
        assert isinstance(events[0], MessageStarted), (
            f"a stream must begin with MessageStarted, not with {events[0]!r}"
        )
        fragments = [event.delta for event in events if isinstance(event, TextDelta)]
        text = "".join(scene.text)
        assert "".join(fragments) == text, (
            f"the provider said {scene.text}, but the fragments are {fragments}"
        )
        assert len(fragments) > 1, (
            "the whole text came in one piece: yield a TextDelta for each piece that arrives"
        )
        whole = [event.text for event in events if isinstance(event, TextCompleted)]
        assert whole in ([], [text]), f"the text is {text!r}, but TextCompleted has {whole}"
        last = max(at for at, event in enumerate(events) if isinstance(event, TextDelta | TextCompleted))
        assert events.index(completed) > last, "text came after the message was complete"

    def test_an_answer_is_begun_once(self) -> None:
        """A reader who draws a new message at each beginning draws two."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            events = _read(stage)
        _completed(scene, events)
        begun = sum(isinstance(event, MessageStarted) for event in events)
        assert begun == 1, f"an answer must have one MessageStarted, but this one has {begun}"

    def test_no_fragment_of_text_is_empty(self) -> None:
        """Providers send empty pieces, and readers take a fragment for something that was said."""
        scene = Scene(kind="answers", text=("Hello ", "", "you."))
        with self.stage(scene) as stage:
            events = _read(stage)
        _completed(scene, events)
        fragments = [event.delta for event in events if isinstance(event, TextDelta)]
        assert "".join(fragments) == "Hello you.", f"the provider said 'Hello you.', but they are {fragments}"
        assert "" not in fragments, f"the TextDeltas are {fragments}: yield none for an empty piece"

    def test_the_whole_text_is_told(self) -> None:
        """Also to a reader who wants no fragments (`emit_text_deltas=False`), and would else read nothing."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            events = _read(stage, emit_text_deltas=False)
        _completed(scene, events)
        whole = [event.text for event in events if isinstance(event, TextCompleted)]
        text = "".join(scene.text)
        assert "".join(whole) == text, (
            f"the text is {text!r}, but what is told of it without fragments is {whole}: yield "
            "TextCompleted(text) before MessageCompleted"
        )

    def test_the_message_is_what_was_told(self) -> None:
        """An assistant's, with the text of the fragments: it is what is stored, and sent the next time."""
        scene = Scene(kind="answers", text=("Hello ", "there,\n", "you. \n"))
        with self.stage(scene) as stage:
            events = _read(stage)
        message = _completed(scene, events).message
        assert message.role == "assistant", (
            f"the message of an answer must have the role 'assistant', not {message.role!r}"
        )
        text = "".join(event.delta for event in events if isinstance(event, TextDelta))
        whole = [event.text for event in events if isinstance(event, TextCompleted)]
        assert whole in ([], [text]), (
            f"the fragments are {text!r}, but TextCompleted has {whole}: it is the same text"
        )
        assert text_of(message) == text, (
            f"the events have {text!r}, but MessageCompleted.message has {message.content!r}: give it the same "
            "text, to its last space"
        )

    def test_the_message_has_the_calls_that_were_told(self) -> None:
        """All of them, as they were completed, or their answers answer nothing in the next request."""
        scene = Scene(kind="answers", tool_calls=CALLS, finish_reason="tool_calls")
        with self.stage(scene) as stage:
            events = self.tool_events(stage)
        told = [(e.id, e.name, e.arguments) for e in events if isinstance(e, ToolCallCompleted)]
        message = _completed(scene, events, "tool_calls").message
        has = [(call.id, call.name, call.arguments) for call in message.tool_calls]
        assert has == told, (
            f"the events have the calls {told}, but MessageCompleted.message has {has}: give it "
            'metadata={"tool_calls": […]}, with a ToolCall for each'
        )

    def test_the_message_has_the_text_beside_its_calls(self) -> None:
        """What was said before the calls is a part of the answer, and of the next request."""
        scene = Scene(kind="answers", tool_calls=CALLS, finish_reason="tool_calls")
        with self.stage(scene) as stage:
            events = self.tool_events(stage)
        told = "".join(event.delta for event in events if isinstance(event, TextDelta))
        has = text_of(_completed(scene, events, "tool_calls").message)
        assert has == told, (
            f"the events have {told!r} before the calls, but MessageCompleted.message has {has!r}: give it the "
            "same text"
        )

    def test_two_streams_at_once_are_two(self) -> None:
        """An adapter is shared by all calls, and holds no state of one: read in turn, each has its own text."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            streams = [stream_generate(stage.engine, [question()]) for _ in range(2)]
            try:
                pairs = list(itertools.zip_longest(*streams))
            except AdapterError as error:
                skip_if_used_up(error)
                raise
        text = "".join(scene.text)
        for events in zip(*pairs, strict=True):
            _completed(scene, [event for event in events if event is not None])
            said = "".join(event.delta for event in events if isinstance(event, TextDelta))
            whole = [event.text for event in events if isinstance(event, TextCompleted)]
            assert (said, whole) in ((text, []), (text, [text])), (
                f"the provider said {text!r} to each of two calls at once, but one got {said!r}, and {whole} "
                "as the whole text: store nothing of a call on the adapter"
            )

    def test_a_tool_call_is_begun_and_completed_once(self) -> None:
        """Each under its own id, before the message is complete; its fragments are its arguments."""
        self.makes_calls(Scene(kind="answers", tool_calls=CALLS, finish_reason="tool_calls"))

    def test_a_message_without_a_text_begins_and_ends_like_any_other(self) -> None:
        """A model that calls says mostly nothing beside it: its calls come between the same events as a text."""
        scene = Scene(kind="answers", text=(), tool_calls=CALLS, finish_reason="tool_calls")
        events = self.makes_calls(scene)
        assert isinstance(events[0], MessageStarted), (
            f"a stream must begin with MessageStarted, also without a text, and not with {events[0]!r}"
        )
        said = text_of(_completed(scene, events, "tool_calls").message)
        said += "".join(event.delta for event in events if isinstance(event, TextDelta))
        assert said == "", f"the provider said nothing beside its calls, but {said!r} came back"

    def makes_calls(self, scene: Scene) -> list[Event]:
        """The events of an answer with calls, after a look that each is told once, and whole."""
        with on_stage(self.stage(scene), scene) as stage:
            events = self.tool_events(stage)
        ids = [event.id for event in events if isinstance(event, ToolCallCompleted)]
        why = because_of(_error(events))
        message = f"the provider made {len(CALLS)} calls, but there are {len(ids)} ToolCallCompleted{why}"
        require(len(ids) == len(CALLS), scene, "tool_calls", message)
        begun = [event.id for event in events if isinstance(event, ToolCallStarted)]
        assert sorted(begun) == sorted(ids), (
            f"the calls {begun} were started, but the calls {ids} were completed"
        )
        _completed(scene, events, "tool_calls")
        for call_id in ids:
            _is_one_call(events, call_id)
        return events

    def test_calls_that_are_written_at_the_same_time_are_told_apart(self) -> None:
        """A fragment belongs to the call that it is sent for, and not to the one that was begun last."""
        scene = Scene(kind="answers", tool_calls=CALLS, finish_reason="tool_calls", interleaved=True)
        with self.stage(scene) as stage:
            events = self.tool_events(stage)
        skip_unless_played(scene, "interleaved")
        told = [(e.name, e.arguments) for e in events if isinstance(e, ToolCallCompleted)]
        made = [(call.name, call.arguments) for call in CALLS]
        assert sorted(told, key=str) == sorted(made, key=str), (
            f"the provider wrote the calls {made}, a fragment of each in turn, but {told} came back"
            f"{because_of(_error(events))}: collect the fragments of each call by its own id or index"
        )
        _completed(scene, events, "tool_calls")

    def test_a_failure_in_the_middle_is_an_event(self) -> None:
        """What was said before stays; how long to wait is kept."""
        error = self.breaks("rate_limited", retry_after_ms=500)
        assert isinstance(error, AdapterError), f"the provider failed, but the error is {error!r}"
        assert error.retry_after_ms == 500, (
            f"the provider asked to wait 500 ms: give retry_after_ms=500 to {error!r}"
        )

    def test_a_connection_that_breaks_in_the_middle_is_an_event(self) -> None:
        """Half an answer is no answer, whatever was said before."""
        self.fails_midway(Scene(kind="breaks", reason="network_error"), "reason", "network_error")

    def test_an_answer_that_has_no_end_is_an_event(self) -> None:
        """What is sent may end in good order, as if a proxy had cut it: whole is what has the provider's own end."""
        scene = Scene(kind="breaks", reason="network_error", unfinished=True)
        self.fails_midway(scene, "unfinished", "network_error", *_GARBLED)

    def test_garbage_in_the_middle_is_an_event(self) -> None:
        """What cannot be read was a part of the answer: without it the rest is another one."""
        self.fails_midway(Scene(kind="breaks", reason="malformed_response"), "reason", *_GARBLED)

    def test_nothing_is_asked_again_after_the_first_event(self) -> None:
        """A reader has seen it, and would read it twice: not even with retries, and of a failure that is worth one."""
        scene = Scene(kind="breaks", reason="rate_limited")
        with self.stage(scene) as stage:
            events = _read(stage, retry=AGAIN)
            count = stage.asked() if stage.counts else 1
        said = [event.delta for event in events if isinstance(event, TextDelta)]
        assert said.count(scene.text[0]) < 2, (
            f"{scene}: a reader got {said}, with the beginning more than once: after the first event, do not "
            "try again; yield the ErrorEvent"
        )
        assert count == 1, (
            f"{scene}: requests: {count}; after the first event, do not try again: yield the ErrorEvent"
        )
        _one_error(events)

    def test_a_cancelled_stream_is_an_event(self) -> None:
        """The provider gives up in the middle."""
        assert isinstance(self.breaks("cancelled"), StreamError)

    def test_leaving_early_cleans_up_once(self) -> None:
        """Within half a second of the reader's leaving."""
        with self.stage(Scene(kind="stalls")) as stage:
            assert stage.cleanups is not None, (
                "the Stage must count cleanups for this law: give it cleanups=…"
            )
            stream = stream_generate(stage.engine, [question()])
            taken = list(itertools.islice(stream, 2))
            assert len(taken) == 2, f"the provider sent a piece of text, but the stream has only {taken}"
            assert stage.cleanups() == 0, "the stream was cleaned up before its reader left"
            stream.close()
            assert soon(stage.cleanups, 0.5), (
                "the reader left, but nothing was cleaned up within 0.5 s: the iterator is closed then, or its task "
                "cancelled, so release the connection in `finally`, or with `async with`"
            )
            assert stage.cleanups() == 1, "the stream was cleaned up more than once"

    def test_a_connection_is_given_back_after_an_answer(self) -> None:
        """Closed, or used for the next one: where each call keeps one, there is one too many some day."""
        self.gives_back(Scene(kind="answers"))

    def test_a_connection_is_given_back_after_a_refusal(self) -> None:
        """Also where nobody reads all that the provider says of it."""
        self.gives_back(Scene(kind="refuses", reason="invalid_request"))

    def test_a_connection_is_given_back_after_a_failure_in_the_middle(self) -> None:
        """Also where the provider goes on, and nobody reads it."""
        self.gives_back(Scene(kind="breaks", reason="malformed_response"))

    def test_a_silence_is_an_event(self) -> None:
        """A provider that stops in the middle of its answer."""
        events: list[Event] = []
        with suppress(AdapterError), self.stage(Scene(kind="stalls")) as stage:
            events = _read(stage, stream_timeout=self.patience)
        if not _has_begun(events):  # on a busy machine the first word may take longer than that
            with self.stage(Scene(kind="stalls")) as stage:
                events = _read(stage, stream_timeout=self.patience + 3.0)
        assert _has_begun(events), "the text before the failure is lost"
        error = _one_error(events)
        assert isinstance(error, AdapterError), f"the provider fell silent, but the error is {error!r}"
        assert error.reason == "timeout", f"the provider fell silent, but the error is {error!r}"

    def test_nothing_happens_before_the_first_pull(self) -> None:
        """An unread stream asks nobody."""
        with self.stage(Scene(kind="answers")) as stage:
            assert stage.counts, "the Stage must count requests for this law: pass it requests=…, or sent=…"
            stream = stream_generate(stage.engine, [question()])
            assert not soon(stage.asked, 0.05), "the provider was asked before the stream was read"
            next(stream)
            assert soon(stage.asked, 5.0)
            stream.close()

    def gives_back(self, scene: Scene) -> None:
        """Check that calls, one after the other, leave no more connections open than the first one did."""
        with self.stage(scene) as stage:
            connections = stage.connections
            if connections is None:
                skip(
                    "give Stage(connections=…): a function that says how many connections are open at your provider"
                )
            with suppress(AdapterError):
                _read(stage)
            at_first = max(connections(), 1)
            for _ in range(_MORE_CALLS):
                with suppress(AdapterError):
                    _read(stage)
            assert soon(lambda: connections() <= at_first, 1.0), (
                f"{scene}: {1 + _MORE_CALLS} calls are over, but {connections()} connections are open: release the "
                "connection of a call in `finally`, or with `async with`, however the call ends"
            )

    def tool_events(self, stage: Stage) -> list[Event]:
        """The events of an answer to a request with a tool. Skips the law where the adapter refuses it."""
        with may_refuse(stage, "tools"):
            events = _read(stage, tools=[deepcopy(FORECAST)])
            raise_refusal(_error(events))
        return events

    def refuses(self, reason: str, *, retry_after_ms: int | None = None, **options: Any) -> AdapterError:
        """The error of a call that is refused, after a look at what else was said."""
        scene = Scene(kind="refuses", reason=reason, retry_after_ms=retry_after_ms)
        with self.stage(scene) as stage:
            try:
                events = _read(stage, **options)
            except AdapterError as raised:
                error: Any = raised
            else:
                assert not any(isinstance(event, TextDelta) for event in events), f"{scene}: it produced text"
                error = _one_error(events)
        assert isinstance(error, AdapterError), f"{scene}: it failed with {error!r}"
        assert error.reason == reason, f"{scene}: it failed with {error!r}"
        return error

    def breaks(self, reason: str, *, retry_after_ms: int | None = None) -> AllmError:
        """The error of a stream that breaks in the middle."""
        scene = Scene(kind="breaks", reason=reason, retry_after_ms=retry_after_ms)
        with self.stage(scene) as stage:
            events = _read(stage)
        said = [event.delta for event in events if isinstance(event, TextDelta)]
        assert said, f"{scene}: the text before the failure is lost"
        error = _one_error(events)
        assert error.reason == reason, f"{scene}: it failed with {error!r}"
        return error

    def fails_midway(self, scene: Scene, name: str, *reasons: str) -> None:
        """Look that a stream ends with an error for one of the reasons, where the stage has looked at that field."""
        with self.stage(scene) as stage:
            try:
                events = _read(stage)
            except AdapterError as raised:  # a reset may overtake what was said before it
                events = [ErrorEvent(raised)]
        told = [event for event in events if isinstance(event, ErrorEvent | MessageCompleted)]
        held = any(isinstance(event, ErrorEvent) and event.error.reason in reasons for event in told)
        message = (
            f"the answer failed in the middle, but ended with {told}: yield an ErrorEvent with an "
            f"AdapterError({reasons[0]!r}, …), and MessageCompleted only when the provider itself has ended "
            "the answer"
        )
        require(held, scene, name, message)
        _one_error(events)


def _has_begun(events: list[Event]) -> bool:
    """Whether anything was said."""
    return any(isinstance(event, TextDelta) for event in events)


def _read(stage: Stage, *, retry: Any = False, **options: Any) -> list[Event]:
    return list(stream_generate(stage.engine.merge(retry=retry), [question()], **options))


def _is_one_call(events: list[Event], call_id: str) -> None:
    """Look that a call is begun, written and completed, in that order, and before the end."""
    kinds = ToolCallStarted | ToolCallDelta | ToolCallCompleted | MessageCompleted
    told = [each for each in events if isinstance(each, kinds)]
    first, *written, last, end = [
        each for each in told if isinstance(each, MessageCompleted) or each.id == call_id
    ]
    assert isinstance(first, ToolCallStarted), (
        f"a call must begin with ToolCallStarted, but this one begins with {first!r}"
    )
    assert isinstance(last, ToolCallCompleted), (
        f"a call must end with ToolCallCompleted, but this one ends with {last!r}"
    )
    assert isinstance(end, MessageCompleted), f"{end!r} came after MessageCompleted"
    text = "".join(each.arguments_delta for each in written if isinstance(each, ToolCallDelta))
    assert not text or json.loads(text) == last.arguments, (
        f"the fragments of a call are {text!r}, but its arguments are {last.arguments!r}"
    )


def _completed(scene: Scene, events: Sequence[Event], wanted: Ending = "stop") -> MessageCompleted:
    """The end of a stream, after checking that it is that of a whole answer, and the only one."""
    found = [event for event in events if isinstance(event, MessageCompleted)]
    ends(scene, found[0].finish_reason if found else None, _error(events), wanted)
    assert len(found) == 1, f"an answer must end with one MessageCompleted, but this one has {len(found)}"
    return found[0]


def _error(events: Sequence[Event]) -> object:
    """The error of a stream, or None."""
    return next((event.error for event in events if isinstance(event, ErrorEvent)), None)


def _one_error(events: Sequence[Event]) -> AllmError:
    """The error of a stream that failed, after a look that it is one, and the last that is told."""
    kinds = [type(event).__name__ for event in events]
    places = [at for at, event in enumerate(events) if isinstance(event, ErrorEvent)]
    assert len(places) == 1, (
        f"a stream that failed must have one ErrorEvent, but this one has {len(places)}, among {kinds}"
    )
    error: Any = getattr(events[places[0]], "error", None)
    assert isinstance(error, AllmError), f"an ErrorEvent must have an AdapterError, but one has {error!r}"
    assert MessageCompleted.__name__ not in kinds[: places[0]], (
        f"an answer that failed was completed before its error, in {kinds}: yield no MessageCompleted then"
    )
    late = [event for event in events[places[0] + 1 :] if not _only_ends(event, error)]
    assert not late, f"nothing may follow an ErrorEvent, but {late} does, among {kinds}"
    return error


def _only_ends(event: Event, error: AllmError) -> bool:
    """Whether an event after the error only says what was said before, and claims no success, as scripts do."""
    if isinstance(event, MessageCompleted):
        return event.finish_reason in (None, "error", error.reason)
    return isinstance(event, TextCompleted) or (isinstance(event, RawChunk) and _is_usage(event.payload))


def _is_usage(payload: Any) -> bool:
    return isinstance(payload, tuple) and payload[:1] == ("usage",)
