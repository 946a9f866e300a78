"""OpenAI's images: generations as JSON, edits and variations as forms.

Rule of this file: pure. Which fields a model takes is a table; a field of ours that its model does not take
is not sent. `options` are sent unchanged; our fields override them. A picture has the type that the answer or
the request names, else the one that its bytes show; PNG is only the default of a format that nobody names.

    model        operations                  fields besides model, prompt, n, size
    dall-e-2     generate, edit, variation   response_format; an edit takes one image, as any variation does
    dall-e-3     generate                    response_format, quality, style
    gpt-image-…  generate, edit              quality, background; images always come as Base64
    any other    all                         response_format, quality, style

Source: https://platform.openai.com/docs/api-reference/images, and recorded exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from allm_actors.data import Image, ImageRequest, ImageResponse, ImageUsage
from allm_actors.engine.dialects.failures import provider_request_id
from allm_actors.engine.dialects.image_files import (
    check_operation,
    check_pictures_given,
    made_image,
    picture_bytes,
)
from allm_actors.engine.dialects.lenient import count_of, dict_of, text_of
from allm_actors.engine.dialects.multipart import FilePart, file_name, form_request
from allm_actors.engine.dialects.refusals import answered_object, json_request, refusal
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_PATHS: Final = {"generate": "generations", "edit": "edits", "variation": "variations"}
_PNG = "image/png"
_MIME: Final = {
    **{name: f"image/{name}" for name in ("png", "jpeg", "webp", "gif")},
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """Models that take the same fields."""

    operations: tuple[str, ...]
    generate: tuple[str, ...] = ()
    edit: tuple[str, ...] = ()
    variation: tuple[str, ...] = ("n", "size", "response_format")
    urls: bool = True
    several: bool = True


_DALL_E_2: Final = _Family(
    operations=("generate", "edit", "variation"),
    generate=("prompt", "n", "size", "response_format"),
    edit=("prompt", "n", "size", "response_format"),
    several=False,
)
_DALL_E_3: Final = _Family(
    operations=("generate",), generate=("prompt", "n", "size", "response_format", "quality", "style")
)
_GPT_IMAGE: Final = _Family(
    operations=("generate", "edit"),
    generate=("prompt", "n", "size", "quality", "background"),
    edit=("prompt", "n", "size", "quality", "background"),
    urls=False,
)
_OTHER: Final = _Family(
    operations=("generate", "edit", "variation"),
    generate=("prompt", "n", "size", "response_format", "quality", "style"),
    edit=("prompt", "n", "size", "response_format", "quality", "style"),
)
_FAMILIES: Final = (
    *(("dall-e-2", _DALL_E_2), ("dall-e-3", _DALL_E_3)),
    *(("gpt-image", _GPT_IMAGE), ("chatgpt-image", _GPT_IMAGE)),
)


def encode(request: ImageRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    model = request.model or row.model
    family = _family(model)
    check_operation(request, model, family.operations, row)
    if request.response_format == "url" and not family.urls:
        message = f"{model} returns no URLs; leave response_format out"
        raise row.error("invalid_request", message, metadata={"field": "response_format"})
    if request.options.get("stream"):
        message = "pictures cannot be streamed; leave stream out of options"
        raise row.error("invalid_request", message, metadata={"field": "options"})
    check_pictures_given(request, row)
    _check_several(request, model, family, row)
    url = f"{base_url}/images/{_PATHS[request.operation]}"
    fields = {**request.options, "model": model, **_fields(request, family)}
    if request.operation == "generate":
        return json_request(url, fields, row)
    return form_request(url, fields, _files(request, row), row)


def decode(answer: HttpAnswer, request: ImageRequest, row: Service) -> ImageResponse:
    """See `ServiceDialect.decode`."""
    wire = answered_object(answer, row)
    items = wire.get("data")
    if not isinstance(items, list):
        raise row.malformed("it has no list of pictures")
    if not items:
        message = f"{row.provider.label} made no picture: its policy refuses this prompt"
        raise row.error("content_filter", message, status=answer.status)
    format = text_of(wire.get("output_format")) or text_of(request.options.get("output_format"))
    images = [_image(item, format, request, row) for item in items]
    counts = dict_of(wire.get("usage"))
    told = provider_request_id(answer.headers)
    extra = {
        "usage_details": counts.get("input_tokens_details"),
        "openai_request_id": told,
    }
    return ImageResponse(
        model=request.model or row.model,
        images=images,
        usage=ImageUsage(
            images=len(images),
            size=text_of(wire.get("size")),
            quality=text_of(wire.get("quality")),
            input_tokens=count_of(counts.get("input_tokens")),
            output_tokens=count_of(counts.get("output_tokens")),
        ),
        raw={**wire, "data": [_without_picture(item) for item in items]},
        metadata={**request.metadata, **{name: value for name, value in extra.items() if value}},
    )


def _family(model: str | None) -> _Family:
    return next((family for name, family in _FAMILIES if (model or "").startswith(name)), _OTHER)


def _check_several(request: ImageRequest, model: str | None, family: _Family, row: Service) -> None:
    """Raises `unsupported_feature` for more images than the model takes, rather than leaving some out."""
    count = len(request.input_images)
    taken = family.several and request.operation == "edit"
    if request.operation == "generate" or count == 1 or taken:
        return
    message = f"{row.provider.label}'s {model} takes one picture for its {request.operation}, got {count}"
    raise row.error("unsupported_feature", message, metadata={"field": "input_images"})


def _fields(request: ImageRequest, family: _Family) -> dict[str, Any]:
    size = request.size
    values: Mapping[str, Any] = {
        "prompt": request.prompt,
        "n": request.n,
        "size": f"{size[0]}x{size[1]}" if isinstance(size, tuple) else size,
        "quality": request.quality,
        "style": request.style,
        "background": request.background,
        "response_format": "url" if request.response_format == "url" else "b64_json",
    }
    names: tuple[str, ...] = getattr(family, request.operation)
    return {name: values[name] for name in names if values[name] is not None}


def _files(request: ImageRequest, row: Service) -> list[FilePart]:
    name = "image" if len(request.input_images) == 1 else "image[]"
    files = [_file(name, image, "image.png", row) for image in request.input_images]
    if request.operation == "edit" and request.mask is not None:
        files.append(_file("mask", request.mask, "mask.png", row))
    return files


def _file(name: str, image: Image, filename: str, row: Service) -> FilePart:
    data = picture_bytes(image, "mask" if name == "mask" else "input_images", row)
    own = file_name(image.source) if name != "mask" else None
    return FilePart(name=name, filename=own or filename, content_type=image.mime_type or _PNG, data=data)


def _image(item: Any, format: str | None, request: ImageRequest, row: Service) -> Image:
    item = dict_of(item)
    revised = text_of(item.get("revised_prompt"))
    about: dict[str, Any] = {"prompt": request.prompt, "revised_prompt": revised}
    text, url = item.get("b64_json"), text_of(item.get("url"))
    if text:  # some gateways send both keys, and one of them empty
        image = made_image(text, _MIME.get(format or ""), request.response_format, row, **about)
        unnamed = image.mime_type is None and format is None
        return msgspec.structs.replace(image, mime_type=_PNG) if unnamed else image
    if url is None:
        raise row.malformed("a picture has neither data nor a URL")
    return Image(source=("url", url), **about)


def _without_picture(item: Any) -> Any:
    """The item without its image data, for `raw`: the images are in `images`, and a second copy may be megabytes."""
    return {name: value for name, value in item.items() if name != "b64_json"}


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
