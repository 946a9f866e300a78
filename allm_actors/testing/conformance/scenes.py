"""What a provider does in one law, and where the law finds it.

Rule of this file: a scene says what happens, never how; whoever implements `stage` makes it happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as ThreadEvent
from typing import Any, Literal

from allm_actors.engine.engine import Engine

__all__ = ["QUESTION", "REQUEST_ID", "Scene", "Stage", "soon"]

QUESTION = "Hello?"
REQUEST_ID = "req-conformance"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the provider does when it is asked.

    `answers` with `text`, in these pieces; `refuses` with `reason` before anything is said; `breaks` with `reason`
    after the first piece; `stalls` after the first piece, for ever. What it fails with carries `retry_after_ms`
    (milliseconds) where there is one, and so does a scripted failure the `request_id`, which is that of the call.
    """

    kind: Literal["answers", "refuses", "breaks", "stalls"]
    text: tuple[str, ...] = ("Hello ", "there, ", "you.")
    reason: str | None = None
    retry_after_ms: int | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        return self.kind if self.reason is None else f"{self.kind}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The provider, ready. `requests()` and `cleanups()` count what has arrived at it and what was cleaned up there."""

    engine: Engine
    requests: Callable[[], int] | None = None
    cleanups: Callable[[], int] | None = None


def soon(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether `condition()` holds within so many seconds."""
    deadline, pause = time.monotonic() + seconds, ThreadEvent()
    while not condition():
        if time.monotonic() >= deadline:
            return False
        pause.wait(0.002)
    return True
