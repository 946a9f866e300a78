"""A call leaves nothing for the garbage collector, whose pauses a daemon of many sessions would feel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("door", ["chat", "aio", "host", "http"])
def test_a_call_leaves_no_circle_behind(door):
    command = [sys.executable, "-m", "tests.integration.circles", door]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("{}", 0), done.stderr
