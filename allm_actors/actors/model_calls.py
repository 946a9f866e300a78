"""The model calls of one turn: each asks with the thread as it has grown since the one before.

Rule of this file: what is the same for all of them is worked out and checked once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from allm_actors.data import ModelRef, Request, Tool
from allm_actors.data.growing import Growing
from allm_actors.engine.adapter import Call
from allm_actors.engine.preflight import check_capabilities, with_finalize
from allm_actors.engine.resolve import call_terms, resolve_model_ref, step_request
from allm_actors.engine.wire import Transport
from allm_actors.execution.effects import CallModel, Purpose

if TYPE_CHECKING:
    from .protocol import TurnSpec

__all__ = ["ModelCalls"]


class ModelCalls:
    """Makes the calls of one turn. Thread: one at a time."""

    __slots__ = ("_model", "_requests", "_terms")

    def __init__(self) -> None:
        self._requests: dict[Purpose, Growing] = {}
        self._terms: dict[str, Any] | None = None
        self._model: ModelRef | None = None

    def call(self, spec: TurnSpec, effect: CallModel, transport: Transport) -> tuple[Any, Request, Call]:
        """The adapter, the request and the call that `effect` wants.

        Before a draft is asked for, the answer that will be made of it is checked too.
        Raises: ValidationError for what cannot be sent; TypeError and ValueError for options that are none.
        """
        if self._terms is None:
            self._terms = call_terms(spec.engine, spec.call_options, parts=spec.parts)
            self._model = resolve_model_ref(spec.engine, spec.call_options, spec.request)
        request = self._request(spec, effect)
        if effect.purpose == "draft" and effect.turn == 0:
            self._request(spec, msgspec.structs.replace(effect, purpose="finalize"))
        terms = {**self._terms, "options": dict(self._terms["options"])}
        call = Call(request_id=spec.options.request_id or "", transport=transport, **terms)
        return spec.adapter, with_finalize(spec.adapter, request), call

    def _request(self, spec: TurnSpec, effect: CallModel) -> Request:
        growing = self._requests.get(effect.purpose)
        if growing is None:
            growing = self._requests[effect.purpose] = Growing(_without_messages(spec, effect.purpose))
        request = growing.with_messages(effect.thread.messages)
        check_capabilities(self._model, request)
        return request


def _without_messages(spec: TurnSpec, purpose: Purpose) -> Request:
    if spec.request is not None:
        return spec.request
    tools: list[Tool] | None = [] if purpose == "finalize" else None
    request = step_request(spec.engine, (), spec.call_options, tools=tools, parts=spec.parts)
    if purpose == "draft":
        return msgspec.structs.replace(request, response_format=None, structured_finalize=False)
    return request
