"""What a model is known not to do, said before it is asked.

Rule of this file: pure, and only what is known counts: without a `ModelRef`, or where it is silent, everything is
allowed. All refusals are listed at once.

    the request has                the model's capabilities say       refusal
    -----------------------------  ---------------------------------  ----------------------------------------
    tools                          {"tools": {"enabled": False}}      ["tools"]: tools_disabled
    a json_schema response_format  {"json_native": False}             ["response_format"]: json_native_disabled
    a picture                      {"vision": False}                  ["vision"]: vision_disabled
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import EngineError, ImagePart, ModelRef, Request, ValidationError

__all__ = ["check_capabilities", "with_finalize"]


def check_capabilities(model: ModelRef | None, request: Request) -> None:
    """Raises `ValidationError("unsupported_capability")` for what the model is known not to do."""
    if model is None:
        return
    able = model.capabilities or {}
    refused: list[tuple[Any, str]] = []
    if request.tools and _says_no(able.get("tools"), "enabled"):
        refused.append((["tools"], "tools_disabled"))
    if _wants_schema(request.response_format) and _says_no(able.get("json_native"), "enabled"):
        refused.append((["response_format"], "json_native_disabled"))
    if _says_no(able.get("vision"), "enabled") and _has_picture(request):
        refused.append((["vision"], "vision_disabled"))
    if refused:
        codes = ", ".join(code for _, code in refused)
        message = f"model does not support requested capabilities: {codes} ({model.id}); ask another model, or for less"
        raise ValidationError("unsupported_capability", refused, message=message)


def with_finalize(adapter: Any, request: Request) -> Request:
    """The request, marked for a structured answer of its own where the adapter says that it needs that.

    Raises `EngineError("invalid_engine")` for an adapter that cannot say.
    """
    ask = getattr(adapter, "requires_structured_finalize", None)
    if ask is None or request.structured_finalize:
        return request
    try:
        needed = ask(request)
    except Exception as error:
        name = getattr(adapter, "name", adapter)
        message = (
            f"the adapter {name!r} failed at requires_structured_finalize: {type(error).__name__}: {error}"
        )
        raise EngineError("invalid_engine", message=message) from error
    return msgspec.structs.replace(request, structured_finalize=True) if needed else request


def _says_no(capability: Any, key: str) -> bool:
    """Whether it is switched off: False itself, or a mapping that says so."""
    return capability is False or (isinstance(capability, Mapping) and capability.get(key) is False)


def _wants_schema(wanted: Any) -> bool:
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"


def _has_picture(request: Request) -> bool:
    return any(isinstance(part, ImagePart) for message in request.messages for part in message.parts())
