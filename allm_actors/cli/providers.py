"""`allm providers`: which providers there are, what they can do, and which keys are set.

Rule of this file: of a key it says whether it is set, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from allm_actors.engine.adapters import broken_points, ignored_points, known_adapters, known_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.catalog import PROVIDERS, Provider
from allm_actors.engine.services import SERVICES

from .arguments import Options
from .colour import harmless
from .terminal import Terminal

__all__ = ["perform"]


def perform(_options: Options, terminal: Terminal) -> int:
    """Print a line for each adapter."""
    known = dict(PROVIDERS)
    for service in SERVICES.values():
        known.setdefault(service.provider.name, service.provider)
    able = _abilities()
    rows = [_row(row, able[row.name], terminal.environ) for row in known.values()]
    rows += [(name, "", "no key", does, "") for name, does in able.items() if name not in known]
    broken = broken_points()
    rows = [(row[0], "", "broken", row[3], "") if row[0] in broken else row for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, key, state, does, url in rows:
        colour = {"set": ("green",), "not set": ("yellow",), "broken": ("red",)}.get(state, ("dim",))
        terminal.say(
            f"{terminal.paint(name.ljust(widths[0]), 'bold')}  {key.ljust(widths[1])}  "
            f"{terminal.paint(state.ljust(widths[2]), *colour)}  {does.ljust(widths[3])}  "  # type: ignore[arg-type]
            f"{terminal.paint(url, 'dim')}".rstrip()
        )
    for trouble in [*broken.values(), *ignored_points()]:
        terminal.complain(harmless(" ".join(trouble.split())))
    return 0


def _abilities() -> Mapping[str, str]:
    """For each provider what it can do, named like the engine's slots."""
    able: dict[str, list[str]] = {name: ["chat"] for name in known_adapters()}
    for capability in CAPABILITIES.values():
        for name in known_capable(capability):
            able.setdefault(name, []).append(capability.slot.removesuffix("_adapter"))
    return {name: ",".join(does) for name, does in able.items()}


def _row(row: Provider, does: str, environ: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    held = [name for name in row.key_names if environ.get(name)]
    state = "set" if held else "not set" if row.key_required else "optional"
    url = environ.get(row.base_url_name) or row.base_url or f"--base-url URL, or {row.base_url_name}"
    return row.name, (held or list(row.key_names))[0], state, does, url
