"""Fourteen laws of a stream, and that it is lazy.

Rule of this file: events are read one by one, as a user reads them. A failure before the first fragment is raised by
the call or is the one error event; after it, it is always an event.
"""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager
from typing import Any

from allm_actors.data import (
    AdapterError,
    AllmError,
    ErrorEvent,
    Event,
    Message,
    MessageCompleted,
    MessageStarted,
    StreamError,
    TextCompleted,
    TextDelta,
)
from allm_actors.facade import stream_generate

from .scenes import QUESTION, Scene, Stage, soon

__all__ = ["StreamSuite"]


class StreamSuite:
    """Subclass it, and implement `stage`; with `requests` and `cleanups` in the `Stage`, or those laws fail."""

    patience = 0.3
    """The timeout of the laws about time, in seconds; more, if your provider needs that long to be asked."""

    def stage(self, scene: Scene) -> AbstractContextManager[Stage]:
        """The scene, for the time of a `with` block. Skip with `pytest.skip` what your provider never does."""
        raise NotImplementedError(f"{type(self).__name__} needs stage(scene), a context manager of a Stage")

    def test_refused_authentication_failed(self) -> None:
        """A key that is not accepted."""
        self.refuses("authentication_failed")

    def test_refused_rate_limited(self) -> None:
        """Too many calls."""
        assert self.refuses("rate_limited", retry_after_ms=500).retry_after_ms == 500

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
            events = list(stream_generate(stage.engine, [_question()]))
        assert isinstance(events[0], MessageStarted), events[0]
        fragments = [event.delta for event in events if isinstance(event, TextDelta)]
        assert "".join(fragments) == "".join(scene.text)
        assert len(fragments) > 1, "the whole text came in one piece"
        assert [event.text for event in events if isinstance(event, TextCompleted)] in (
            [],
            ["".join(scene.text)],
        )
        ends = [event for event in events if isinstance(event, MessageCompleted)]
        assert [event.finish_reason for event in ends] == ["stop"]
        last = max(at for at, event in enumerate(events) if isinstance(event, TextDelta | TextCompleted))
        assert events.index(ends[0]) > last, "text came after the message was complete"

    def test_a_failure_in_the_middle_is_an_event(self) -> None:
        """What was said before stays; how long to wait is kept."""
        error = self.breaks("rate_limited", retry_after_ms=500)
        assert isinstance(error, AdapterError)
        assert error.retry_after_ms == 500

    def test_a_cancelled_stream_is_an_event(self) -> None:
        """The provider gives up in the middle."""
        assert isinstance(self.breaks("cancelled"), StreamError)

    def test_leaving_early_cleans_up_once(self) -> None:
        """Within half a second of the reader's leaving."""
        with self.stage(Scene(kind="stalls")) as stage:
            assert stage.cleanups is not None, "the Stage must count cleanups for this law"
            stream = stream_generate(stage.engine, [_question()])
            taken = list(itertools.islice(stream, 2))
            assert len(taken) == 2
            assert stage.cleanups() == 0, "it was cleaned up before anybody left"
            stream.close()
            assert soon(stage.cleanups, 0.5), "nothing was cleaned up within 0.5 s"
            assert stage.cleanups() == 1, "it was cleaned up more than once"

    def test_a_silence_is_an_event(self) -> None:
        """A provider that stops in the middle of its answer."""
        with self.stage(Scene(kind="stalls")) as stage:
            events = _read(stage, stream_timeout=self.patience)
        assert any(isinstance(event, TextDelta) for event in events), "what was said before is lost"
        error = _one_error(events)
        assert isinstance(error, AdapterError)
        assert error.reason == "timeout", error

    def test_nothing_happens_before_the_first_pull(self) -> None:
        """An unread stream asks nobody."""
        with self.stage(Scene(kind="answers")) as stage:
            assert stage.requests is not None, "the Stage must count requests for this law"
            stream = stream_generate(stage.engine, [_question()])
            assert not soon(stage.requests, 0.05), "it was asked before anybody read"
            next(stream)
            assert soon(stage.requests, 5.0)
            stream.close()

    def refuses(self, reason: str, *, retry_after_ms: int | None = None, **options: Any) -> AdapterError:
        """The error of a call that is refused, after a look at what else was said."""
        scene = Scene(kind="refuses", reason=reason, retry_after_ms=retry_after_ms)
        with self.stage(scene) as stage:
            try:
                events = _read(stage, **options)
            except AdapterError as raised:
                error: Any = raised
            else:
                assert not any(isinstance(event, TextDelta) for event in events), (
                    f"{scene}: it said something"
                )
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
        assert said, f"{scene}: what was said before is lost"
        error = _one_error(events)
        assert error.reason == reason, f"{scene}: it failed with {error!r}"
        return error


def _read(stage: Stage, **options: Any) -> list[Event]:
    return list(stream_generate(stage.engine.merge(retry=False), [_question()], **options))


def _one_error(events: list[Event]) -> AllmError:
    errors: list[Any] = [event.error for event in events if isinstance(event, ErrorEvent)]
    assert len(errors) == 1, f"{len(errors)} errors among {[type(event).__name__ for event in events]}"
    assert isinstance(errors[0], AllmError), errors[0]
    return errors[0]


def _question() -> Message:
    return Message(role="user", content=QUESTION)
