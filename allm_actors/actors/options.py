"""The options of calls by their names, for editors and type checkers.

Rule of this file: types only; at run time any name is taken, and checked by `engine.places`. All of an option's
names are here, and nothing else (a test compares). None means "not given". What each option means and its default
are in `docs/reference/options.md`; times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from allm_actors.data import Event, Image, ModelRef, StepResult, Tool
from allm_actors.data.media.audio import AudioFormat
from allm_actors.data.services.embeddings import TaskType
from allm_actors.engine.adapter import ToolExecutor, ToolResultEncoder, ToolResultEncoderFunction
from allm_actors.engine.retry import RetryPolicy
from allm_actors.engine.secret import KeySource
from allm_actors.execution.options import Mode
from allm_actors.execution.tools import Policy

__all__ = [
    "ChatOptions",
    "ClassificationOptions",
    "EmbeddingOptions",
    "ImageEditOptions",
    "ImageOptions",
    "ModerationOptions",
    "ProviderOptions",
    "SpeechOptions",
    "TranscriptionOptions",
]


class CommonOptions(TypedDict, total=False):
    """What every call takes: the model, the key, how long to wait and what to repeat."""

    model: str | ModelRef | None
    request_id: str | None
    """The id in the response and in errors; one is made if you give none."""
    api_key: KeySource
    """A key, or a function that returns one; without it, the key is looked up."""
    adapter_opts: Mapping[str, Any] | None
    """Of the adapter (`base_url`, `headers`, …), over the engine's."""
    retry: Literal["default"] | bool | Mapping[str, Any] | RetryPolicy | None
    """`"default"`, False, or a mapping over the default, such as `{"max_attempts": 5}`."""
    connect_timeout: float | None
    """Seconds until there is a connection."""
    pool_timeout: float | None
    """The same as `connect_timeout`."""
    first_byte_timeout: float | None
    """Seconds until the answer begins."""
    receive_timeout: float | None
    """The same as `first_byte_timeout`."""
    stream_timeout: float | None
    """The longest silence, in seconds."""
    request_timeout: float | None
    """Seconds for a whole model call, attempts and delays included."""


class ProviderOptions(TypedDict, total=False):
    """Providers' own options that are sent with a chat unchanged, those that the library or its documentation knows.

    Only their names are checked. For any other, use `engine.put_param(name, value)`, or a dict whose values are `Any`:

        own: dict[str, Any] = {"safe_prompt": True}
        allm.chat(engine, messages, **own)
    """

    top_p: Any
    top_k: Any
    topP: Any
    stop: Any
    seed: Any
    logit_bias: Any
    logprobs: Any
    top_logprobs: Any
    frequency_penalty: Any
    presence_penalty: Any
    max_completion_tokens: Any
    parallel_tool_calls: Any
    service_tier: Any
    store: Any
    stream: Literal[False] | None
    user: Any
    reasoning: Any
    reasoning_effort: Any
    reasoning_summary: Any
    verbosity: Any
    thinking: Any
    thinkingConfig: Any
    output_config: Any
    guardrailConfig: Any
    safe_prompt: Any
    search_mode: Any
    image_domain_filter: Any
    image_format_filter: Any


class ChatOptions(CommonOptions, ProviderOptions, total=False):
    """The options of `chat`, `step`, `generate`, their streams, and the turns of a session."""

    # What the model is asked.
    tools: Sequence[Tool] | None
    """More tools; one of the same name replaces the engine's."""
    tool_choice: str | tuple[str, str] | Mapping[str, Any] | None
    """`"auto"`, `"none"`, `"required"`, or a tool's name."""
    temperature: float | None
    max_tokens: int | None
    response_model: Any
    """A type that the answer is parsed into."""
    max_retries: int | None
    """How often the model is asked again for an answer that fits its `response_model`."""
    response_format: str | Mapping[str, Any] | None
    """`{"type": "json_object"}`, or what `allm.json_schema(…)` returns."""
    structured_finalize: bool | None
    """With a `response_format` and tools: chat freely first, then answer in the format, without tools."""
    structured_finalize_nudge: str | None
    """The message that asks for the second pass; `""` for none."""
    prompt_cache: bool | Mapping[str, Any] | None
    """True, or `{"key": …, "retention": "short"}` or `"long"`."""
    metadata: Mapping[str, Any] | None
    """Kept on the request, for adapters of your own."""

    # How the loop runs.
    mode: Mode | None
    """`"manual"` hands all tool calls to you."""
    max_turns: int | None
    """Model calls of a chat."""
    max_concurrency: int | None
    """Tools of one step at the same time."""
    tool_timeout: float | None
    """Seconds for a tool."""
    on_tool_error: Policy | None
    """`"continue"`, `"halt"`, or a function of the call and the error."""
    halt_when: Callable[[StepResult], object] | None
    """Called after each step that is not the last; a true answer halts the chat."""
    context: Mapping[str, Any] | None
    """For tools."""
    session_id: str | None
    """For tools."""
    tool_executor: ToolExecutor | None
    """What runs tools in place of their handlers."""
    tool_result_encoder: ToolResultEncoder | ToolResultEncoderFunction | None
    """From a tool's value to the text that the model reads."""

    # What you see.
    emit_text_deltas: bool | None
    emit_tool_deltas: bool | None
    include_raw_chunks: bool | None
    on_event: Callable[[Event], object] | None
    """Called with every event of the provider."""


class ServiceOptions(CommonOptions, total=False):
    """What every call takes that is not chat."""

    telemetry_metadata: Mapping[str, Any] | None
    """For telemetry handlers."""
    options: dict[str, Any] | None
    """The provider's own, sent unchanged."""
    metadata: dict[str, Any] | None
    """Kept on the request and the response."""


class ImageEditOptions(ServiceOptions, total=False):
    """The options of `edit_image` and `image_variations`."""

    n: int | None
    size: tuple[int, int] | list[int] | str | None
    """`(width, height)` in pixels, or a word that the provider knows."""
    quality: str | None
    style: str | None
    background: str | None
    response_format: Literal["binary", "base64", "url"] | None
    mask: Image | None
    """Where to change the image."""


class ImageOptions(ImageEditOptions, total=False):
    """The options of `generate_image`."""

    operation: Literal["generate", "edit", "variation"] | None
    input_images: list[Image] | None


class EmbeddingOptions(ServiceOptions, total=False):
    """The options of `embed`."""

    dimensions: int | None
    task_type: TaskType | None
    """What the vectors are for."""
    truncate: bool | None
    """False: a text that is too long is an error."""


class ModerationOptions(ServiceOptions, total=False):
    """The options of `moderate`."""


class SpeechOptions(ServiceOptions, total=False):
    """The options of `synthesize` and `stream_synthesize`."""

    voice: str | None
    format: AudioFormat | None
    instructions: str | None
    """How to speak."""
    speed: float | None
    """A factor."""
    sample_rate: int | None
    """In Hz."""


class TranscriptionOptions(ServiceOptions, total=False):
    """The options of `transcribe` and `stream_transcribe`."""

    language: str | None
    """An ISO 639 code."""
    prompt: str | None
    """Names and style."""


class ClassificationOptions(ServiceOptions, total=False):
    """The options of `classify`."""
