"""The scripted images.

Rule of this file: the request is captured before it is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import Image, ImageAdapterError, ImageRequest, ImageResponse, ImageUsage
from allm_actors.engine.adapter import Call

from .scripted import ScriptedFake

__all__ = ["FakeImages"]


class FakeImages(ScriptedFake[ImageResponse]):
    """`image_script`; `ok` takes a list of `Image`. Has no default answer. `supported_operations` in
    `adapter_opts` says which operations there are (default: all).
    """

    script = "image_script"
    what = "image"
    takes = "a list of Image"
    error = ImageAdapterError
    response = ImageResponse
    usage = ImageUsage

    def generate(self, request: ImageRequest, call: Call) -> ImageResponse:
        """As the script says."""
        self.capture(request, call)
        operations = call.options.get("supported_operations", self.supported_operations())
        if request.operation not in operations:
            raise ImageAdapterError(
                "unsupported_operation",
                provider=self.name,
                message=(
                    f"the fake does not support {request.operation!r}; it supports: {', '.join(operations)}"
                ),
                metadata={"operation": request.operation},
            )
        return self.answer(request, call)

    def supported_operations(self) -> tuple[str, ...]:
        """All there are."""
        return ("generate", "edit", "variation")

    def whole(
        self, request: ImageRequest, call: Call, value: Any, fields: Mapping[str, Any]
    ) -> ImageResponse:
        """The response, with the number of images in its usage unless a whole response has it already."""
        response = super().whole(request, call, value, fields)
        images = response.usage.images or len(response.images)
        return msgspec.structs.replace(response, usage=msgspec.structs.replace(response.usage, images=images))

    def build(self, _request: ImageRequest, value: Any, fields: Mapping[str, Any]) -> ImageResponse:
        """The scripted pictures."""
        images = self.items(value, Image)
        usage = msgspec.structs.replace(fields.get("usage", ImageUsage()), images=len(images))
        return ImageResponse(**{**fields, "images": images, "usage": usage})

    def _unscripted(self) -> tuple[Any, Mapping[str, Any]]:
        raise self._used_up([])
