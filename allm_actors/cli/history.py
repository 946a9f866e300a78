"""The lines typed so far, kept between runs where the platform has readline.

Rule of this file: a history that cannot be read or kept is no reason to fail.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Self

__all__ = ["History"]

_LINES = 1000


class History:
    """A block with the history of earlier runs loaded; at its end the new lines are saved to the file."""

    def __init__(self, path: Path, wanted: bool) -> None:
        self._path = path
        self._readline: Any = _readline() if wanted else None

    def __enter__(self) -> Self:
        if self._readline is not None:
            self._readline.set_history_length(_LINES)
            with contextlib.suppress(OSError):
                self._readline.read_history_file(self._path)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._readline is not None:
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._readline.write_history_file(self._path)
                self._path.chmod(0o600)


def _readline() -> Any:
    try:
        import readline
    except ImportError:
        return None
    return readline
