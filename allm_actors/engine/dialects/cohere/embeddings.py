"""Cohere's embed, version 2: a request to its JSON, an answer to vectors.

Rule of this file: pure. The format requires an input type: that of documents to be searched, unless
`task_type` says otherwise; it has none for `similarity`. `options` are part of the request; our fields
override them.

Source: https://docs.cohere.com/reference/embed, and a recorded exchange.
"""

from __future__ import annotations

from typing import Any, Final

from allm_actors.data import EmbeddingRequest, EmbeddingResponse, Usage
from allm_actors.engine.dialects.lenient import count_of, dict_of
from allm_actors.engine.dialects.refusals import json_request, refusal
from allm_actors.engine.dialects.vectors import check_texts, embedded, read_numbers
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_DEFAULT_TASK = "search_document"
_TASKS: Final = frozenset({"search_document", "search_query", "classification", "clustering"})


def encode(request: EmbeddingRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    check_texts(request, row)
    body: dict[str, Any] = {
        "input_type": _DEFAULT_TASK,
        **request.options,
        "texts": request.input,
        "embedding_types": ["float"],
    }
    if request.model is not None:
        body["model"] = request.model
    if request.task_type in _TASKS:
        body["input_type"] = request.task_type
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    if not request.truncate:
        body["truncate"] = "NONE"
    return json_request(f"{base_url}/v2/embed", body, row, accept="application/json")


def decode(answer: HttpAnswer, request: EmbeddingRequest, row: Service) -> EmbeddingResponse:
    """See `ServiceDialect.decode`."""
    wire = read_numbers(answer, row)
    vectors = dict_of(wire.get("embeddings")).get("float")
    if not isinstance(vectors, list):
        raise row.malformed("it has no list of vectors")
    count = count_of(dict_of(dict_of(wire.get("meta")).get("billed_units")).get("input_tokens"))
    usage = Usage(input_tokens=count, total_tokens=count)
    return embedded(enumerate(vectors), request, row, answer, wire, usage)


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
