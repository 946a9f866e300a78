"""Hypothesis strategies for the library's values.

Rule of this package: what is drawn is valid (`validate` accepts it) and can be encoded, so a test that wants it broken
breaks it itself. Strategies are functions, and what is drawn shrinks to the plainest value. Hypothesis must be
installed.
"""

from .capabilities import (
    audios,
    classification_requests,
    classification_responses,
    embedding_requests,
    embedding_responses,
    moderation_requests,
    moderation_responses,
    questions,
    speech_events,
    speech_requests,
    speech_responses,
    transcription_events,
    transcription_requests,
    transcription_responses,
)
from .conversations import (
    documents,
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
    "audios",
    "chat_results",
    "classification_requests",
    "classification_responses",
    "documents",
    "embedding_requests",
    "embedding_responses",
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
    "moderation_requests",
    "moderation_responses",
    "parts",
    "questions",
    "requests",
    "responses",
    "scripts",
    "sessions",
    "speech_events",
    "speech_requests",
    "speech_responses",
    "step_results",
    "threads",
    "tool_calls",
    "tool_names",
    "tools",
    "transcription_events",
    "transcription_requests",
    "transcription_responses",
    "usage",
]
