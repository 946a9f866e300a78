"""What a provider says about content that may do harm.

Rule of this file: a verdict is what the provider said. A category it did not judge is absent, not clean.
"""

from __future__ import annotations

from typing import Any

import msgspec

from allm_actors.data.messages import ImagePart

__all__ = ["ModerationRequest", "ModerationResponse", "ModerationResult"]


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Content to judge: each text is an item, but if there is an image among them, all of it is one item."""

    input: list[str | ImagePart]
    model: str | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class ModerationResult(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on the item at `index`. `category_scores` are probabilities; `applied_input_types` says for each
    category which kinds of input it was judged by (`text`, `image`).
    """

    flagged: bool
    categories: dict[str, bool] = {}
    category_scores: dict[str, float] = {}
    applied_input_types: dict[str, Any] = {}
    index: int = 0


class ModerationResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict for each item."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    results: list[ModerationResult] = []
    raw: Any = None
    metadata: dict[str, Any] = {}

    def flagged(self) -> bool:
        """Whether any item was flagged."""
        return any(result.flagged for result in self.results)

    def flagged_categories(self) -> list[str]:
        """Every category that was found in any item, sorted."""
        return sorted({name for result in self.results for name, found in result.categories.items() if found})
