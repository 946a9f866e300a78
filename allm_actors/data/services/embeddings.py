"""Texts as vectors.

Rule of this file: an embedding knows which input it belongs to, so their order in a response means nothing.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from allm_actors.data.responses import Usage

__all__ = ["Embedding", "EmbeddingRequest", "EmbeddingResponse", "TaskType"]

TaskType = Literal["search_document", "search_query", "classification", "clustering", "similarity"]


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed. `task_type` says what the vectors are for, if the provider distinguishes that; with
    `truncate` off, a text that is too long is an error.
    """

    input: list[str]
    model: str | None = None
    dimensions: int | None = None
    task_type: TaskType | None = None
    truncate: bool = True
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of the input at `index`."""

    vector: list[float]
    index: int = 0

    def magnitude(self) -> float:
        """Its Euclidean length."""
        return math.hypot(*self.vector)

    def normalize(self) -> Embedding:
        """The same direction with length 1; a zero vector stays what it is."""
        length = self.magnitude()
        if length == 0:
            return self
        return msgspec.structs.replace(self, vector=[value / length for value in self.vector])


class EmbeddingResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A vector for each input."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    embeddings: list[Embedding] = []
    usage: Usage = msgspec.field(default_factory=Usage)
    raw: Any = None
    metadata: dict[str, Any] = {}

    def vectors(self) -> list[list[float]]:
        """The vectors in the order of the inputs."""
        return [each.vector for each in sorted(self.embeddings, key=lambda each: each.index)]

    def dimensions(self) -> int | None:
        """How many numbers a vector has, or None without any vector."""
        return len(self.embeddings[0].vector) if self.embeddings else None
