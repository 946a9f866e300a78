"""The examples of supervision run, and assert what they show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAMS = sorted((ROOT / "examples/supervision").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_the_example_runs(program):
    ended = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ended.returncode, ended.stderr) == (0, "")


AT_EXIT = """
import atexit, threading
from supervisors import Flags, Process, Supervisor, System

class Worker(Process):
    trap_exit = True
    def terminate(self, reason):
        print("terminate", reason)

class Tree(Supervisor):
    def init(self):
        return Flags(), [Worker]

def stop():
    def refused(_thread):  # what Python says from 3.12 on, or just when it feels like it
        raise RuntimeError("can't create new thread at interpreter shutdown")
    threading.Thread.start = refused
    system.stop()

system = System()
atexit.register(stop)
with system.activated():
    Tree.start()
"""


def test_a_tree_can_be_stopped_while_the_interpreter_exits():
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "terminate SHUTDOWN\n", "")
