"""Errors that are values and can be raised.

    AllmError
    ├── EngineError         the engine cannot make this call            (ours: configuration)
    ├── AdapterError        the provider refused, failed or vanished    (theirs, or between)
    │   └── ImageAdapterError, EmbeddingAdapterError, ModerationAdapterError, SpeechAdapterError,
    │       TranscriptionAdapterError, ClassificationAdapterError: the same for what is not chat
    ├── StreamError         a stream broke after it began               (between)
    ├── ToolError           a tool handler failed                       (the user's)
    ├── ValidationError     values that cannot be sent                  (ours: every failure listed)
    ├── SessionError        a session in a state that forbids the call
    │   └── SessionBusy     a turn is running and the policy says no
    ├── StoreError          the store of sessions cannot be used
    ├── UnwrapError         a response without plain text to unwrap
    └── SessionStatusError  (also a ValueError) illegal for the session's status

Rule of this file: `reason` is one of a closed set, `message` names the thing and what to do, and no key and
no body is ever part of an error. Two errors with equal fields are equal. `cause` and `metadata` hold plain
data only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

__all__ = [
    "AdapterError",
    "AllmError",
    "ClassificationAdapterError",
    "EmbeddingAdapterError",
    "EngineError",
    "ImageAdapterError",
    "ModerationAdapterError",
    "SessionBusy",
    "SessionError",
    "SessionStatusError",
    "SpeechAdapterError",
    "StoreError",
    "StreamError",
    "ToolError",
    "TranscriptionAdapterError",
    "UnwrapError",
    "ValidationError",
]


class AllmError(Exception):
    """The root of this library's errors; see the tree above."""

    kind: ClassVar[str] = "error"
    reasons: ClassVar[frozenset[str]] = frozenset()
    fields: ClassVar[tuple[str, ...]] = ()

    reason: str
    message: str
    cause: Any
    metadata: dict[str, Any]

    def __init__(
        self,
        reason: str,
        *,
        message: str | None = None,
        cause: Any = None,
        metadata: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        cls = type(self)
        given: object = reason
        if self.reasons and not (isinstance(given, str) and given in self.reasons):
            raise ValueError(f"{cls.__name__} reason must be one of {sorted(self.reasons)}, got: {reason!r}")
        for name in fields:
            if name not in self.fields:
                raise TypeError(f"{cls.__name__} has no field {name!r}; its fields are {list(self.fields)}")
        for name in self.fields:
            setattr(self, name, fields.get(name))
        self.reason = reason
        self.cause = cause
        self.metadata = metadata if metadata is not None else {}
        self.message = message if message is not None else self.default_message()
        super().__init__(self.message)

    def default_message(self) -> str:
        """What is printed when no message was given."""
        return f"{self.kind}: {self.reason}"

    def to_fields(self) -> dict[str, Any]:
        """Every field by name, as plain data; `type(error).from_fields` gives an equal error."""
        common = {
            "reason": self.reason,
            "message": self.message,
            "cause": self.cause,
            "metadata": self.metadata,
        }
        return common | {name: getattr(self, name) for name in self.fields}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """The error that `to_fields` described. It is made as one of this file's classes: the `__init__` of a class
        of the user's takes what it likes.
        """
        ours = next(each for each in cls.__mro__ if each.__module__ == __name__)
        try:
            error = cls.__new__(cls)
        except TypeError:  # so may its `__new__`
            error = ours.__new__(cls)  # type: ignore[call-overload]
        ours.__init__(error, **fields)  # type: ignore[misc]
        return error

    def replaced(self, **changes: Any) -> Self:
        """A copy with these fields changed; what a class of the user's adds to it stays."""
        told = self.from_fields(self.to_fields() | changes)
        told.__dict__ = vars(self) | vars(told)
        return told

    def __str__(self) -> str:
        return self.message or self.default_message()

    def __repr__(self) -> str:
        known = {name: getattr(self, name) for name in self.fields}
        short = "".join(
            f", {name}={value!r}" for name, value in known.items() if isinstance(value, str | int)
        )
        return f"{type(self).__name__}({self.reason!r}, message={str(self)!r}{short})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.to_fields() == other.to_fields()

    def __hash__(self) -> int:
        return hash((type(self), self.reason, self.message))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_fields, (self.to_fields(),), vars(self))


class EngineError(AllmError):
    """The engine cannot make this call: an adapter, a model or a key is missing, or a name is unknown."""

    kind = "engine error"
    fields: ClassVar[tuple[str, ...]] = ("provider",)
    reasons: ClassVar[frozenset[str]] = frozenset(
        {
            "missing_adapter",
            "missing_stream_adapter",
            "missing_model",
            "missing_key",
            "unknown_adapter",
            "unknown_tool",
            "invalid_engine",
            "unsupported_response_format",
            "no_image_adapter",
            "no_embed_adapter",
            "no_moderation_adapter",
            "no_speech_adapter",
            "no_transcription_adapter",
            "no_classification_adapter",
        }
    )
    provider: str | None


