"""Calls without a session: one answer, one step or a whole chat, returned at once or streamed; and every call
that is not chat.

Rule of this file: a synchronous call is its stream, drained. Each chat call is an unnamed session of the
process-wide host; a call that is not chat is a process of its own on that host.
Options and their meaning: `docs/reference/options.md`. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

import msgspec

from allm_actors.actors import (
    CallStream,
    EventStream,
    StatelessCall,
    default_host,
    open_call_stream,
    open_first_call,
    thread_of,
    turn_spec,
    view_of,
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
from allm_actors.data import (
    Audio,
    ChatResult,
    ClassificationQuestion,
    ClassificationRequest,
    ClassificationResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    Image,
    ImagePart,
    ImageRequest,
    ImageResponse,
    Message,
    ModerationRequest,
    ModerationResponse,
    Request,
    Response,
    SpeechEvent,
    SpeechRequest,
    SpeechResponse,
    StepResult,
    Thread,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptionResponse,
)
from allm_actors.engine.capabilities import asking, edit_of, variation_of
from allm_actors.engine.engine import Engine
from allm_actors.engine.secret import sealed

__all__ = [
    "chat",
    "classify",
    "edit_image",
    "embed",
    "generate",
    "generate_image",
    "image_variations",
    "moderate",
    "open_stream",
    "step",
    "stream",
    "stream_generate",
    "stream_step",
    "stream_synthesize",
    "stream_transcribe",
    "synthesize",
    "transcribe",
]

Conversation = Thread | Sequence[Message]
R = TypeVar("R")
S = TypeVar("S", bound=EventStream[Any, Any])


def generate(engine: Engine, request: Request | Conversation, **options: Unpack[ChatOptions]) -> Response:
    """One model call. A failure after it began is data: `finish_reason == "error"` and `metadata["error"]`.

    Takes the options of `chat` that concern a model call. They override the request's own fields, except
    `model`.
    Raises: TypeError, ValueError, ValidationError, EngineError; AdapterError for a scripted refusal.
    """
    options = sealed(options)
    return _result(stream_generate(engine, request, **options))


def stream_generate(
    engine: Engine, request: Request | Conversation, **options: Unpack[ChatOptions]
) -> EventStream[Response]:
    """One model call as events; its result is a `Response`."""
    options = sealed(options)
    thread = thread_of(request.messages if isinstance(request, Request) else request)
    wanted = request if isinstance(request, Request) else Request(messages=thread.messages)
    return open_stream(EventStream, "generate", engine, thread, options, request=wanted)


def step(engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]) -> StepResult:
    """One model call and the tools it asks for. Options and errors: as `chat`, without the options about turns."""
    options = sealed(options)
    return _result(stream_step(engine, thread, **options))


def stream_step(
    engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]
) -> EventStream[StepResult]:
    """One model call and its tools as events; its result is a `StepResult`."""
    options = sealed(options)
    return open_stream(EventStream, "step", engine, thread_of(thread), options)


def chat(engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]) -> ChatResult:
    """Steps until the model has answered, a tool halts, or `max_turns` (8) is reached. Failures are in the result.

    Options (`allm.ChatOptions`), each overriding the engine's:

        what is asked  `model`, `tools`, `tool_choice`, `temperature`, `max_tokens`, `response_model`,
                       `max_retries`, `response_format`, `structured_finalize`, `structured_finalize_nudge`,
                       `prompt_cache`, `metadata`, `request_id`
        how it runs    `max_turns`, `max_concurrency`, `halt_when`, `mode`, `context`, `session_id`,
                       `on_tool_error`, `tool_executor`, `tool_result_encoder`
        what you see   `emit_text_deltas`, `emit_tool_deltas`, `include_raw_chunks`, `on_event`
        the provider   `api_key`, `adapter_opts`, `retry`
        in seconds     `tool_timeout`, `request_timeout`, `stream_timeout`, `first_byte_timeout` (also
                       `receive_timeout`), `connect_timeout` (also `pool_timeout`)

    What they mean is in docs/reference/options.md. Any other name is passed to the provider unchanged.
    Raises: as `generate`.
    """
    options = sealed(options)
    return _result(stream(engine, thread, **options))


def stream(engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]) -> EventStream[ChatResult]:
    """A whole chat as events, the last of which is `ChatCompleted`; its result is a `ChatResult`."""
    options = sealed(options)
    return open_stream(EventStream, "chat", engine, thread_of(thread), options)


def generate_image(
    engine: Engine, prompt: str | ImageRequest, **options: Unpack[ImageOptions]
) -> ImageResponse:
    """Images of what `prompt` describes; an `ImageRequest` in its place is sent unchanged.

    Options: the fields of an `ImageRequest` when `prompt` is a text, and `api_key`, `adapter_opts`, `retry`,
    timeouts, `request_id`, `telemetry_metadata`.
    Raises: TypeError, ValueError, EngineError, ValidationError (the model's `ModelRef` declares that it
    cannot), ImageAdapterError, StreamError when the host stops.
    """
    options = sealed(options)
    response: ImageResponse = _whole("image", engine, prompt, options)
    return response


def edit_image(
    engine: Engine, image: Image | Sequence[Image], prompt: str, **options: Unpack[ImageEditOptions]
) -> ImageResponse:
    """An image changed as `prompt` says. A list of images is sent as it is; a mask is given with `mask=`.

    Options and errors: as `generate_image`.
    """
    options = sealed(options)
    response: ImageResponse = _whole("image", engine, prompt, edit_of(image, options))
    return response


def image_variations(engine: Engine, image: Image, **options: Unpack[ImageEditOptions]) -> ImageResponse:
    """Variations of this image. Options and errors: as `generate_image`."""
    options = sealed(options)
    response: ImageResponse = _whole("image", engine, None, variation_of(image, options))
    return response


def embed(
    engine: Engine, input: str | Sequence[str] | EmbeddingRequest, **options: Unpack[EmbeddingOptions]
) -> EmbeddingResponse:
    """A vector for each text; `.vectors()` has them in the order of the texts.

    More texts than the adapter takes at once are sent in several calls, one after the other.
    `request_timeout` limits each of these calls; nothing limits their sum.
    Options: those of an `EmbeddingRequest` (`dimensions`, `task_type`, `truncate`, …), and as `generate_image`.
    Raises: as `generate_image`, with ValidationError for what cannot be sent, and EmbeddingAdapterError, whose metadata
    says how many texts were done.
    """
    options = sealed(options)
    response: EmbeddingResponse = _whole("embed", engine, input, options)
    return response


def moderate(
    engine: Engine,
    input: str | ImagePart | Sequence[str | ImagePart] | ModerationRequest,
    **options: Unpack[ModerationOptions],
) -> ModerationResponse:
    """A verdict for each text; if the input contains an image, one verdict for the whole input.

    Raises: as `embed`, with ModerationAdapterError.
    """
    options = sealed(options)
    response: ModerationResponse = _whole("moderate", engine, input, options)
    return response


def synthesize(engine: Engine, text: str | SpeechRequest, **options: Unpack[SpeechOptions]) -> SpeechResponse:
    """The text as sound. Options: those of a `SpeechRequest` (`voice`, `format`, `speed`, …), and as `generate_image`.

    Raises: as `embed`, with SpeechAdapterError.
    """
    options = sealed(options)
    response: SpeechResponse = _whole("speech", engine, text, options)
    return response


def stream_synthesize(
    engine: Engine, text: str | SpeechRequest, **options: Unpack[SpeechOptions]
) -> CallStream[SpeechResponse, SpeechEvent]:
    """The text as sound while it is made: `SpeechStarted`, `AudioDelta` and `SpeechCompleted`.

    A failure after the stream began is a final `ErrorEvent`, and `result()` raises it: half a clip is no
    response.
    """
    options = sealed(options)
    return open_call_stream("speech", engine, text, options, streamed=True)


def transcribe(
    engine: Engine, audio: Audio | Path | TranscriptionRequest, **options: Unpack[TranscriptionOptions]
) -> TranscriptionResponse:
    """What is said in a clip.

    Options: those of a `TranscriptionRequest` (`language`, `prompt`, …), and as `generate_image`.
    Raises: as `embed`, with TranscriptionAdapterError.
    """
    options = sealed(options)
    response: TranscriptionResponse = _whole("transcribe", engine, audio, options)
    return response


def stream_transcribe(
    engine: Engine, audio: Audio | Path | TranscriptionRequest, **options: Unpack[TranscriptionOptions]
) -> CallStream[TranscriptionResponse, TranscriptionEvent]:
    """What is said in a clip, while it is transcribed: `TranscriptionStarted`, then `PartialTranscript` and
    `CommittedTranscript`, then `TranscriptionCompleted`. Failures: as `stream_synthesize`.
    """
    options = sealed(options)
    return open_call_stream("transcribe", engine, audio, options, streamed=True)


def classify(
    engine: Engine,
    state: Any | ClassificationRequest,
    questions: dict[str, ClassificationQuestion] | None = None,
    **options: Unpack[ClassificationOptions],
) -> ClassificationResponse:
    """Answers to typed questions about a text (or data), by the ids of the questions.

    Raises: as `embed`, with ClassificationAdapterError.
    """
    options = sealed(options)
    response: ClassificationResponse = _whole("classify", engine, state, asking(questions, options))
    return response


def open_stream(
    make: Callable[..., S],
    kind: Any,
    engine: Engine,
    thread: Thread,
    options: Mapping[str, Any],
    request: Request | None = None,
    earlier: Sequence[Message] = (),
) -> S:
    """The stream of one call on the process-wide host; `make` builds it from a source, a channel and a view.
    `earlier` are the messages of the thread that a session had before.
    """
    host = default_host()
    spec = turn_spec(kind, engine, options, thread=thread, request=request, earlier=earlier)
    spec = msgspec.structs.replace(spec, opened=open_first_call(spec, host.transport))
    return make(StatelessCall(host, spec), spec.channel, view_of(spec))


def _result(stream: EventStream[R]) -> R:
    with stream:  # on an interrupt this ends the call: no one else holds the stream
        return stream.result()


def _whole(name: str, engine: Engine, given: Any, options: Mapping[str, Any]) -> Any:
    with open_call_stream(name, engine, given, options) as stream:
        return stream.result()
