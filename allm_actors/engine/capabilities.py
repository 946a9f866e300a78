"""The capabilities besides chat, as data.

Rule of this file: a capability is one row. Its adapter is a slot of the engine, and no slot stands in for
another; how calls are made, retried, timed, measured and cancelled is the same for all of them, and
elsewhere.

Source for `patience`, in seconds: how long providers take at most for their largest requests (their API references,
2026-09).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from allm_actors.data import (
    AdapterError,
    Audio,
    ClassificationAdapterError,
    ClassificationRequest,
    ClassificationResponse,
    EmbeddingAdapterError,
    EmbeddingRequest,
    EmbeddingResponse,
    Image,
    ImageAdapterError,
    ImagePart,
    ImageRequest,
    ImageResponse,
    ModerationAdapterError,
    ModerationRequest,
    ModerationResponse,
    SpeechAdapterError,
    SpeechRequest,
    SpeechResponse,
    TranscriptionAdapterError,
    TranscriptionRequest,
    TranscriptionResponse,
)
from allm_actors.data.media.sources import check_source
from allm_actors.data.predicates import all_of

__all__ = ["CAPABILITIES", "Capability", "asking", "edit_of", "request_of", "variation_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One row: its telemetry span, its public function, the adapter's slot and method, its types, and its rules.

    `door` is the public function, `field` the request's field that its first argument fills. With
    `engine_model` the engine's model is used where the slot has none. `validated` says whether a request is
    checked before it is sent. `patience` is the longest call, in seconds, unless `request_timeout` says
    otherwise. `stream_method` is the adapter's streaming method, if there is one.
    """

    span: str
    door: str
    slot: str
    method: str
    request: type[Any]
    response: type[Any]
    error: type[AdapterError]
    field: str
    engine_model: bool = False
    validated: bool = True
    patience: float = 60.0
    stream_method: str | None = None

    @property
    def model_slot(self) -> str:
        """The engine's slot for its model."""
        return self.slot.replace("adapter", "model")

    @property
    def missing(self) -> str:
        """The reason of the error for an engine without an adapter for it."""
        return f"no_{self.slot}"

    @property
    def group(self) -> str:
        """The entry-point group in which other packages register adapters for it."""
        return f"allm_actors.{self.slot}s"

    def about(self, request: Any) -> dict[str, Any]:
        """What telemetry records of a request besides its engine and model."""
        return {"operation": request.operation, "n": request.n} if isinstance(request, ImageRequest) else {}


_ROWS = (
    Capability(
        span="image",
        door="generate_image",
        slot="image_adapter",
        method="generate",
        request=ImageRequest,
        response=ImageResponse,
        error=ImageAdapterError,
        field="prompt",
        engine_model=True,
        validated=False,  # providers differ in what they allow, and the Elixir library sends what it is given
        patience=300.0,
    ),
    Capability(
        span="embed",
        door="embed",
        slot="embed_adapter",
        method="embed",
        request=EmbeddingRequest,
        response=EmbeddingResponse,
        error=EmbeddingAdapterError,
        field="input",
        engine_model=True,
    ),
    Capability(
        span="moderate",
        door="moderate",
        slot="moderation_adapter",
        method="moderate",
        request=ModerationRequest,
        response=ModerationResponse,
        error=ModerationAdapterError,
        field="input",
    ),
    Capability(
        span="speech",
        door="synthesize",
        slot="speech_adapter",
        method="synthesize",
        request=SpeechRequest,
        response=SpeechResponse,
        error=SpeechAdapterError,
        field="input",
        stream_method="stream_synthesize",
    ),
    Capability(
        span="transcribe",
        door="transcribe",
        slot="transcription_adapter",
        method="transcribe",
        request=TranscriptionRequest,
        response=TranscriptionResponse,
        error=TranscriptionAdapterError,
        field="audio",
        patience=120.0,
        stream_method="stream_transcribe",
    ),
    Capability(
        span="classify",
        door="classify",
        slot="classification_adapter",
        method="classify",
        request=ClassificationRequest,
        response=ClassificationResponse,
        error=ClassificationAdapterError,
        field="state",
    ),
)
CAPABILITIES: Mapping[str, Capability] = MappingProxyType({row.span: row for row in _ROWS})


def request_of(
    capability: Capability, given: Any, fields: Mapping[str, Any], others: Collection[str] = ()
) -> Any:
    """The request of a call: `given` itself if it is one, otherwise one made of it and these fields.

    Raises TypeError for a field that does not exist, naming the nearest one (or the nearest of `others`, the
    call's other options), for a value that no provider could take, and for fields beside a whole request;
    ValueError for an image without a valid source.
    """
    cls = capability.request
    known = [name for name in cls.__struct_fields__ if name != capability.field]
    door = _DOORS.get(str(fields.get("operation")), capability.door)
    for name, value in fields.items():
        if name not in known:
            raise TypeError(f"{door} has no option {name!r}{_hint(capability, door, name, known, others)}")
        if isinstance(given, cls):
            raise TypeError(
                f"{name!r} belongs in the {cls.__name__}, not beside it: {cls.__name__}({name}=…)"
            )
        kind = _KINDS.get(name)
        if kind is not None and not kind[1](value):
            raise TypeError(f"{door}: {name} must be {kind[0]}, got: {_shown(value)}")
    read = _READ.get(cls)
    if isinstance(given, cls):
        request = given
    elif cls is ClassificationRequest and "questions" not in fields:
        raise TypeError(
            f"{door} needs questions, such as {{'topic': ClassificationQuestion.choice('Which?', ['a', 'b'])}}"
        )
    else:
        request = cls(**{capability.field: given if read is None else read(given), **fields})
    return _picture_request(request) if cls is ImageRequest else request