class AdapterError(AllmError):
    """The provider refused, failed or could not be reached. `status` is the HTTP status, `retry_after_ms` milliseconds.

    `request_id` is that of the call, or None. In the subclasses below it is not a field of its own: it is
    read from `metadata["request_id"]` when the error is made.
    """

    kind = "adapter error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "status", "retry_after_ms", "request_id")
    reasons: ClassVar[frozenset[str]] = frozenset(
        {
            "rate_limited",
            "authentication_failed",
            "invalid_request",
            "provider_unavailable",
            "context_length_exceeded",
            "content_filter",
            "timeout",
            "network_error",
            "malformed_response",
            "unsupported_feature",
            "no_scripted_response",
            "unknown",
        }
    )
    provider: str | None
    status: int | None
    retry_after_ms: int | None
    request_id: str | None

    def __init__(self, reason: str, *, request_id: str | None = None, **fields: Any) -> None:
        if "request_id" in self.fields:
            super().__init__(reason, request_id=request_id, **fields)
            return
        if request_id is not None:
            fields["metadata"] = {**(fields.get("metadata") or {}), "request_id": request_id}
        super().__init__(reason, **fields)
        told: object = self.metadata  # a stored error may hold anything there
        self.request_id = told.get("request_id") if isinstance(told, dict) else None

    def of_call(self, request_id: str | None) -> Self:
        """This error with that `request_id`; itself if it has one already, or if `request_id` is None."""
        if request_id is None or self.request_id is not None:
            return self
        signed = self.replaced(request_id=request_id)
        signed.__cause__, signed.__traceback__ = self.__cause__, self.__traceback__
        return signed

    def default_message(self) -> str:
        """What is printed when no message was given."""
        return (
            f"{self.kind} ({self.provider}): {self.reason}"
            if self.provider
            else f"{self.kind}: {self.reason}"
        )


# Only chat has an error for the end of a script.
_UNSCRIPTED = AdapterError.reasons - {"no_scripted_response"}


class ImageAdapterError(AdapterError):
    """An image call failed; like `AdapterError`, with the reason `unsupported_operation` in addition."""

    kind = "image adapter error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "status", "retry_after_ms")
    reasons: ClassVar[frozenset[str]] = _UNSCRIPTED | {"unsupported_operation"}


class EmbeddingAdapterError(AdapterError):
    """An embedding call failed. If it was sent in several chunks, `metadata` says how much was done:
    `completed_chunks`, `completed_inputs`.
    """

    kind = "embedding adapter error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "status", "retry_after_ms")
    reasons: ClassVar[frozenset[str]] = (_UNSCRIPTED - {"content_filter"}) | {"batch_too_large"}


class ModerationAdapterError(AdapterError):
    """A moderation call failed; nothing was judged."""

    kind = "moderation adapter error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "status", "retry_after_ms")
    reasons: ClassVar[frozenset[str]] = (_UNSCRIPTED - {"content_filter"}) | {"batch_too_large"}


class SpeechAdapterError(AdapterError):
    """A clip could not be made. If its stream broke off, `metadata` has `bytes_received`."""

    kind = "speech adapter error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "status", "retry_after_ms")
    reasons: ClassVar[frozenset[str]] = _UNSCRIPTED - {"content_filter"}


class TranscriptionAdapterError(AdapterError):
    """A clip could not be transcribed. If its stream broke off, `metadata` has `committed_text`."""

    kind = "transcription adapter error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "status", "retry_after_ms")
    reasons: ClassVar[frozenset[str]] = _UNSCRIPTED


class ClassificationAdapterError(AdapterError):
    """A classification call failed; nothing was answered."""

    kind = "classification adapter error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "status", "retry_after_ms")
    reasons: ClassVar[frozenset[str]] = _UNSCRIPTED - {"content_filter", "unsupported_feature"}


class StreamError(AllmError):
    """A stream broke after it began."""

    kind = "stream error"
    fields: ClassVar[tuple[str, ...]] = ("provider", "event_index")
    reasons: ClassVar[frozenset[str]] = frozenset(
        {"adapter_error", "cancelled", "timeout", "malformed_event", "unknown"}
    )
    provider: str | None
    event_index: int | None


class ToolError(AllmError):
    """A tool could not be run or did not answer."""

    kind = "tool error"
    fields: ClassVar[tuple[str, ...]] = ("tool_name", "tool_call_id")
    reasons: ClassVar[frozenset[str]] = frozenset(
        {"handler_raised", "handler_exit", "timeout", "invalid_return", "not_found", "encoding_failed"}
        | {"invalid_arguments", "interrupted"}
    )
    tool_name: str | None
    tool_call_id: str | None

    def default_message(self) -> str:
        """What is printed when no message was given."""
        return (
            f"{self.kind} ({self.tool_name}): {self.reason}"
            if self.tool_name
            else f"{self.kind}: {self.reason}"
        )


