"""What all of Gemini's requests have in common: which fields are at the top level, and how large one may be.

Rule of this file: pure. The size of a request is that of its body, where Base64 is a third more than the
bytes.

Source: https://ai.google.dev/api/generate-content; `google/genai/models.py` of google-genai 3.6.1;
https://blog.google/innovation-and-ai/technology/developers-tools/gemini-api-new-file-limits (12 January 2026: 100 MB,
as Base64, where it was 20).
"""

from __future__ import annotations

from typing import Final

__all__ = ["MOST_BYTES", "TOP_LEVEL", "too_large"]

TOP_LEVEL: Final = frozenset(
    (
        *("contents", "tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig"),
        *("cachedContent", "labels", "modelArmorConfig", "continuationToken", "serviceTier", "store"),
    )
)
"""The top-level fields of a request; everything else belongs to `generationConfig`."""

MOST_BYTES: Final = 100_000_000
"""How large a request with files in it may be, in bytes."""


def too_large(body: bytes, label: str) -> str | None:
    """Why a request cannot be sent because of the files in it, or None."""
    if len(body) <= MOST_BYTES or b'"inlineData"' not in body:
        return None
    return (
        f"{label} takes at most {MOST_BYTES // 1_000_000} MB in a request with files, and this one has "
        f"{len(body) / 1e6:.1f} MB; send fewer or smaller files, or documents by their URL, with "
        "Document.from_url"
    )
