"""Every error of the library, with every reason it can have.

Rule of this file: an error's cause and metadata are plain data.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from allm_actors.data import (
    AdapterError,
    AllmError,
    ClassificationAdapterError,
    EmbeddingAdapterError,
    EngineError,
    FinishReason,
    ImageAdapterError,
    ModerationAdapterError,
    SessionBusy,
    SessionError,
    SessionStatusError,
    SpeechAdapterError,
    StoreError,
    StreamError,
    ToolError,
    TranscriptionAdapterError,
    UnwrapError,
    ValidationError,
)

from .plain import COUNTS, IDS, TEXTS, WORDS, json_values, maybe, notes

__all__ = ["FINISH_REASONS", "errors"]

_UNSCRIPTED = (
    ImageAdapterError,
    EmbeddingAdapterError,
    ModerationAdapterError,
    SpeechAdapterError,
    TranscriptionAdapterError,
    ClassificationAdapterError,
)
FINISH_REASONS = st.sampled_from(get_args(FinishReason))


@cache
def errors() -> SearchStrategy[AllmError]:
    """Any of this library's errors, with any of its reasons."""
    path = st.lists(WORDS | st.integers(0, 9), min_size=1, max_size=3)
    failures = st.lists(st.tuples(WORDS | path, WORDS), max_size=3)
    statuses = st.sampled_from([400, 401, 429, 500, 503])
    called = {"provider": WORDS, "status": statuses, "retry_after_ms": COUNTS, "request_id": IDS}
    return st.one_of(
        _error(AdapterError, **called),
        _error(EngineError, provider=WORDS),
        *(_error(cls, **called) for cls in _UNSCRIPTED),
        _error(StreamError, provider=WORDS, event_index=COUNTS),
        _error(ToolError, tool_name=WORDS, tool_call_id=IDS),
        _error(SessionError, provider=WORDS),
        _error(SessionBusy, provider=WORDS),
        _error(StoreError, path=WORDS),
        _error(UnwrapError, finish_reason=FINISH_REASONS),
        _error(ValidationError, failures),
        _error(SessionStatusError, operation=WORDS, status=WORDS),
    )


def _error(
    cls: type[AllmError], *given: SearchStrategy[Any], **fields: SearchStrategy[Any]
) -> SearchStrategy[AllmError]:
    optional = {name: maybe(values) for name, values in fields.items()}
    return st.builds(
        cls,
        st.sampled_from(sorted(cls.reasons)),
        *given,
        message=maybe(TEXTS),
        cause=json_values(),
        metadata=notes(),
        **optional,
    )
