"""The model calls of one turn, each with the thread as it has grown since the previous one.

Rule of this file: what is the same for all of them is computed and checked once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import Message, ModelRef, Request, Tool
from allm_actors.data.growing import Growing
from allm_actors.engine.adapter import Call
from allm_actors.engine.engine import Engine
from allm_actors.engine.places import Parts
from allm_actors.engine.preflight import check_capabilities, in_common_words, with_finalize
from allm_actors.engine.resolve import call_terms, step_request
from allm_actors.engine.wire import Transport
from allm_actors.execution.answers import to_send
from allm_actors.execution.effects import CallModel, Purpose

__all__ = ["ModelCalls"]


class ModelCalls:
    """Makes the requests and calls of one turn from an engine and options; `parts` says where each option
    goes, `model` what is known of the model. With a `request` the caller's own is used. Thread: one at a time.
    """

    __slots__ = (
        "_begun",
        "_engine",
        "_given",
        "_model",
        "_options",
        "_parts",
        "_request_id",
        "_requests",
        "_sent",
        "_terms",
    )

    def __init__(
        self,
        engine: Engine,
        options: Mapping[str, Any],
        parts: Parts,
        request: Request | None,
        request_id: str | None,
        model: ModelRef | None,
    ) -> None:
        self._engine, self._options, self._parts = engine, options, parts
        self._given, self._request_id = request, request_id or ""
        self._requests: dict[Purpose, Growing] = {}
        self._terms: dict[str, Any] | None = None
        self._model = model
        self._begun = -1
        self._sent: list[Message] = []

    def call(self, adapter: Any, effect: CallModel, transport: Transport) -> tuple[Request, Call]:
        """The request and the call that `effect` asks for, for this adapter.

        Before a draft is requested, the request for the final answer is checked too.
        Raises: ValidationError for what cannot be sent; TypeError and ValueError for invalid options.
        """
        if self._terms is None:
            self._terms = call_terms(self._engine, self._options, parts=self._parts)
        request = self._request(effect)
        if effect.purpose == "draft" and effect.turn == 0:
            self._request(msgspec.structs.replace(effect, purpose="finalize"))
        terms = {**self._terms, "options": dict(self._terms["options"])}
        call = Call(request_id=self._request_id, transport=transport, **terms)
        return with_finalize(adapter, request), call

    def _request(self, effect: CallModel) -> Request:
        growing = self._requests.get(effect.purpose)
        if growing is None:
            request = in_common_words(self._without_messages(effect.purpose))
            growing = self._requests[effect.purpose] = Growing(request)
        request = growing.with_messages(self._to_send(effect.thread.messages))
        check_capabilities(self._model, request)
        return request

    def _to_send(self, messages: list[Message]) -> list[Message]:
        if self._begun < 0:
            self._begun, self._sent = len(messages), to_send(messages)
        if len(self._sent) == self._begun:
            return messages
        return [*self._sent, *messages[self._begun :]]

    def _without_messages(self, purpose: Purpose) -> Request:
        if self._given is not None:
            return self._given
        tools: list[Tool] | None = [] if purpose == "finalize" else None
        request = step_request(self._engine, (), self._options, tools=tools, parts=self._parts)
        if purpose == "draft":
            return msgspec.structs.replace(request, response_format=None, structured_finalize=False)
        return request
