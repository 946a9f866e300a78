"""How everything here is measured.

Rule of this file: a subject is a function that returns numbers, and it runs in a process of its own, pinned to one CPU.
Subjects take turns, so that the machine's noise hits them all; what is shown is the median and the spread, and the
ratio to one of the subjects of the same run.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "CLIENT_CPU",
    "SERVER_CPU",
    "Column",
    "Subject",
    "arguments",
    "cpu",
    "measure",
    "percentile",
    "pin",
    "rss",
    "settled_rss",
    "show",
    "starved",
    "threads",
]

Numbers = Mapping[str, float]
Samples = Mapping[str, Sequence[Numbers]]

CLIENT_CPU, SERVER_CPU = 0, 1
ROOT = Path(__file__).parents[1]
TIMEOUT = 300.0  # seconds that one subject may take


@dataclass(frozen=True)
class Subject:
    """`run(**settings)` returns numbers. `needs` are modules, and `programs`, without which it is skipped."""

    run: Callable[..., Numbers]
    needs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One number of a table. `ratio` shows it as a multiple of the reference subject's as well."""

    key: str
    title: str
    format: str = ",.1f"
    ratio: bool = False


# What a subject reads.


def cpu() -> float:
    """CPU seconds of this process so far, all threads, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def starved() -> float:
    """Seconds that this process's threads were ready to run and had no CPU."""
    waited = 0
    for thread in Path("/proc/self/task").iterdir():
        waited += int((thread / "schedstat").read_text().split()[1])
    return waited / 1e9


def rss() -> int:
    """Bytes of this process that are resident now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def settled_rss() -> int:
    """As `rss`, when garbage is collected and free memory given back."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return rss()


def threads() -> int:
    """Threads of this process as the kernel counts them."""
    return len(list(Path("/proc/self/task").iterdir()))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def pin(number: int) -> None:
    """Keep this process on one CPU, where that can be done and there are two."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        with suppress(OSError):  # a container may allow us other ones only
            os.sched_setaffinity(0, {number})


# Who runs a subject.


def arguments(
    doc: str | None, subjects: Iterable[str], more: Mapping[str, Mapping[str, Any]] | None = None
) -> argparse.Namespace:
    """The command line of a benchmark: `-r` rounds, names of subjects, and `more` options of its own."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(subjects))
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    for flag, options in (more or {}).items():
        parser.add_argument(flag, **options)
    return parser.parse_args()


def measure(
    module: str,
    subjects: Mapping[str, Subject],
    asked: argparse.Namespace,
    *,
    pinned: bool = True,
    **settings: Any,
) -> Samples:
    """Run the asked subjects round-robin, each in a process of its own, and collect what they return.

    In that process this same call runs the subject, prints its numbers and exits. It is `pinned` to one CPU.
    """
    if asked.in_process:
        order = json.loads(asked.in_process)
        if order["pinned"]:
            pin(CLIENT_CPU)
        numbers = subjects[order["subject"]].run(**order["settings"])
        print(json.dumps(dict(numbers)), flush=True)
        os._exit(0)  # what is left running is nobody's business any more
    chosen = _installed(subjects, asked.subjects or list(subjects))
    samples: dict[str, list[Numbers]] = {name: [] for name in chosen}
    for _ in range(asked.rounds):
        for name in chosen:
            numbers_or_none = _in_fresh_process(module, name, settings, pinned=pinned)
            if numbers_or_none is not None:
                samples[name].append(numbers_or_none)
    return {name: numbers for name, numbers in samples.items() if numbers}


def show(title: str, columns: Sequence[Column], samples: Samples, reference: str | None = None) -> None:
    """Print a Markdown table: medians with [min .. max], and ratios to `reference` where a column asks for them."""
    print(f"\n### {title}\n")
    known = [column for column in columns if any(column.key in each[0] for each in samples.values())]
    heads = [head for column in known for head in _heads(column, reference if reference in samples else None)]
    print(f"| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for name, numbers in samples.items():
        cells = [cell for column in known for cell in _cells(column, numbers, samples.get(reference or ""))]
        print(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.flush()


# Private: in order of use.


def _installed(subjects: Mapping[str, Subject], names: Iterable[str]) -> list[str]:
    chosen = []
    for name in names:
        if name not in subjects:
            sys.exit(f"no subject {name!r}; there are: {', '.join(subjects)}")
        missing = [need for need in subjects[name].needs if not _is_there(need)]
        absent = [program for program in subjects[name].programs if shutil.which(program) is None]
        if missing:
            print(f"skipped: {name} needs {', '.join(missing)} (see benchmarks/README.md)")
        elif absent:
            print(f"skipped: {name} needs {', '.join(absent)} on the PATH")
        else:
            chosen.append(name)
    return chosen


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


def _in_fresh_process(module: str, name: str, settings: Mapping[str, Any], *, pinned: bool) -> Numbers | None:
    order = json.dumps({"subject": name, "settings": settings, "pinned": pinned})
    command = [sys.executable, "-m", module, "--in-process", order]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT, check=True)
    except subprocess.CalledProcessError as error:
        print(f"failed: {name}\n{error.stderr[-2000:]}", file=sys.stderr)
        return None
    except subprocess.TimeoutExpired:
        print(f"failed: {name} took longer than {TIMEOUT:g} s", file=sys.stderr)
        return None
    numbers: Numbers = json.loads(done.stdout.strip().splitlines()[-1])
    return numbers


def _heads(column: Column, reference: str | None) -> list[str]:
    return [column.title, f"× {reference}"] if column.ratio and reference else [column.title]


def _cells(column: Column, numbers: Sequence[Numbers], reference: Sequence[Numbers] | None) -> list[str]:
    values = [each[column.key] for each in numbers if column.key in each]
    compared = column.ratio and reference is not None
    if not values:
        return ["–", "–"] if compared else ["–"]
    middle = statistics.median(values)
    spread = f" [{min(values):{column.format}} .. {max(values):{column.format}}]" if len(values) > 1 else ""
    cells = [f"{middle:{column.format}}{spread}"]
    if compared and reference is not None:
        base = [each[column.key] for each in reference if column.key in each]
        cells.append(f"{middle / statistics.median(base):.2f}" if base else "–")
    return cells
