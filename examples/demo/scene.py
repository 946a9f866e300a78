"""What an act works with, and how a turn is watched: printed as it happens, kept for the checks.

Rule of this file: it prints events in the order in which they came, and adds nothing to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import allm_actors as allm
from allm_actors.cli.transcript import call_text, cut
from supervisors import ProcessRef, Report

from .provider import Provider
from .stage import DoesNotHold, Stage

__all__ = ["Scene", "Seen"]


@dataclass(slots=True)
class Seen:
    """What a turn showed. `first_word` is the monotonic clock when it came; `took` is in seconds."""

    events: list[allm.Event] = field(default_factory=list)
    text: str = ""
    words: int = 0
    first_word: float = 0.0
    took: float = 0.0
    result: Any = None

    @property
    def tags(self) -> list[str]:
        """What kind of events there were."""
        return [event.tag for event in self.events]


@dataclass(slots=True)
class Scene:
    """One host with its tree, the provider it talks to, and the stage."""

    stage: Stage
    provider: Provider
    host: allm.Host
    store: Path
    engine: allm.Engine
    reports: SimpleQueue[Report] = field(default_factory=SimpleQueue)

    def watch(self, turn: Any, after_word: Callable[[int], None] = lambda _: None) -> Seen:
        """Read a turn to its end. `after_word(n)` is called when n pieces of text have been printed."""
        seen, begun = Seen(), time.monotonic()
        speaking = False
        for event in turn:
            seen.events.append(event)
            if isinstance(event, allm.TextDelta):
                if not speaking:
                    self.stage.speaker("model")
                seen.first_word = seen.first_word or time.monotonic()
                seen.text, seen.words = seen.text + event.delta, seen.words + 1
                self.stage.token(event.delta)
                after_word(seen.words)
            speaking = isinstance(event, allm.TextDelta)
            self._show(event)
        seen.took, seen.result = time.monotonic() - begun, turn.result()
        return seen

    def only_child(self, supervisor: str) -> ProcessRef[Any]:
        """The one process under a supervisor of the tree, found by the supervisor's name."""
        children = self.children(supervisor)
        if len(children) != 1:
            raise DoesNotHold(f"one process under {supervisor!r}; there are {len(children)}")
        return children[0]

    def actor_of(self, session: str) -> ProcessRef[Any]:
        """The process of a session, found by its name. Raises DoesNotHold if there is none."""
        ref = self.host.system.whereis(("sessions", session))
        if ref is None:
            raise DoesNotHold(f"a process runs the session {session!r}")
        return ref

    def children(self, supervisor: str) -> list[ProcessRef[Any]]:
        """The processes under a supervisor of the tree."""
        ref: Any = self.host.system.whereis(supervisor)
        return [child.ref for child in ref.which_children() if isinstance(child.ref, ProcessRef)]

    def await_report(self, kind: str, wanted: Callable[[Report], bool]) -> Report:
        """The next report of that kind, from the supervisors themselves. Raises DoesNotHold after ten seconds."""
        deadline = time.monotonic() + 10
        while True:
            try:
                report = self.reports.get(timeout=max(deadline - time.monotonic(), 0))
            except Empty:
                raise DoesNotHold(f"the supervisors report {kind!r} within ten seconds") from None
            if report.kind == kind and wanted(report):
                return report

    def _show(self, event: allm.Event) -> None:
        room = self.stage.width - 6
        match event:
            case allm.ToolExecutionStarted(name=name, arguments=arguments):
                self.stage.happened(cut(call_text(name, arguments), room))
            case allm.ToolExecutionCompleted(name=name, result=allm.Err(reason=reason)):
                self.stage.happened(cut(f"{name} failed: {reason}", room), mark="✗", bad=True)
            case allm.ToolResultEncoded(content=content):
                self.stage.happened(self.stage.paint(cut(content, room), "dim"), mark="↩")
            case allm.ErrorEvent(error=error):
                self.stage.happened(cut(str(error), room), mark="✗", bad=True)
            case _:
                pass
