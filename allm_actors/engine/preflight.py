"""What a catalogue says that a model cannot do, before it is asked to.

Rule of this file: a catalogue is optional. Only a model that is named by its `ModelRef` is checked, and what the
reference does not speak of is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from allm_actors.data import ImageRequest, ModelRef, ValidationError

__all__ = ["check_model"]


def check_model(model: str | ModelRef | None, request: Any) -> None:
    """Raises ValidationError (`unsupported_capability`) with everything that the model is known not to do."""
    if not (isinstance(model, ModelRef) and model.capabilities and isinstance(request, ImageRequest)):
        return
    errors = list(_images(model.capabilities, request))
    if errors:
        message = f"model {model.id!r} does not support requested image capabilities"
        raise ValidationError("unsupported_capability", errors, message=message)


def _images(capabilities: Mapping[str, Any], request: ImageRequest) -> Iterator[tuple[Any, str]]:
    if capabilities.get("images_enabled") is False:
        yield ["images_enabled"], "images_disabled"
    operations = capabilities.get("supported_image_operations")
    if isinstance(operations, list | tuple) and request.operation not in operations:
        yield ["operation"], "unsupported_image_operation"
