"""A program for the tests of signals: says what happens on stdout, and behaves as its first argument says."""

from __future__ import annotations

import sys
import threading
from typing import Any

from supervisors import Process, Supervisor, child
from supervisors.app import Application, Phase


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Worker(Process):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def init(self) -> None:
        if self.mode == "no start":
            raise ValueError("as told")
        if self.mode == "slow start":
            say("ready")
            threading.Event().wait()
        self.continue_()

    def handle_continue(self, arg: Any) -> None:
        say("ready")
        if self.mode == "gives up":
            raise ValueError("as told")

    def terminate(self, reason: Any) -> None:
        say("terminate", reason)
        if self.mode == "hangs":
            self.hang()

    def hang(self) -> None:
        with self.blocking():
            threading.Event().wait()


def fail() -> None:
    say("before_stop")
    raise RuntimeError("a task that fails")


def drain() -> None:
    say("drain")
    if mode == "drains for ever":
        threading.Event().wait()


mode = sys.argv[1]
if __name__ == "__main__":
    root = child(
        Supervisor,
        [child(Worker, mode).replace(shutdown=float("inf"))],
        max_restarts=0 if mode == "gives up" else 3,
    )
    phases = {
        "before_stop": [fail],
        "drain": Phase([drain], timeout=60.0 if sys.argv[2] != "0.3" else 0.05),
        "after_stop": [lambda: say("after_stop")],
    }
    code = Application(root, phases=phases, deadline=float(sys.argv[2])).run()
    say("code", code)
    sys.exit(code)
