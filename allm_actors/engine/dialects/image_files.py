"""Images that are sent to be edited, and those that come back.

Rule of this file: a local file is read here, when the request is made. A URL is never fetched here;
`engine.remote.fetching` has done so before, where that is allowed.
"""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from typing import Any, Final

from allm_actors.data import Image, ImageRequest
from allm_actors.engine.dialects.refusals import media_bytes
from allm_actors.engine.services import Service

__all__ = ["check_operation", "check_pictures_given", "made_image", "picture_bytes"]

_BEGINNINGS: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)


def check_operation(request: ImageRequest, model: str | None, operations: Any, row: Service) -> None:
    """Raises `unsupported_operation` unless the request's operation is among `operations`."""
    if request.operation in operations:
        return
    there = ", ".join(sorted(operations))
    whose = f"{row.provider.label}'s {model}" if model else row.provider.label
    message = f"{whose} has no operation {request.operation!r}; it has: {there}"
    metadata = {"operation": request.operation, "model": model}
    raise row.error("unsupported_operation", message, metadata=metadata)


def check_pictures_given(request: ImageRequest, row: Service) -> None:
    """Raises `invalid_request` for an edit or a variation without an image."""
    if request.operation != "generate" and not request.input_images:
        message = f"{request.operation} needs a picture in input_images; see edit_image and image_variations"
        raise row.error("invalid_request", message, metadata={"field": "input_images"})


def picture_bytes(image: Image, field: str, row: Service) -> bytes:
    """The bytes of an image to send. Raises `invalid_request` if they cannot be read."""
    return media_bytes(image, f"the picture in {field}", row, field=field, cause="unresolvable_image")


def made_image(text: Any, mime_type: str | None, wanted: str, row: Service, **about: Any) -> Image:
    """The image in Base64 `text`, as bytes, or undecoded if `wanted` is `base64`. Raises `malformed_response`.

    Without a `mime_type` it has the one that its first bytes show, or None.
    """
    with suppress(ValueError, TypeError):
        data = base64.b64decode(text, validate=True)
        source: Any = ("base64", text) if wanted == "base64" else ("binary", data)
        return Image(source=source, mime_type=mime_type or _shown(data), **about)
    raise row.malformed("a picture is not Base64")


def _shown(data: bytes) -> str | None:
    return next((kind for begins, kind in _BEGINNINGS if begins.match(data)), None)
