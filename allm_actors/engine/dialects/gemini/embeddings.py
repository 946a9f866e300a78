"""Gemini's batchEmbedContents: a request to its JSON, an answer to vectors.

Rule of this file: pure. Each text is a request of its own in one call; `options` are part of each, and our
fields override them. Vectors that were cut to fewer dimensions do not have length 1 (about 0.585 at 768), and
are normalized.

Source: https://ai.google.dev/api/embeddings, and recorded exchanges.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from allm_actors.data import EmbeddingRequest, EmbeddingResponse, Usage
from allm_actors.engine.dialects.lenient import count_of, dict_of
from allm_actors.engine.dialects.refusals import json_request, refusal
from allm_actors.engine.dialects.vectors import check_texts, embedded, read_numbers
from allm_actors.engine.services import Service, ServiceDialect
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["DIALECT"]

_FULL = 3072
_TASKS: Final = {
    "search_document": "RETRIEVAL_DOCUMENT",
    "search_query": "RETRIEVAL_QUERY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
    "similarity": "SEMANTIC_SIMILARITY",
}


def encode(request: EmbeddingRequest, row: Service, base_url: str) -> HttpRequest:
    """See `ServiceDialect.encode`."""
    check_texts(request, row)
    if not request.model:
        message = (
            "no model is named: use Engine(embed_adapter='gemini:…'), embed_model=, or model= of the call"
        )
        raise row.error("invalid_request", message, metadata={"field": "model"})
    model = request.model.removeprefix("models/")
    common: dict[str, Any] = {**request.options, "model": f"models/{model}"}
    if request.dimensions is not None:
        common["outputDimensionality"] = request.dimensions
    if request.task_type is not None:
        common["taskType"] = _task(request, row)
    if not request.truncate:
        common["embedContentConfig"] = {
            **dict_of(common.get("embedContentConfig")),
            "autoTruncate": False,
        }
    requests = [{**common, "content": {"parts": [{"text": text}]}} for text in request.input]
    url = f"{base_url}/models/{quote(model, safe='')}:batchEmbedContents"
    return json_request(url, {"requests": requests}, row)


def decode(answer: HttpAnswer, request: EmbeddingRequest, row: Service) -> EmbeddingResponse:
    """See `ServiceDialect.decode`."""
    wire = read_numbers(answer, row)
    items = wire.get("embeddings")
    if not isinstance(items, list):
        raise row.malformed("it has no list of vectors")
    vectors = [(index, dict_of(item).get("values")) for index, item in enumerate(items)]
    count = count_of(dict_of(wire.get("usageMetadata")).get("promptTokenCount"))
    usage = Usage(input_tokens=count, total_tokens=count)
    cut = request.dimensions not in (None, _FULL)
    return embedded(vectors, request, row, answer, wire, usage, unit=cut)


def _task(request: EmbeddingRequest, row: Service) -> str:
    task: Any = request.task_type  # the annotation is only the caller's promise
    if not isinstance(task, str) or task not in _TASKS:
        message = f"task_type must be one of {', '.join(_TASKS)}, got: {task!r}"
        raise row.error("invalid_request", message, metadata={"field": "task_type"})
    return _TASKS[task]


DIALECT: Final = ServiceDialect(encode=encode, decode=decode, decode_error=refusal)