class ValidationError(AllmError):
    """Values that cannot be sent, or an answer that does not fit.

    `errors` lists every failure as `(field, code)`; a field is a name or a path.
    """

    kind = "validation failed"
    fields: ClassVar[tuple[str, ...]] = ("errors",)
    reasons: ClassVar[frozenset[str]] = frozenset(
        {
            "invalid_request",
            "invalid_message",
            "invalid_tool",
            "invalid_thread",
            "invalid_session",
            "invalid_session_input",
            "unsupported_capability",
            "invalid_image_request",
            "invalid_embedding_request",
            "invalid_moderation_request",
            "invalid_speech_request",
            "invalid_transcription_request",
            "invalid_classification_request",
            "invalid_response",
        }
    )
    errors: list[tuple[Any, str]]

    def __init__(self, reason: str, errors: list[tuple[Any, str]], **fields: Any) -> None:
        if not isinstance(errors, list):
            raise TypeError(f"ValidationError errors must be a list, got: {type(errors).__name__}")
        super().__init__(reason, errors=errors, **fields)

    def default_message(self) -> str:
        """What is printed when no message was given."""
        return f"{self.kind}: {self.reason} ({len(self.errors)} error(s))"

    def explained(self, words: Sequence[str | None] = ()) -> Self:
        """The error with a message that lists its failures; `words` has a text to add to each, or None."""
        said = [*words, *[None] * (len(self.errors) - len(words))]
        listed = "; ".join(_failure(entry, more) for entry, more in zip(self.errors, said, strict=True))
        return self.replaced(message=f"{self.default_message()} {listed}".rstrip())


class SessionError(AllmError):
    """The session cannot do that: it ended in an error, or the id is not one it waits for."""

    kind = "session error"
    fields: ClassVar[tuple[str, ...]] = ("provider",)
    reasons: ClassVar[frozenset[str]] = frozenset(
        {
            "session_in_error_state",
            "invalid_status_for_operation",
            "no_pending_tool_call",
            "unknown_tool_call_id",
            "not_loaded",
            "closed",
        }
    )
    provider: str | None


class SessionBusy(SessionError):
    """Another turn of this session is running, and `when_busy` says not to wait."""

    reasons: ClassVar[frozenset[str]] = frozenset({"busy", "queue_full"})


class StoreError(AllmError):
    """The store of sessions cannot be used: not a database, from a newer version, not writable, a conflict, …"""

    kind = "store error"
    fields: ClassVar[tuple[str, ...]] = ("path",)
    reasons: ClassVar[frozenset[str]] = frozenset(
        {"not_a_store", "newer_schema", "unavailable", "corrupt", "locked", "unencodable", "conflict"}
        | {"unconfirmed"}
    )
    path: str | None


class UnwrapError(AllmError):
    """A response has no plain text to unwrap; `finish_reason` says how it ended."""

    kind = "unwrap error"
    fields: ClassVar[tuple[str, ...]] = ("finish_reason",)
    reasons: ClassVar[frozenset[str]] = frozenset(
        {"structured_content", "empty_stop_response", "non_stop_finish"}
    )
    finish_reason: str | None


class SessionStatusError(AllmError, ValueError):
    """The operation is illegal for the session's status: a mistake in the calling program."""

    kind = "session status"
    fields: ClassVar[tuple[str, ...]] = ("operation", "status")
    reasons: ClassVar[frozenset[str]] = frozenset({"illegal_for_status"})
    operation: str | None
    status: str | None


# Requirements of providers on the parts of messages; those of `validate` are worded in `rules.advice`.
_ADVICE = {
    "missing_mime_type": "set mime_type=, for example to 'image/png'",
    "unsupported_image_format": "pictures must be image/png, image/jpeg, image/webp or image/gif",
    "unresolvable_image": "its file cannot be read, or its Base64 cannot be decoded",
    "unresolvable_document": "its file cannot be read, or its Base64 cannot be decoded",
    "image_too_large": "send a smaller one, or its URL",
    "document_too_large": "send a smaller one, or its URL",
    "unsupported_document_format": "the provider does not read that type; send its text, with TextPart",
    "image_in_system_message": "put it into a user message",
    "document_in_system_message": "put it into a user message",
}


def _failure(entry: Any, words: str | None = None) -> str:
    """One of `errors` in words. An entry that is not a pair of a field and a code is listed by its type."""
    if not (isinstance(entry, (list, tuple)) and len(entry) == 2):
        return _word(entry)
    field, code = entry
    where = ".".join(map(_word, field)) if isinstance(field, (list, tuple)) else _word(field)
    more = words or (_ADVICE.get(code) if isinstance(code, str) else None)
    return f"{where}: {_word(code)}" + (f" ({more})" if more else "")


def _word(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    short = value is None or (type(value) in (int, bool) and abs(value) < 2**64)
    return str(value) if short else f"({type(value).__name__})"
