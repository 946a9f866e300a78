"""What programs need that turn this package into a part of one executable.

PyInstaller finds `hook-allm_actors.py` beside this by the entry point `pyinstaller40`.
Source: https://pyinstaller.org/en/stable/hooks.html#providing-pyinstaller-hooks-with-your-package
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["hook_dirs"]


def hook_dirs() -> list[str]:
    """The folder of the hooks for PyInstaller."""
    return [str(Path(__file__).parent)]
