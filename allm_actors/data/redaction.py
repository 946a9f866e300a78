"""Texts without what looks like a key.

Rule of this file: it errs on the side of silence. A word that only looks like a key is worth less than a key.
"""

from __future__ import annotations

import re

__all__ = ["redact"]

_KEYS = re.compile(
    r"\b(?:sk|rk|pk|org|proj|gsk|csk|xai|tgp|tvly|pa|hf)[-_][A-Za-z0-9_\-*.]{6,}"
    r"|\bAIza[A-Za-z0-9_\-]{6,}|\bya29\.[A-Za-z0-9_\-.]{6,}|(?i:\bbearer\s+)[A-Za-z0-9_\-.=+/*]{6,}"
)


def redact(text: str) -> str:
    """`text` without anything that looks like a key."""
    return _KEYS.sub("[REDACTED]", text)
