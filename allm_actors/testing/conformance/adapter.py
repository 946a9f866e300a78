"""Thirteen laws of one answer: what an adapter says comes back, and what it fails with is said in the common words.

Rule of this file: a failure may be raised by the call or be in the response; either way it is an `AdapterError` with
the right reason, and nothing else is ever raised.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from allm_actors.data import AdapterError, Message
from allm_actors.facade import generate

from .scenes import QUESTION, REQUEST_ID, Scene, Stage

__all__ = ["AdapterSuite"]


class AdapterSuite:
    """Subclass it, and implement `stage`."""

    patience = 0.3
    """The `request_timeout` of the laws about time, in seconds; more, if your provider needs that long to be asked."""

    def stage(self, scene: Scene) -> AbstractContextManager[Stage]:
        """The scene, for the time of a `with` block. Skip with `pytest.skip` what your provider never does."""
        raise NotImplementedError(f"{type(self).__name__} needs stage(scene), a context manager of a Stage")

    def test_an_answer_comes_back(self) -> None:
        """The text, a way it ended, and an assistant's message."""
        scene = Scene(kind="answers")
        with self.stage(scene) as stage:
            response = generate(stage.engine, [_question()])
        assert response.text() == "".join(scene.text)
        assert response.finish_reason == "stop"
        assert response.tool_calls == []

    def test_authentication_failed(self) -> None:
        """A key that is not accepted, HTTP 401."""
        self.fails("authentication_failed")

    def test_rate_limited(self) -> None:
        """Too many calls, HTTP 429; how long to wait is kept."""
        assert self.fails("rate_limited", retry_after_ms=500).retry_after_ms == 500

    def test_timeout(self) -> None:
        """A provider that does not begin."""
        self.fails("timeout", request_timeout=self.patience)

    def test_network_error(self) -> None:
        """A connection that breaks."""
        self.fails("network_error")

    def test_invalid_request(self) -> None:
        """A request that the provider does not understand, HTTP 400."""
        self.fails("invalid_request")

    def test_context_length_exceeded(self) -> None:
        """A conversation that is too long for the model."""
        self.fails("context_length_exceeded")

    def test_content_filter(self) -> None:
        """What the provider's policy refuses."""
        self.fails("content_filter")

    def test_provider_unavailable(self) -> None:
        """A provider in trouble, HTTP 503."""
        self.fails("provider_unavailable")

    def test_malformed_response(self) -> None:
        """An answer that makes no sense."""
        self.fails("malformed_response")

    def test_unsupported_feature(self) -> None:
        """What this provider cannot do."""
        self.fails("unsupported_feature")

    def test_the_request_id_is_on_the_error(self) -> None:
        """The call's own, so that a log line finds its call."""
        assert self.fails("provider_unavailable", request_id=REQUEST_ID).request_id == REQUEST_ID

    def test_a_request_timeout_is_accepted(self) -> None:
        """And does not hurt a call that is quick."""
        with self.stage(Scene(kind="answers")) as stage:
            assert generate(stage.engine, [_question()], request_timeout=30.0).finish_reason == "stop"

    def fails(
        self,
        reason: str,
        *,
        retry_after_ms: int | None = None,
        request_id: str | None = None,
        **options: Any,
    ) -> AdapterError:
        """The error that a call ends with, after a look at its reason."""
        scene = Scene(kind="refuses", reason=reason, retry_after_ms=retry_after_ms, request_id=request_id)
        options = options if request_id is None else {**options, "request_id": request_id}
        with self.stage(scene) as stage:
            try:
                response = generate(stage.engine.merge(retry=False), [_question()], **options)
            except AdapterError as raised:
                error: Any = raised
            else:
                assert response.finish_reason == "error", f"{scene}: it ended with {response.finish_reason!r}"
                error = response.metadata.get("error")
        assert isinstance(error, AdapterError), f"{scene}: it failed with {error!r}"
        assert error.reason == reason, f"{scene}: it failed with {error!r}"
        assert error.message, f"{scene}: its error says nothing"
        return error


def _question() -> Message:
    return Message(role="user", content=QUESTION)
