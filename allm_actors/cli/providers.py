"""`allm providers`: who can be asked, and which keys are set.

Rule of this file: of a key it says whether there is one, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from allm_actors.engine.adapters import known_adapters
from allm_actors.engine.catalog import PROVIDERS, Provider

from .arguments import Options
from .terminal import Terminal

__all__ = ["perform"]


def perform(_options: Options, terminal: Terminal) -> int:
    """Print a line for each adapter."""
    rows = [_row(row, terminal.environ) for row in PROVIDERS.values()]
    rows += [(name, "", "no key", "") for name in known_adapters() if name not in PROVIDERS]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, key, state, url in rows:
        colour = {"set": ("green",), "not set": ("yellow",)}.get(state, ("dim",))
        terminal.say(
            f"{terminal.paint(name.ljust(widths[0]), 'bold')}  {key.ljust(widths[1])}  "
            f"{terminal.paint(state.ljust(widths[2]), *colour)}  {terminal.paint(url, 'dim')}".rstrip()  # type: ignore[arg-type]
        )
    return 0


def _row(row: Provider, environ: Mapping[str, str]) -> tuple[str, str, str, str]:
    held = [name for name in row.key_names if environ.get(name)]
    state = "set" if held else "not set" if row.key_required else "optional"
    url = environ.get(row.base_url_name) or row.base_url or f"--base-url URL, or {row.base_url_name}"
    return row.name, (held or list(row.key_names))[0], state, url
