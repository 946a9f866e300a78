"""What all of Gemini's requests have in common: which fields are the request's own, and how large one may be.

Rule of this file: pure. A request is as large as what is sent: Base64 is a third more than the bytes.

Source: https://ai.google.dev/api/generate-content, and its guide to the input of files.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MOST_BYTES", "TOP_LEVEL", "too_large"]

TOP_LEVEL: Final = frozenset(
    (
        *("contents", "tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig"),
        *("cachedContent", "labels", "modelArmorConfig"),
    )
)
"""The fields of a request; everything else belongs to `generationConfig`."""

MOST_BYTES: Final = 20 * 1024 * 1024
"""How large a request with files in it may be, in bytes."""

_MIB = 1024 * 1024


def too_large(body: bytes, label: str) -> str | None:
    """Why a request cannot be sent because of the files in it, or None."""
    if len(body) <= MOST_BYTES or b'"inlineData"' not in body:
        return None
    return (
        f"{label} takes no more than {MOST_BYTES // _MIB} MiB with files in it, and this request has "
        f"{len(body) / _MIB:.1f} MiB: send fewer or smaller ones, or documents by their URL, with Document.from_url"
    )
