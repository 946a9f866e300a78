"""What `import` costs, in time and memory, in a fresh interpreter.

    python -m benchmarks.imports [-r 7] [subject ...]

`allm_actors` loads its names at their first use; `allm.Host` loads the actors and supervision, still without HTTP; the
first request loads httpx.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks.measure import Column, Subject, arguments, measure, rss, show

__all__ = ["SUBJECTS"]


def imported(*names: str) -> dict[str, float]:
    """Import modules, or names of modules (`module:name`)."""
    memory, modules, began = rss(), len(sys.modules), time.perf_counter()
    for name in names:
        module, _, attribute = name.partition(":")
        found = importlib.import_module(module)
        if attribute:
            getattr(found, attribute)
    wall = time.perf_counter() - began
    return {"wall": wall * 1e3, "memory": (rss() - memory) / 2**20, "modules": len(sys.modules) - modules}


def subject(*names: str) -> Callable[[], dict[str, float]]:
    """The subject that imports these."""
    return partial(imported, *names)


SUBJECTS = {
    "pykka": Subject(subject("pykka")),
    "msgspec": Subject(subject("msgspec")),
    "httpx": Subject(subject("httpx")),
    "allm_actors": Subject(subject("allm_actors")),
    "supervisors": Subject(subject("supervisors")),
    "allm.Engine": Subject(subject("allm_actors:Engine")),
    "allm.Host": Subject(subject("allm_actors:Engine", "allm_actors:Host")),
    "allm.Host + httpx": Subject(subject("allm_actors:Engine", "allm_actors:Host", "httpx")),
    "openai SDK": Subject(subject("openai"), ("openai",)),
}
COLUMNS = (
    Column("wall", "ms", ratio=True),
    Column("memory", "MB", ratio=True),
    Column("modules", "modules", ".0f"),
)


if __name__ == "__main__":
    asked = arguments(__doc__, SUBJECTS)
    show("Import", COLUMNS, measure("benchmarks.imports", SUBJECTS, asked), "httpx")
