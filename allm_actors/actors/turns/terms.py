"""What all tool calls of one turn have in common: who runs them, how they are answered, and what their handlers are.

Rule of this file: looked up once for a turn, because a turn may make very many calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from allm_actors.data import Tool
from allm_actors.data.build import context_of
from allm_actors.data.compact import is_built_in
from allm_actors.engine.engine import Engine
from allm_actors.engine.resolve import resolve_field
from allm_actors.execution.tools import Encoder, Policy, as_policy, encode_tool_result

from .contained import contained

__all__ = ["Form", "Terms"]


class Form(NamedTuple):
    """How a tool is called: by the engine's or call's `executor`, or by its own handler; `context` says how a
    handler takes its `ToolContext` (see `context_of`).
    """

    executor: Any
    context: str | None
    asynchronous: bool


class Terms:
    """How a turn calls its tools. Thread: made by the caller; `form_of` is the session actor's only, the rest
    is read by any worker.
    """

    __slots__ = ("_executor", "_forms", "encoder", "has_user_code", "policy")

    def __init__(self, engine: Engine, options: Mapping[str, Any]) -> None:
        encoder: Any = resolve_field(engine, options, "tool_result_encoder")
        function = encoder if callable(encoder) else getattr(encoder, "encode", None)
        self.encoder: Encoder = encode_tool_result if function is None else contained(function)
        policy = as_policy(options.get("on_tool_error"))
        self.policy: Policy = contained(policy) if callable(policy) else policy
        self.has_user_code = encoder is not None or callable(policy)
        self._executor = resolve_field(engine, options, "tool_executor")
        self._forms: dict[str, Form] = {}

    def form_of(self, tool: Tool) -> Form:
        """How this tool is called; a turn has one tool of a name."""
        form = self._forms.get(tool.name)
        if form is None:
            form = self._forms[tool.name] = self._look_at(tool)
        return form

    def _look_at(self, tool: Tool) -> Form:
        executor = None if is_built_in(tool) else self._executor
        handler = tool.handler
        runs = handler if executor is None else executor.execute
        return Form(
            executor,
            context_of(handler) if handler is not None and executor is None else None,
            runs is not None and inspect.iscoroutinefunction(runs),
        )
