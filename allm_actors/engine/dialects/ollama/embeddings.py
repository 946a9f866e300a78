"""Ollama's embed: a request to its JSON, an answer to vectors.

Rule of this file: pure. Options that are not fields of the wire request are model parameters, as in chat.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md (generate embeddings).
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

_FIELDS: Final = frozenset({"model", "input", "truncate", "dimensions", "keep_alive", "options"})


def encode(request: EmbeddingRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    check_texts(request, row)
    given = request.options
    body: dict[str, Any] = {name: value for name, value in given.items() if name in _FIELDS}
    options = {name: value for name, value in given.items() if name not in _FIELDS}
    if options:
        body["options"] = {**options, **dict_of(given.get("options"))}
    body["input"] = request.input
    if request.model is not None:
        body["model"] = request.model
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if not request.truncate:
        body["truncate"] = False
    return json_request(f"{base_url}/api/embed", body, row)


def decode(answer: HttpAnswer, request: EmbeddingRequest, row: Service) -> EmbeddingResponse:
    """See `ServiceDialect.decode`."""
    wire = read_numbers(answer, row)
    vectors = wire.get("embeddings")
    if not isinstance(vectors, list):
        raise row.malformed("it has no list of vectors")
    count = count_of(wire.get("prompt_eval_count"))
    usage = Usage(input_tokens=count, total_tokens=count)
    return embedded(enumerate(vectors), request, row, answer, wire, usage)


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
