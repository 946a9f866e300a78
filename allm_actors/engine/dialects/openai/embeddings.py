"""OpenAI's embeddings, and those of servers with the same format: a request to its JSON, an answer to vectors.

Rule of this file: pure. Which of these fields a server has, and under which names, is in the row's `vectors`.

    ours            on the wire
    dimensions      dimensions, or output_dimension
    task_type       input_type, if there is one; otherwise nothing
    truncate=False  truncation: false, if there is one; otherwise nothing
    options         unchanged; the fields above override them

Source: https://platform.openai.com/docs/api-reference/embeddings, https://docs.voyageai.com/reference/embeddings-api,
https://docs.mistral.ai/api/endpoint/embeddings, and recorded exchanges.
"""

from __future__ import annotations

from typing import Any, Final

from allm_actors.data import EmbeddingRequest, EmbeddingResponse, Usage
from allm_actors.engine.dialects.lenient import count_of, dict_of, dicts_of
from allm_actors.engine.dialects.refusals import json_request, refusal
from allm_actors.engine.dialects.vectors import check_texts, embedded, read_numbers
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]


def encode(request: EmbeddingRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    check_texts(request, row)
    names = row.vectors
    if request.dimensions is not None and request.model in names.fixed:
        message = (
            f"the vectors of {request.model} have a fixed length; leave dimensions out, or use another model"
        )
        raise row.error("unsupported_feature", message, metadata={"field": "dimensions"})
    body: dict[str, Any] = {**request.options, "input": request.input}
    if request.model is not None:
        body["model"] = request.model
    if request.dimensions is not None:
        body[names.dimensions] = request.dimensions
    task = names.task_types.get(request.task_type or "")
    if names.task_field is not None and task is not None:
        body[names.task_field] = task
    if names.truncation and not request.truncate:
        body["truncation"] = False
    return json_request(f"{base_url}/embeddings", body, row, accept="application/json")


def decode(answer: HttpAnswer, request: EmbeddingRequest, row: Service) -> EmbeddingResponse:
    """See `ServiceDialect.decode`."""
    wire = read_numbers(answer, row)
    if not isinstance(wire.get("data"), list):
        raise row.malformed("it has no list of vectors")
    vectors = [(item.get("index"), item.get("embedding")) for item in dicts_of(wire["data"])]
    counts = dict_of(wire.get("usage"))
    usage = Usage(
        input_tokens=count_of(counts.get("prompt_tokens")),
        total_tokens=count_of(counts.get("total_tokens")),
    )
    return embedded(vectors, request, row, answer, wire, usage)


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
