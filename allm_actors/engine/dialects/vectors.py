"""What every format for vectors has in common: reading numbers, and checking that each text has its vector.

Rule of this file: an unusable vector is `malformed_response`: empty, with anything but finite numbers, for no
text, or a second one for the same text.

Source: https://platform.openai.com/docs/api-reference/embeddings (`encoding_format`: Base64 of little-endian float32),
https://docs.voyageai.com/reference/embeddings-api (`output_dtype`: the other numbers, which Mistral has, too).
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec

from allm_actors.data import Embedding, EmbeddingRequest, EmbeddingResponse, Usage
from allm_actors.engine.dialects.failures import provider_request_id
from allm_actors.engine.dialects.lenient import UNREADABLE, text_of
from allm_actors.engine.dialects.refusals import check_count, refusal
from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpAnswer

__all__ = ["check_texts", "embedded", "read_numbers"]

# What `output_dtype` says of the numbers in Base64, as `struct` names them.
_PACKED: Final = {"float": "f", "int8": "b", "binary": "b", "uint8": "B", "ubinary": "B"}


def check_texts(request: EmbeddingRequest, row: Service) -> None:
    """Raises `invalid_request` for an input that is no text, and as `check_count`."""
    check_count(request.input, row)
    texts: list[Any] = request.input  # the annotation is only the caller's promise
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            message = f"input {index} must be a text, got {type(text).__name__}"
            raise row.error("invalid_request", message, metadata={"field": "input", "index": index})


def read_numbers(answer: HttpAnswer, row: Service) -> dict[str, Any]:
    """The JSON object in an answer with many numbers. Raises `malformed_response`."""
    try:  # not `read_object`, which looks at every value: there may be millions
        wire = msgspec.json.decode(answer.body)
    except UNREADABLE:
        wire = None
    if not isinstance(wire, dict):
        raise row.malformed("it is not a JSON object")
    if wire.get("error"):
        raise refusal(answer, row)
    return wire


def embedded(
    vectors: Iterable[tuple[Any, Any]],
    request: EmbeddingRequest,
    row: Service,
    answer: HttpAnswer,
    wire: dict[str, Any],
    usage: Usage,
    *,
    unit: bool = False,
) -> EmbeddingResponse:
    """The response of vectors with their indices; with `unit` they get length 1. Raises `malformed_response`."""
    found: dict[int, Embedding] = {}
    dtype = request.options.get("output_dtype")
    for index, value in vectors:
        if type(index) is not int or not 0 <= index < len(request.input) or index in found:
            raise row.malformed("a vector has no index, or its index is repeated or out of range")
        embedding = Embedding(vector=_vector(value, dtype, row), index=index)
        found[index] = embedding.normalize() if unit else embedding
    if len(found) != len(request.input):
        raise row.malformed(f"it has {len(found)} vectors for {len(request.input)} inputs")
    told = provider_request_id(answer.headers)
    return EmbeddingResponse(
        id=text_of(wire.get("id")),
        model=text_of(wire.get("model")) or request.model,
        embeddings=[found[index] for index in sorted(found)],
        usage=usage,
        raw=wire,
        metadata={**request.metadata, **({"provider_request_id": told} if told else {})},
    )


def _vector(value: Any, dtype: Any, row: Service) -> list[float]:
    numbers = _unpacked(value, dtype, row) if isinstance(value, str) else value
    if not isinstance(numbers, list) or not numbers or not {type(each) for each in numbers} <= {int, float}:
        raise row.malformed("a vector is not a list of numbers")
    try:
        floats = [float(each) for each in numbers]
    except OverflowError:
        floats = [math.inf]
    if not all(map(math.isfinite, floats)):
        raise row.malformed("a vector has a number that is not finite")
    return floats


def _unpacked(text: str, dtype: Any, row: Service) -> list[float]:
    kind = _PACKED.get(dtype or "float") if isinstance(dtype, str | None) else None
    if kind is None:
        raise row.malformed(f"a vector is Base64, and its output_dtype is none of {', '.join(_PACKED)}")
    with suppress(ValueError, struct.error):
        data = base64.b64decode(text, validate=True)
        return list(struct.unpack(f"<{len(data) // struct.calcsize(f'<{kind}')}{kind}", data))
    raise row.malformed(f"a vector is not Base64 of {dtype or 'float'} numbers")
