r"""What is wrong with a text that should be JSON, in words for the model that wrote it.

Rule of this file: pure. Of a blank text, and of an escape such as `\ud83d` without its other half, msgspec says that
the input was truncated, and the model would only write it once more.
"""

from __future__ import annotations

import re

__all__ = ["mistake_in"]

# A pair, a half, or any other escape: in this order, so that what is matched as a half has no other.
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)


def mistake_in(text: str, error: Exception) -> str:
    """Why the text is no JSON; `error` is what its decoder has raised."""
    if not text.strip():
        return "it is empty"
    half = next((found for found in _ESCAPE.finditer(text) if found[1]), None)
    if half is None or '"' not in text[half.end() :]:  # the text ends there, and the other half was to come
        return str(error)
    return f"the escape {half[1]} is half of a surrogate pair"