def _picture_request(request: ImageRequest) -> ImageRequest:
    """The request with its size as a tuple: a list, as JSON has it, means the same."""
    _check_sources(request)
    size: Any = request.size
    is_pair = isinstance(size, list) and _is_size(size)
    return msgspec.structs.replace(request, size=tuple(size)) if is_pair else request


def _check_sources(request: ImageRequest) -> None:
    pictures: Any = request.input_images
    for image in (*(pictures if isinstance(pictures, list | tuple) else ()), request.mask):
        if isinstance(image, Image):
            check_source(image.source, "image")


def _hint(capability: Capability, door: str, name: str, known: Sequence[str], others: Collection[str]) -> str:
    if name == "timeout":
        return "; request_timeout limits the call, and connect_timeout a connection, in seconds"
    near = get_close_matches(name, (*known, *others, capability.field), n=1)
    if near == [capability.field] and door == _DOORS["variation"]:
        return "; a variation takes no prompt; to use one, call edit_image(engine, image, prompt)"
    if near == [capability.field]:
        return f"; {capability.field!r} is the argument after the engine, and must be given only once"
    return f"; did you mean {near[0]!r}?" if near else f". The options are: {', '.join(known)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"a {type(value).__name__}"


def edit_of(image: Image | Sequence[Image], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make an image request an edit of these images.

    Raises TypeError for what is no image, and if the options give an operation or images themselves.
    """
    images = (
        [image] if isinstance(image, Image) else list(image) if isinstance(image, list | tuple) else [image]
    )
    return _changing("edit", [_checked(each) for each in images], options)


def variation_of(image: Image, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make an image request a variation of this image. Raises TypeError, as `edit_of` does."""
    return _changing("variation", [_checked(image)], options)


def _changing(operation: str, images: list[Image], options: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("operation", "input_images"):
        if options.get(name) is not None:
            raise TypeError(
                f"{_DOORS[operation]} takes no {name}: the function itself sets the operation, and pictures "
                "are the argument after the engine"
            )
    return {**options, "operation": operation, "input_images": images}


def asking(questions: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with these questions; without any, because a whole request has its own, the options unchanged."""
    return options if questions is None else {**options, "questions": questions}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_size(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return (
        isinstance(value, tuple | list) and len(value) == 2 and all(type(pixels) is int for pixels in value)
    )


_LONGEST = 40
_DOORS = {"edit": "edit_image", "variation": "image_variations"}
_Kind = tuple[str, Callable[[Any], bool]]
_TEXT: _Kind = ("a text", _is_text)
_MAPPING: _Kind = ("a mapping", lambda value: isinstance(value, Mapping))
# Which values are allowed is the provider's to decide; only values of a wrong type are refused here.
_KINDS: Mapping[str, _Kind] = {
    **dict.fromkeys(("operation", "quality", "style", "background"), _TEXT),
    **dict.fromkeys(("options", "metadata"), _MAPPING),
    "n": ("a whole number", lambda value: type(value) is int),
    "size": ("(width, height) in pixels, or a text such as '1024x1024'", _is_size),
    "input_images": ("a list of Image (see Image.from_file)", lambda value: all_of(value, Image)),
    "mask": ("an Image (see Image.from_file)", lambda value: isinstance(value, Image)),
}


def _listed(given: Any) -> Any:
    if isinstance(given, str | ImagePart):
        return [given]
    return list(given) if isinstance(given, tuple) else given


def _checked(image: Any) -> Image:
    if isinstance(image, Image):
        return image
    raise TypeError(
        f"expected an Image, got {type(image).__name__}; see Image.from_file and Image.from_bytes"
    )


def _prompt(given: Any) -> Any:
    if isinstance(given, str | None):
        return given
    raise TypeError(f"expected a prompt or an ImageRequest, got {type(given).__name__}")


def _clip(given: Any) -> Any:
    if isinstance(given, str | bytes):
        kind = type(given).__name__
        raise TypeError(f"expected an Audio, got {kind}; see Audio.from_file and Audio.from_bytes")
    return Audio.from_file(given) if isinstance(given, Path) else given


_READ: Mapping[type[Any], Callable[[Any], Any]] = {
    ImageRequest: _prompt,
    EmbeddingRequest: _listed,
    ModerationRequest: _listed,
    TranscriptionRequest: _clip,
}
