"""A span: an operation with a start and one end.

Rule of this file: the first end counts. The worker that performs the operation and the one that gives up
waiting for it may both end it, on different threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import Context
from typing import Any

from .bus import emit
from .hiding import Hide, hiding
from .names import check_span

__all__ = ["Span"]


class Span:
    """Emits `allm.<name>.start` once it starts, and then `stop` or `exception` once.

    Handlers are called in a copy of the `context`, if it has one, whichever thread starts and ends it; `hide`
    removes the key from what they write (see `hiding`). A span that is ended before it starts emits nothing.
    Raises ValueError for a name that is not in `SPANS`. Thread: safe.
    """

    __slots__ = ("_began", "_context", "_hide", "_lock", "_metadata", "_name", "_over")

    def __init__(
        self,
        name: str,
        metadata: Mapping[str, Any],
        context: Context | None = None,
        hide: Hide | None = None,
    ) -> None:
        check_span(name)
        self._name, self._metadata, self._context, self._hide = name, dict(metadata), context, hide
        self._lock = threading.Lock()
        self._began: float | None = None
        self._over = False

    def start(self) -> Span:
        """Start the span now."""
        with self._lock:
            if self._over or self._began is not None:
                return self
            self._began = time.monotonic()
        measured = {"system_time": time.time(), "monotonic_time": self._began}
        self._emit("start", measured, self._metadata)
        return self

    def stop(self, measurements: Mapping[str, float] | None = None, **extras: Any) -> None:
        """End the span with a result: emit `stop`."""
        self._end("stop", measurements or {}, extras)

    def exception(self, kind: str, reason: Any, stacktrace: Any = ()) -> None:
        """End the span with a failure, of kind `error` (an exception) or `exit` (its process was stopped or died)."""
        self._end("exception", {}, {"kind": kind, "reason": reason, "stacktrace": stacktrace})

    def _end(self, phase: str, measurements: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        with self._lock:
            over, self._over = self._over, True
        if over or self._began is None:
            return
        now = time.monotonic()
        measured = {"duration": now - self._began, "monotonic_time": now, **measurements}
        self._emit(phase, measured, {**self._metadata, **extras})

    def _emit(self, phase: str, measured: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        name = f"allm.{self._name}.{phase}"
        if self._context is None:
            self._tell(name, measured, metadata)
        else:  # a copy, because the context itself may be in use on another thread
            self._context.copy().run(self._tell, name, measured, metadata)

    def _tell(self, name: str, measured: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        with hiding(self._hide):
            emit(name, measured, metadata)
