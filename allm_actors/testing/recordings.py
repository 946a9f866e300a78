"""One test's recording: made when that is asked for, played otherwise.

Rule of this file: it knows nothing of pytest. Engines of one test share one transport, so that their exchanges stay in
the order in which they were asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from allm_actors.engine import keys
from allm_actors.engine.catalog import PROVIDERS, Provider
from allm_actors.engine.engine import Engine

from .player import Player
from .recorder import Recorder

__all__ = ["RECORD", "Recordings"]

RECORD = "ALLM_RECORD"
"""The variable that asks for new recordings, when it is 1."""


class Recordings:
    """Engines over the recording at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._transport: Recorder | Player | None = None

    def over(self, engine: Engine, **how: Any) -> Engine:
        """`engine`, whose requests are recorded, or answered from the recording. Raises FileNotFoundError without one.

        `how`: what `Recorder` and `Player` take, both of them: `redact`.
        """
        row = PROVIDERS.get(engine.adapter) if isinstance(engine.adapter, str) else None
        if self._transport is None:
            self._transport = self._made(row, how)
        return engine.merge(adapter_opts={"transport": self._transport})

    def _made(self, row: Provider | None, how: dict[str, Any]) -> Recorder | Player:
        if os.environ.get(RECORD) == "1" and row is not None and _may_ask(row):
            return Recorder(self._path, provider=row.name, overwrite=True, **how)
        if not self._path.exists():
            need = f" and {' or '.join(row.key_names)}" if row is not None and row.key_required else ""
            raise FileNotFoundError(
                f"this test has no recording at {self._path}; make it by running the test once with {RECORD}=1{need} "
                "in the environment"
            )
        return Player(self._path, **how)


def _may_ask(row: Provider) -> bool:
    return not row.key_required or keys.find(row.name, row.key_names) is not None
