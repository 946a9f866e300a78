"""OpenAI's moderations: content to its JSON, an answer to verdicts.

Rule of this file: pure, and nothing counts as clean by default: an answer without a readable verdict for each
item is `malformed_response`. Texts are judged one by one; if there is an image among them, the whole input is
one item.

Source: https://platform.openai.com/docs/api-reference/moderations.
"""

from __future__ import annotations

from typing import Any, Final

from allm_actors.data import (
    ImagePart,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
)
from allm_actors.engine.dialects.failures import provider_request_id
from allm_actors.engine.dialects.lenient import dict_of, number_of, text_of
from allm_actors.engine.dialects.pictures import picture_failure, picture_url
from allm_actors.engine.dialects.refusals import answered_object, check_count, json_request, refusal
from allm_actors.engine.mismatch import items_of
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]


def encode(request: ModerationRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    check_count(request.input, row)
    mixed = any(isinstance(value, ImagePart) for value in request.input)
    items = [_item(value, index, row) if mixed else value for index, value in enumerate(request.input)]
    body: dict[str, Any] = {**request.options, "input": items}
    if request.model is not None:
        body["model"] = request.model
    return json_request(f"{base_url}/moderations", body, row)


def decode(answer: HttpAnswer, request: ModerationRequest, row: Service) -> ModerationResponse:
    """See `ServiceDialect.decode`."""
    wire = answered_object(answer, row)
    items = wire.get("results")
    wanted = items_of(request)
    if not isinstance(items, list) or len(items) != wanted:
        raise row.malformed(f"it has no list of {wanted} verdicts")
    told = provider_request_id(answer.headers)
    return ModerationResponse(
        id=text_of(wire.get("id")),
        model=text_of(wire.get("model")) or request.model,
        results=[_verdict(item, index, row) for index, item in enumerate(items)],
        raw=wire,
        metadata={**request.metadata, **({"provider_request_id": told} if told else {})},
    )


def _item(value: str | ImagePart, index: int, row: Service) -> dict[str, Any]:
    if isinstance(value, str):
        return {"type": "text", "text": value}
    why = picture_failure(value.image)
    if why is not None:
        message = f"the picture at {index} of input cannot be sent: {why}"
        metadata = {"index": index, "image_error": why}
        raise row.error("invalid_request", message, metadata=metadata)
    return {"type": "image_url", "image_url": {"url": picture_url(value.image)}}


def _verdict(item: Any, index: int, row: Service) -> ModerationResult:
    item = dict_of(item)
    flagged = item.get("flagged")
    if not isinstance(flagged, bool):
        raise row.malformed(f"the verdict at {index} does not say whether it is flagged")
    found = dict_of(item.get("categories"))
    judged = {name: value for name, value in found.items() if isinstance(value, bool)}
    scores = {name: number_of(value) for name, value in dict_of(item.get("category_scores")).items()}
    return ModerationResult(
        flagged=flagged,
        categories=judged,
        category_scores={name: it for name, it in scores.items() if it is not None and name in judged},
        applied_input_types=dict_of(item.get("category_applied_input_types")),
        index=index,
    )


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
