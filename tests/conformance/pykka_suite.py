"""Run the tests of the installed Pykka over our dispatchers: `make pykka-suite`. Needs the network.

The rule of this file: Pykka's tests come from its own source distribution, into a directory that is removed afterwards.
What they run on is `pykka_runtime.py`.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DISPATCHERS = ("thread", "pool", *(f"simulation with seed {seed}" for seed in range(8)))


def fetch(into: Path) -> Path:
    """The unpacked source distribution of the installed version."""
    wanted = f"pykka=={version('pykka')}"
    download = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    subprocess.run([*download, "--no-binary", ":all:", "--dest", into, wanted], check=True)
    with tarfile.open(next(into.glob("pykka-*.tar.gz"))) as archive:
        archive.extractall(into, filter="data")
    return next(path for path in into.glob("pykka-*") if path.is_dir())


def run(source: Path, dispatcher: str) -> int:
    """The exit code of the suite on one dispatcher."""
    sys.stdout.write(f"Pykka {version('pykka')} on {dispatcher}\n")
    sys.stdout.flush()
    environment = {
        **os.environ,
        "DISPATCHER": dispatcher,
        "PYTHONPATH": os.pathsep.join(map(str, (source, HERE, ROOT))),
    }
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", "tests"]
    return subprocess.run(pytest, cwd=source, env=environment, check=False).returncode


def main() -> int:
    """Whether any of the runs failed."""
    with tempfile.TemporaryDirectory() as directory:
        source = fetch(Path(directory))
        with (source / "tests/conftest.py").open("a") as conftest:
            conftest.write("\n\nfrom pykka_runtime import *\n")
        return max([run(source, dispatcher) for dispatcher in DISPATCHERS])


if __name__ == "__main__":
    sys.exit(main())
