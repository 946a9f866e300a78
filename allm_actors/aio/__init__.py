"""The facade, awaitable: the same calls for code that runs on an event loop.

Rule of this file: nothing is implemented twice. Asynchronous tools run on the caller's loop; everything else
is as in the facade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

from allm_actors import facade
from allm_actors.actors import CallStream, EventStream, open_call_stream
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
    ModerationRequest,
    ModerationResponse,
    Request,
    Response,
    SpeechEvent,
    SpeechRequest,
    SpeechResponse,
    StepResult,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptionResponse,
)
from allm_actors.engine.capabilities import asking, edit_of, variation_of
from allm_actors.engine.engine import Engine
from allm_actors.engine.secret import sealed
from allm_actors.facade import Conversation

from . import session

__all__ = [
    "chat",
    "classify",
    "edit_image",
    "embed",
    "generate",
    "generate_image",
    "image_variations",
    "moderate",
    "session",
    "step",
    "stream",
    "stream_generate",
    "stream_step",
    "stream_synthesize",
    "stream_transcribe",
    "synthesize",
    "transcribe",
]

R = TypeVar("R")


async def generate(
    engine: Engine, request: Request | Conversation, **options: Unpack[ChatOptions]
) -> Response:
    """As `allm.generate`."""
    options = sealed(options)
    return await _result(stream_generate(engine, request, **options))


def stream_generate(
    engine: Engine, request: Request | Conversation, **options: Unpack[ChatOptions]
) -> EventStream[Response]:
    """As `allm.stream_generate`; iterate it with `async for`."""
    options = sealed(options)
    return facade.stream_generate(engine, request, **options)


async def step(engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]) -> StepResult:
    """As `allm.step`."""
    options = sealed(options)
    return await _result(stream_step(engine, thread, **options))


def stream_step(
    engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]
) -> EventStream[StepResult]:
    """As `allm.stream_step`; iterate it with `async for`."""
    options = sealed(options)
    return facade.stream_step(engine, thread, **options)


async def chat(engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]) -> ChatResult:
    """As `allm.chat`."""
    options = sealed(options)
    return await _result(stream(engine, thread, **options))


def stream(engine: Engine, thread: Conversation, **options: Unpack[ChatOptions]) -> EventStream[ChatResult]:
    """As `allm.stream`; iterate it with `async for`."""
    options = sealed(options)
    return facade.stream(engine, thread, **options)


async def generate_image(
    engine: Engine, prompt: str | ImageRequest, **options: Unpack[ImageOptions]
) -> ImageResponse:
    """As `allm.generate_image`."""
    options = sealed(options)
    response: ImageResponse = await _whole("image", engine, prompt, options)
    return response


async def edit_image(
    engine: Engine, image: Image | Sequence[Image], prompt: str, **options: Unpack[ImageEditOptions]
) -> ImageResponse:
    """As `allm.edit_image`."""
    options = sealed(options)
    response: ImageResponse = await _whole("image", engine, prompt, edit_of(image, options))
    return response


async def image_variations(
    engine: Engine, image: Image, **options: Unpack[ImageEditOptions]
) -> ImageResponse:
    """As `allm.image_variations`."""
    options = sealed(options)
    response: ImageResponse = await _whole("image", engine, None, variation_of(image, options))
    return response


async def embed(
    engine: Engine, input: str | Sequence[str] | EmbeddingRequest, **options: Unpack[EmbeddingOptions]
) -> EmbeddingResponse:
    """As `allm.embed`."""
    options = sealed(options)
    response: EmbeddingResponse = await _whole("embed", engine, input, options)
    return response


async def moderate(
    engine: Engine,
    input: str | ImagePart | Sequence[str | ImagePart] | ModerationRequest,
    **options: Unpack[ModerationOptions],
) -> ModerationResponse:
    """As `allm.moderate`."""
    options = sealed(options)
    response: ModerationResponse = await _whole("moderate", engine, input, options)
    return response


async def synthesize(
    engine: Engine, text: str | SpeechRequest, **options: Unpack[SpeechOptions]
) -> SpeechResponse:
    """As `allm.synthesize`."""
    options = sealed(options)
    response: SpeechResponse = await _whole("speech", engine, text, options)
    return response


def stream_synthesize(
    engine: Engine, text: str | SpeechRequest, **options: Unpack[SpeechOptions]
) -> CallStream[SpeechResponse, SpeechEvent]:
    """As `allm.stream_synthesize`; iterate it with `async for`."""
    options = sealed(options)
    return facade.stream_synthesize(engine, text, **options)


async def transcribe(
    engine: Engine, audio: Audio | Path | TranscriptionRequest, **options: Unpack[TranscriptionOptions]
) -> TranscriptionResponse:
    """As `allm.transcribe`."""
    options = sealed(options)
    response: TranscriptionResponse = await _whole("transcribe", engine, audio, options)
    return response


def stream_transcribe(
    engine: Engine, audio: Audio | Path | TranscriptionRequest, **options: Unpack[TranscriptionOptions]
) -> CallStream[TranscriptionResponse, TranscriptionEvent]:
    """As `allm.stream_transcribe`; iterate it with `async for`."""
    options = sealed(options)
    return facade.stream_transcribe(engine, audio, **options)


async def classify(
    engine: Engine,
    state: Any | ClassificationRequest,
    questions: dict[str, ClassificationQuestion] | None = None,
    **options: Unpack[ClassificationOptions],
) -> ClassificationResponse:
    """As `allm.classify`."""
    options = sealed(options)
    response: ClassificationResponse = await _whole("classify", engine, state, asking(questions, options))
    return response


async def _result(stream: EventStream[R]) -> R:
    async with stream:  # when the task is cancelled this ends the call: no one else holds the stream
        return await stream


async def _whole(name: str, engine: Engine, given: Any, options: Mapping[str, Any]) -> Any:
    async with open_call_stream(name, engine, given, options) as stream:
        return await stream
