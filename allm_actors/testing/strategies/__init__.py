"""Hypothesis strategies for the library's values.

Rule of this package: what is drawn is valid (`validate` accepts it) and can be encoded, so a test that wants it broken
breaks it itself. Strategies are functions, and what is drawn shrinks to the plainest value. Hypothesis must be
installed.
"""

from .conversations import (
    images,
    messages,
    model_refs,
    parts,
    requests,
    sessions,
    threads,
    tool_calls,
    tool_names,
    tools,
)
from .errors import errors
from .events import events, handler_results, scripts
from .plain import arguments, json_objects, json_values
from .results import chat_results, image_requests, image_responses, responses, step_results, usage

__all__ = [
    "arguments",
    "chat_results",
    "errors",
    "events",
    "handler_results",
    "image_requests",
    "image_responses",
    "images",
    "json_objects",
    "json_values",
    "messages",
    "model_refs",
    "parts",
    "requests",
    "responses",
    "scripts",
    "sessions",
    "step_results",
    "threads",
    "tool_calls",
    "tool_names",
    "tools",
    "usage",
]
