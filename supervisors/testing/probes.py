"""Processes that record what they get, and events that a simulation knows of.

The rule of this file: all of it works in simulations and in real systems alike.
"""

from __future__ import annotations

from typing import Any

import pykka

from supervisors.process import Down, ExitMsg, Process
from supervisors.runtime.future import Future

__all__ = ["Event", "Probe"]


class Probe(Process):
    """Appends to `heard` whatever reaches it: messages, exits, DOWNs, and the outcomes of its spawns.

        heard = []
        probe = Probe.start(heard)

    A list of the test's own outlives the probe, and its successors. A message that can be called is called with the
    process instead, so that a test can make it `monitor`, `link` or `ask`; other messages are answered with
    themselves.
    """

    trap_exit = True

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self.heard = heard

    def on_receive(self, message: Any) -> Any:
        """Record it, or do it."""
        if callable(message):
            return message(self)
        self.heard.append(message)
        return message

    def handle_exit(self, exit: ExitMsg) -> None:
        """Record it."""
        self.heard.append(exit)

    def handle_down(self, down: Down) -> None:
        """Record it."""
        self.heard.append(down)

    def handle_system(self, signal: Any) -> None:
        """Record it."""
        self.heard.append(signal)


class Event:
    """`threading.Event`, for tests: whoever waits lets others go on, on a pool as in a simulation.

    Thread: any.
    """

    def __init__(self) -> None:
        self._future: Future[None] = Future()

    def set(self) -> None:
        """It has happened."""
        self._future.set()

    def clear(self) -> None:
        """It is still to happen, again."""
        if self._future.done():
            self._future = Future()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._future.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; False if it takes longer than `timeout` seconds."""
        try:
            self._future.get(timeout=timeout)
        except pykka.Timeout:
            return False
        return True
