"""Provider-neutral LLM execution on supervised actors.

    import allm_actors as allm

    engine = allm.Engine(adapter="openai:gpt-4.1-mini", tools=[get_weather])
    for event in allm.stream(engine, [allm.user("Is it raining in Paris?")]):
        ...

Rule of this file: names only. Everything is loaded at its first use: importing this package starts no thread and loads
neither the HTTP library nor the actors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allm_actors import aio, data, session, testing
    from allm_actors.actors import (
        AsyncHost,
        AsyncSessionHandle,
        CallStream,
        EventStream,
        Host,
        HostStats,
        SessionHandle,
        StoredSession,
        Turn,
    )
    from allm_actors.actors.options import (
        ChatOptions,
        ClassificationOptions,
        EmbeddingOptions,
        ImageEditOptions,
        ImageOptions,
        ModerationOptions,
        SpeechOptions,
        TranscriptionOptions,
    )
    from allm_actors.data import *  # noqa: F403
    from allm_actors.data.build import (
        assistant,
        image_request,
        json_schema,
        request,
        system,
        tool,
        tool_result,
        user,
    )
    from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
    from allm_actors.data.compact import ToolHelp
    from allm_actors.data.rules.validate import validate
    from allm_actors.data.unwrap import unwrap
    from allm_actors.engine.adapter import Adapter, Call, ToolContext
    from allm_actors.engine.behaviours import (
        ClassificationAdapter,
        EmbeddingAdapter,
        ImageAdapter,
        ModerationAdapter,
        SpeechAdapter,
        SpeechStreamAdapter,
        TranscriptionAdapter,
        TranscriptionStreamAdapter,
    )
    from allm_actors.engine.engine import Engine
    from allm_actors.engine.http.transport import HttpxTransport
    from allm_actors.execution.fold import Fold, fold
    from allm_actors.execution.partials import Partials, partials
    from allm_actors.execution.tools import encode_tool_result
    from allm_actors.facade import (
        chat,
        classify,
        edit_image,
        embed,
        generate,
        generate_image,
        image_variations,
        moderate,
        step,
        stream,
        stream_generate,
        stream_step,
        stream_synthesize,
        stream_transcribe,
        synthesize,
        transcribe,
    )

__version__ = "0.1.0"

_HOMES = {
    "allm_actors.actors": [
        "AsyncHost",
        "AsyncSessionHandle",
        "CallStream",
        "EventStream",
        "Host",
        "HostStats",
        "SessionHandle",
        "StoredSession",
        "Turn",
    ],
    "allm_actors.actors.options": [
        "ChatOptions",
        "ClassificationOptions",
        "EmbeddingOptions",
        "ImageEditOptions",
        "ImageOptions",
        "ModerationOptions",
        "SpeechOptions",
        "TranscriptionOptions",
    ],
    "allm_actors.data.build": [
        "assistant",
        "image_request",
        "json_schema",
        "request",
        "system",
        "tool",
        "tool_result",
        "user",
    ],
    "allm_actors.data.codec": ["from_json", "from_msgpack", "to_json", "to_msgpack"],
    "allm_actors.data.compact": ["ToolHelp"],
    "allm_actors.data.unwrap": ["unwrap"],
    "allm_actors.data.rules.validate": ["validate"],
    "allm_actors.engine.adapter": ["Adapter", "Call", "ToolContext"],
    "allm_actors.engine.behaviours": [
        "ClassificationAdapter",
        "EmbeddingAdapter",
        "ImageAdapter",
        "ModerationAdapter",
        "SpeechAdapter",
        "SpeechStreamAdapter",
        "TranscriptionAdapter",
        "TranscriptionStreamAdapter",
    ],
    "allm_actors.engine.engine": ["Engine"],
    "allm_actors.engine.http.transport": ["HttpxTransport"],
    "allm_actors.execution.fold": ["Fold", "fold"],
    "allm_actors.execution.partials": ["Partials", "partials"],
    "allm_actors.execution.tools": ["encode_tool_result"],
    "allm_actors.facade": [
        "chat",
        "classify",
        "edit_image",
        "embed",
        "generate",
        "generate_image",
        "image_variations",
        "moderate",
        "step",
        "stream",
        "stream_generate",
        "stream_step",
        "stream_synthesize",
        "stream_transcribe",
        "synthesize",
        "transcribe",
    ],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("aio", "data", "session", "testing")

# Written out, because type checkers read it.
# ruff: noqa: F405
__all__ = [
    "Adapter",
    "AdapterError",
    "AllmError",
    "AskUser",
    "AskUserRequested",
    "AsyncHost",
    "AsyncSessionHandle",
    "Audio",
    "AudioDelta",
    "Call",
    "CallStream",
    "ChatCompleted",
    "ChatOptions",
    "ChatResult",
    "ClassificationAdapter",
    "ClassificationAdapterError",
    "ClassificationAnswer",
    "ClassificationOptions",
    "ClassificationQuestion",
    "ClassificationRequest",
    "ClassificationResponse",
    "CommittedTranscript",
    "Document",
    "DocumentPart",
    "Embedding",
    "EmbeddingAdapter",
    "EmbeddingAdapterError",
    "EmbeddingOptions",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "Engine",
    "EngineError",
    "Err",
    "ErrorEvent",
    "Event",
    "EventStream",
    "Fold",
    "Halt",
    "Host",
    "HostStats",
    "HttpxTransport",
    "Image",
    "ImageAdapter",
    "ImageAdapterError",
    "ImageEditOptions",
    "ImageOptions",
    "ImagePart",
    "ImageRequest",
    "ImageResponse",
    "ImageUsage",
    "Message",
    "MessageCompleted",
    "MessageStarted",
    "ModelRef",
    "ModerationAdapter",
    "ModerationAdapterError",
    "ModerationOptions",
    "ModerationRequest",
    "ModerationResponse",
    "ModerationResult",
    "Ok",
    "PartialTranscript",
    "Partials",
    "RawChunk",
    "Request",
    "Response",
    "Session",
    "SessionBusy",
    "SessionError",
    "SessionHandle",
    "SessionStatusError",
    "SpeechAdapter",
    "SpeechAdapterError",
    "SpeechCompleted",
    "SpeechOptions",
    "SpeechRequest",
    "SpeechResponse",
    "SpeechStarted",
    "SpeechStreamAdapter",
    "StepCompleted",
    "StepResult",
    "StoreError",
    "StoredSession",
    "StreamError",
    "TextCompleted",
    "TextDelta",
    "TextPart",
    "Thread",
    "Tool",
    "ToolCall",
    "ToolCallCompleted",
    "ToolCallDelta",
    "ToolCallStarted",
    "ToolContext",
    "ToolError",
    "ToolExecutionCompleted",
    "ToolExecutionStarted",
    "ToolHalt",
    "ToolHelp",
    "ToolResultEncoded",
    "TranscriptionAdapter",
    "TranscriptionAdapterError",
    "TranscriptionCompleted",
    "TranscriptionOptions",
    "TranscriptionRequest",
    "TranscriptionResponse",
    "TranscriptionStarted",
    "TranscriptionStreamAdapter",
    "Turn",
    "UnwrapError",
    "Usage",
    "ValidationError",
    "aio",
    "assistant",
    "chat",
    "classify",
    "data",
    "edit_image",
    "embed",
    "encode_tool_result",
    "fold",
    "from_json",
    "from_msgpack",
    "generate",
    "generate_image",
    "image_request",
    "image_variations",
    "json_schema",
    "moderate",
    "partials",
    "read_arguments",
    "request",
    "session",
    "step",
    "stream",
    "stream_generate",
    "stream_step",
    "stream_synthesize",
    "stream_transcribe",
    "synthesize",
    "system",
    "testing",
    "to_json",
    "to_msgpack",
    "tool",
    "tool_result",
    "transcribe",
    "unwrap",
    "user",
    "validate",
]


if not TYPE_CHECKING:  # or every misspelt name would be known to a type checker

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"allm_actors.{name}")
        if name not in __all__:
            raise AttributeError(f"module 'allm_actors' has no attribute {name!r}")
        home = _HOME.get(name, "allm_actors.data")  # where most are
        if home == "allm_actors.data.codec":
            # Engines can be decoded too, once they are known.
            importlib.import_module("allm_actors.engine.engine")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
