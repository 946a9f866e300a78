"""The short selection: one or two rounds of everything, in about a minute."""

import subprocess
import sys

from benchmarks.measure import ROOT

PROCESSES = tuple(
    f"{table}, {runtime}"
    for table in ("tell 1", "ask 5000", "restart 1000", "storm 1000")
    for runtime in ("pool", "pykka", "Erlang")
)
SHORT = (
    ("imports", "-r", "3"),
    ("idle_sessions", "-r", "1", "memory, loop", "SQLite, loop"),
    ("loop", "-r", "1"),
    ("hops", "-r", "1", "same thread", "to a pool", "to a thread"),
    ("processes", "-r", "1", *PROCESSES),
    ("streams", "-r", "1", "-n", "1,50"),
)

if __name__ == "__main__":
    print("Short and on whatever machine this is: read ratios, not figures. See benchmarks/README.md.")
    for name, *options in SHORT:
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, check=True)
