"""A process that records what it gets, and an event that a simulation knows of.

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

    The list is the test's, and outlives the probe and its successors. A message that can be called is not
    recorded but called with the probe, so that a test can make it `monitor`, `link` or `ask`; what that
    returns is the answer. Any other message is its own answer.
    """

    trap_exit = True

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self.heard = heard

    def on_receive(self, message: Any) -> Any:
        """Record the message, or call it."""
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
    """A `threading.Event` whose `wait` lets other processes run, on a pool as in a simulation.

    Thread: any.
    """

    def __init__(self) -> None:
        self._future: Future[None] = Future()

    def set(self) -> None:
        """Set the event, and wake all who wait for it."""
        self._future.set()

    def clear(self) -> None:
        """Reset the event: `wait` waits again."""
        if self._future.done():
            self._future = Future()

    def is_set(self) -> bool:
        """Whether the event is set."""
        return self._future.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set; False if that takes longer than `timeout` seconds."""
        try:
            self._future.get(timeout=timeout)
        except pykka.Timeout:
            return False
        return True
