"""The scripted embeddings.

Rule of this file: default vectors depend on the text alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from allm_actors.data import Embedding, EmbeddingAdapterError, EmbeddingRequest, EmbeddingResponse, Usage
from allm_actors.engine.adapter import Call

from .scripted import ScriptedFake, numbered

__all__ = ["FakeEmbeddings"]


class FakeEmbeddings(ScriptedFake[EmbeddingResponse]):
    """`embed_script`; `ok` takes a list of vectors, or of `Embedding`s. Default answer: vectors of length 1
    made from the text, so that equal texts have equal vectors and texts with words in common are closer.
    Their size is the request's `dimensions` (default 16); `max_batch_size` is set in the constructor.
    """

    script = "embed_script"
    what = "embedding"
    takes = "a list of vectors"
    error = EmbeddingAdapterError
    response = EmbeddingResponse

    def __init__(self, max_batch_size: int = 2048) -> None:
        super().__init__()
        self._max_batch_size = max_batch_size

    def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResponse:
        """A vector for each input."""
        self.capture(request, call)
        if len(request.input) > self._max_batch_size:
            sizes = {"count": len(request.input), "max": self._max_batch_size}
            raise EmbeddingAdapterError("batch_too_large", provider=self.name, metadata=sizes)
        return self.answer(request, call)

    def max_batch_size(self) -> int:
        """How many inputs one call may have."""
        return self._max_batch_size

    def build(self, request: EmbeddingRequest, value: Any, fields: Mapping[str, Any]) -> EmbeddingResponse:
        """The scripted vectors, or vectors of the words."""
        if value is None:
            value = [_vector(text, request.dimensions or 16) for text in request.input]
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
            raise self.misfit(value)
        embeddings = numbered([self._embedding(each, value) for each in value])
        tokens = sum(len(text.split()) for text in request.input)
        usage = Usage(input_tokens=tokens, total_tokens=tokens)
        return EmbeddingResponse(**{"usage": usage, **fields, "embeddings": embeddings})

    def _embedding(self, given: Any, value: Any) -> Embedding:
        if isinstance(given, Embedding):
            return given
        vector: list[Any] | None = list(given) if isinstance(given, Iterable) else None
        if vector is None or not all(map(_is_real, vector)):
            raise self.misfit(value)
        return Embedding(vector=[float(number) for number in vector])


def _is_real(value: Any) -> bool:
    """Whether it is a number, NumPy's included; a bool is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _vector(text: str, dimensions: int) -> list[float]:
    """Each word has a direction made from its letters; a text is the sum of its words, at length 1."""
    total = [0.0] * dimensions
    for word in text.lower().split() or [text]:
        seed = hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
        for at in range(dimensions):
            total[at] += int.from_bytes(seed[2 * at : 2 * at + 2]) / 32767.5 - 1
    length = math.hypot(*total) or 1.0
    return [value / length for value in total]
