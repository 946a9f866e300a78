"""Calls without a session: one answer, one step, or a whole chat, whole or as a stream; and everything that is not
chat.

Rule of this file: a synchronous call is its stream, drained. Each call is an unnamed session of the process-wide host,
and what is not chat a process of its own there.
Options and their meaning: `docs/reference/options.md`. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

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


def generate(engine: Engine, request: Request | Conversation, **options: Any) -> Response:
    """One model call. A failure after it began is data: `finish_reason == "error"` and `metadata["error"]`.

    The options are those of `chat` about a model's call; they win over what a request says, but for its `model`.
    Raises: TypeError, ValueError, ValidationError, EngineError; AdapterError for a scripted refusal.
    """
    return _result(stream_generate(engine, request, **options))


def stream_generate(engine: Engine, request: Request | Conversation, **options: Any) -> EventStream[Response]:
    """One model call as events; its result is a `Response`."""
    wanted = request if isinstance(request, Request) else Request(messages=thread_of(request).messages)
    thread = Thread.from_messages(wanted.messages)
    return open_stream(EventStream, "generate", engine, thread, options, request=wanted)


def step(engine: Engine, thread: Conversation, **options: Any) -> StepResult:
    """One model call and the tools it asks for. Options and errors: as `chat`, without those of its turns."""
    return _result(stream_step(engine, thread, **options))


def stream_step(engine: Engine, thread: Conversation, **options: Any) -> EventStream[StepResult]:
    """One model call and its tools as events; its result is a `StepResult`."""
    return open_stream(EventStream, "step", engine, thread_of(thread), options)


def chat(engine: Engine, thread: Conversation, **options: Any) -> ChatResult:
    """Steps until the model has answered, a tool halts, or `max_turns` (8) is reached. Failures are in the result.

    Options, over the engine's: `model`, `tools`, `tool_choice`, `temperature`, `max_tokens`, `response_format`,
    `response_model`, `context`, `max_turns`, `max_concurrency`, `halt_when`, `on_tool_error`, `api_key`,
    `retry`, `on_event`; in seconds `tool_timeout`, `request_timeout`, `stream_timeout`; docs/reference/options.md has
    all. A name that is none of them is the provider's, and is sent as it is.
    Raises: as `generate`.
    """
    return _result(stream(engine, thread, **options))


def stream(engine: Engine, thread: Conversation, **options: Any) -> EventStream[ChatResult]:
    """A whole chat as events, the last of which is `ChatCompleted`; its result is a `ChatResult`."""
    return open_stream(EventStream, "chat", engine, thread_of(thread), options)


def generate_image(engine: Engine, prompt: str | ImageRequest, **options: Any) -> ImageResponse:
    """Pictures of what `prompt` says, or whatever an `ImageRequest` asks for, which is sent as it is.

    Options: those of an `ImageRequest` beside a prompt, and `api_key`, `adapter_opts`, `retry`, timeouts, `request_id`,
    `telemetry_metadata`.
    Raises: TypeError, ValueError, EngineError, ValidationError (the model's `ModelRef` says that it cannot),
    ImageAdapterError, StreamError when the host stops.
    """
    response: ImageResponse = _whole("image", engine, prompt, options)
    return response


def edit_image(engine: Engine, image: Image | Sequence[Image], prompt: str, **options: Any) -> ImageResponse:
    """A picture changed as `prompt` says. A list of two is sent as it is; a mask is said with `mask=`.

    Options and errors: as `generate_image`.
    """
    response: ImageResponse = _whole("image", engine, prompt, edit_of(image, options))
    return response


def image_variations(engine: Engine, image: Image, **options: Any) -> ImageResponse:
    """Pictures like this one. Options and errors: as `generate_image`."""
    response: ImageResponse = _whole("image", engine, None, variation_of(image, options))
    return response


def embed(engine: Engine, input: str | Sequence[str] | EmbeddingRequest, **options: Any) -> EmbeddingResponse:
    """A vector for each text; `.vectors()` has them in the order of the texts.

    More texts than the adapter takes at once are sent in several calls, one after the other. `request_timeout` is the
    time of each; there is none for all of them.
    Options: those of an `EmbeddingRequest` (`dimensions`, `task_type`, `truncate`, …), and as `generate_image`.
    Raises: as `generate_image`, with ValidationError for what cannot be sent, and EmbeddingAdapterError, whose metadata
    says how much was done.
    """
    response: EmbeddingResponse = _whole("embed", engine, input, options)
    return response


def moderate(
    engine: Engine, input: str | ImagePart | Sequence[str | ImagePart] | ModerationRequest, **options: Any
) -> ModerationResponse:
    """A verdict for each text; as soon as a picture is among them, one for all of it.

    Raises: as `embed`, with ModerationAdapterError.
    """
    response: ModerationResponse = _whole("moderate", engine, input, options)
    return response


def synthesize(engine: Engine, text: str | SpeechRequest, **options: Any) -> SpeechResponse:
    """The text as sound. Options: those of a `SpeechRequest` (`voice`, `format`, `speed`, …), and as `generate_image`.

    Raises: as `embed`, with SpeechAdapterError.
    """
    response: SpeechResponse = _whole("speech", engine, text, options)
    return response


def stream_synthesize(
    engine: Engine, text: str | SpeechRequest, **options: Any
) -> CallStream[SpeechResponse, SpeechEvent]:
    """The text as sound while it is made: `SpeechStarted`, `AudioDelta` and `SpeechCompleted`.

    A failure after the beginning is a last `ErrorEvent`, and raised by `result()`: half a clip is no response.
    """
    return open_call_stream("speech", engine, text, options, streamed=True)


def transcribe(
    engine: Engine, audio: Audio | Path | TranscriptionRequest, **options: Any
) -> TranscriptionResponse:
    """What is said in a clip.

    Options: those of a `TranscriptionRequest` (`language`, `prompt`, …), and as `generate_image`.
    Raises: as `embed`, with TranscriptionAdapterError.
    """
    response: TranscriptionResponse = _whole("transcribe", engine, audio, options)
    return response


def stream_transcribe(
    engine: Engine, audio: Audio | Path | TranscriptionRequest, **options: Any
) -> CallStream[TranscriptionResponse, TranscriptionEvent]:
    """What is said in a clip while it is heard: `TranscriptionStarted`, then `PartialTranscript` and
    `CommittedTranscript`, then `TranscriptionCompleted`. A failure is as in `stream_synthesize`.
    """
    return open_call_stream("transcribe", engine, audio, options, streamed=True)


def classify(
    engine: Engine,
    state: Any | ClassificationRequest,
    questions: dict[str, ClassificationQuestion] | None = None,
    **options: Any,
) -> ClassificationResponse:
    """Answers to typed questions about a text (or data), by the ids of the questions.

    Raises: as `embed`, with ClassificationAdapterError.
    """
    response: ClassificationResponse = _whole("classify", engine, state, asking(questions, options))
    return response


def open_stream(
    make: Callable[..., S],
    kind: Any,
    engine: Engine,
    thread: Thread,
    options: dict[str, Any],
    request: Request | None = None,
) -> S:
    """The stream of one call, made of its source, its channel and what its reader wants to see."""
    host = default_host()
    spec = turn_spec(kind, engine, options, thread=thread, request=request)
    spec = replace(spec, opened=open_first_call(spec, host.transport))
    return make(StatelessCall(host, spec), spec.channel, view_of(spec))


def _result(stream: EventStream[R]) -> R:
    with stream:  # an interrupt ends the call: nobody is left who could
        return stream.result()


def _whole(name: str, engine: Engine, given: Any, options: dict[str, Any]) -> Any:
    with open_call_stream(name, engine, given, options) as stream:
        return stream.result()
