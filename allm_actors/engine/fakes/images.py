"""The scripted maker of pictures.

Rule of this file: the request is shown before it is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import ImageAdapterError, ImageRequest, ImageResponse, ImageUsage
from allm_actors.engine.adapter import Call

from .scripted import ScriptedFake

__all__ = ["FakeImages"]


class FakeImages(ScriptedFake[ImageResponse]):
    """`image_script`; `ok` takes a list of `Image`. Has no pictures of its own. `supported_operations` in
    `adapter_opts` says which operations there are (default: all).
    """

    script = "image_script"
    what = "image"
    error = ImageAdapterError

    def generate(self, request: ImageRequest, call: Call) -> ImageResponse:
        """As the script says."""
        self.capture(request, call)
        operations = call.options.get("supported_operations", self.supported_operations())
        if request.operation not in operations:
            raise ImageAdapterError(
                "unsupported_operation",
                provider=self.name,
                message=f"the fake does not do {request.operation!r}; it does: {', '.join(operations)}",
                metadata={"operation": request.operation},
            )
        return self.answer(request, call)

    def supported_operations(self) -> tuple[str, ...]:
        """All there are."""
        return ("generate", "edit", "variation")

    def build(self, _request: ImageRequest, value: Any, fields: Mapping[str, Any]) -> ImageResponse:
        """The scripted pictures."""
        said = fields.get("usage") or ImageUsage()
        usage = ImageUsage(**said) if isinstance(said, Mapping) else said
        usage = msgspec.structs.replace(usage, images=len(value))
        return ImageResponse(**{**fields, "images": list(value), "usage": usage})

    def _unscripted(self) -> tuple[Any, Mapping[str, Any]]:
        raise self._used_up()
