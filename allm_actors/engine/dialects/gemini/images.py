"""Gemini's images: generateContent that may answer with images.

Rule of this file: pure. The format has only aspect ratios; a size with none of them is refused. Fields that
it does not have (`quality`, `style`, `background`) are not sent.

Source: https://ai.google.dev/gemini-api/docs/image-generation, and recorded exchanges.
"""

from __future__ import annotations

import re
from typing import Any, Final

from allm_actors.data import AdapterError, Image, ImageRequest, ImageResponse, ImageUsage
from allm_actors.engine.dialects.gemini.content import asked, blocked, inline, parts_of
from allm_actors.engine.dialects.image_files import (
    check_operation,
    check_pictures_given,
    made_image,
    picture_bytes,
)
from allm_actors.engine.dialects.lenient import dict_of, dicts_of, text_of
from allm_actors.engine.dialects.refusals import answered_object, refusal
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_RATIOS: Final = {"16:9": 16 / 9, "9:16": 9 / 16, "4:3": 4 / 3, "3:4": 3 / 4}
_TOLERANCE = 0.05
_PIXELS = re.compile(r"(\d{1,9})x(\d{1,9})", re.ASCII)
_RATIO = re.compile(r"\d{1,2}:\d{1,2}", re.ASCII)


def encode(request: ImageRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    model = request.model or row.model or ""
    check_operation(request, model, row.operations, row)
    check_pictures_given(request, row)
    if request.operation == "edit" and request.mask is not None:
        message = (
            f"{row.provider.label} takes no mask, and would change the whole picture; describe the place "
            "in the prompt instead"
        )
        raise row.error("unsupported_feature", message, metadata={"field": "mask"})
    config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
    ratio = _ratio(request.size, row)
    if ratio is not None:
        config["imageConfig"] = {"aspectRatio": ratio}
    if request.n > 1:
        config["candidateCount"] = request.n
    pictures = request.input_images if request.operation == "edit" else []
    parts = [{"text": request.prompt or ""}, *(_sent(image, row) for image in pictures)]
    return asked(parts, config, request.options, model, row, base_url)


def decode(answer: HttpAnswer, request: ImageRequest, row: Service) -> ImageResponse:
    """See `ServiceDialect.decode`."""
    wire = answered_object(answer, row)
    images = [
        image
        for candidate in dicts_of(wire.get("candidates"))
        for part in parts_of(candidate)
        if (image := _image(part, request, row)) is not None
    ]
    if not images:
        raise blocked(wire, row, answer.status) or row.malformed("there is no picture in it")
    return ImageResponse(
        id=text_of(wire.get("responseId")),
        model=text_of(wire.get("modelVersion")) or request.model or row.model,
        images=images,
        usage=ImageUsage(images=len(images)),
        raw={name: value for name, value in wire.items() if name != "candidates"},
        metadata=dict(request.metadata),
    )


def _ratio(size: Any, row: Service) -> str | None:
    if size is None or size == "auto":
        return None
    pixels = _PIXELS.fullmatch(size) if isinstance(size, str) else None
    if pixels is not None:
        size = (int(pixels[1]), int(pixels[2]))
    if isinstance(size, str) and _RATIO.fullmatch(size):
        return size
    if isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size):
        width, height = size
        if width == height:
            return "1:1"
        for name, ratio in _RATIOS.items():
            if abs(width / height - ratio) <= _TOLERANCE * ratio:
                return name
    message = f"{row.provider.label} has no size {size!r}; its proportions are 1:1, {', '.join(_RATIOS)}"
    raise row.error("invalid_request", message, metadata={"field": "size"})


def _sent(image: Image, row: Service) -> dict[str, Any]:
    data = picture_bytes(image, "input_images", row)
    if not image.mime_type:
        message = "a picture in input_images has no mime_type, such as 'image/png'"
        raise row.error("invalid_request", message, metadata={"field": "input_images"})
    return inline(data, image.mime_type)


def _image(part: dict[str, Any], request: ImageRequest, row: Service) -> Image | None:
    held = dict_of(part.get("inlineData"))
    mime = text_of(held.get("mimeType")) or "image/png"
    if part.get("thought") is True or not text_of(held.get("data")) or not mime.startswith("image/"):
        return None
    try:
        return made_image(held["data"], mime, request.response_format, row, prompt=request.prompt)
    except AdapterError:
        return None  # unreadable: left out; if no image is left, that is an error


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
