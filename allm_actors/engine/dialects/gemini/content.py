"""Gemini's generateContent without streaming: what images and transcription have in common.

Rule of this file: pure. An option that is a field of the request itself stays at its top level; all others
belong to `generationConfig`. Our fields override them.

Source: https://ai.google.dev/api/generate-content, and recorded exchanges.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from allm_actors.data import AdapterError, Usage
from allm_actors.engine.dialects.gemini.chunks import FINISHES, usage_fields
from allm_actors.engine.dialects.gemini.request import MOST_BYTES, TOP_LEVEL, too_large
from allm_actors.engine.dialects.lenient import dict_of, dicts_of, text_of
from allm_actors.engine.dialects.refusals import json_request
from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpRequest

__all__ = ["asked", "blocked", "inline", "parts_of", "usage_of"]


def asked(
    parts: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    options: Mapping[str, Any],
    model: str,
    row: Service,
    base_url: str,
) -> HttpRequest:
    """The request that sends `parts` to `model`. Raises `invalid_request` if its files are too large together."""
    body = {name: value for name, value in options.items() if name in TOP_LEVEL}
    others = {name: value for name, value in options.items() if name not in TOP_LEVEL}
    wanted: dict[str, Any] = {**dict_of(body.get("generationConfig")), **others}
    for name, value in config.items():
        wanted[name] = {**dict_of(wanted.get(name)), **value} if isinstance(value, dict) else value
    body["contents"] = [{"role": "user", "parts": list(parts)}]
    if wanted:
        body["generationConfig"] = wanted
    name = quote(model.removeprefix("models/"), safe="")
    http = json_request(f"{base_url}/models/{name}:generateContent", body, row)
    why = too_large(http.body, row.provider.label)
    if why is not None:
        raise row.error("invalid_request", why, metadata={"count": len(http.body), "max": MOST_BYTES})
    return http


def inline(data: bytes, mime_type: str) -> dict[str, Any]:
    """A part that contains the bytes."""
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}


def parts_of(candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a candidate."""
    return dicts_of(dict_of(candidate.get("content")).get("parts"))


def blocked(wire: Mapping[str, Any], row: Service, status: int) -> AdapterError | None:
    """The `content_filter` error for an answer that was withheld, or None for any other."""
    feedback = dict_of(wire.get("promptFeedback"))
    why = text_of(feedback.get("blockReason"))
    for candidate in dicts_of(wire.get("candidates")):
        finish = text_of(candidate.get("finishReason"))
        why = why or (finish if FINISHES.get(finish or "") == "content_filter" else None)
    if why is None:
        return None
    message = f"{row.provider.label} withheld its answer ({why[:100]}): its policy refuses this content"
    return row.error("content_filter", message, status=status, metadata={"google_reason": why[:100]})


def usage_of(wire: Mapping[str, Any]) -> Usage:
    """The token usage that an answer reports, counted as in chat."""
    return Usage(**usage_fields(dict_of(wire.get("usageMetadata"))))
