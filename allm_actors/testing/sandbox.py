"""An engine for code inside a test, without passing it as an argument.

    with sandbox.with_engine(scripted):
        my_program()              # which asks sandbox.get_engine() where it would build its own

Rule of this file: it is a context variable and nothing else, so tests that run at the same time do not see each other's
engine, and a task, a tool handler or an observer sees its caller's. No call of this library looks here by itself: code
that wants to be sandboxed asks. A plain `threading.Thread` begins with an empty context; run its function with
`contextvars.copy_context().run`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from allm_actors.engine.engine import Engine

__all__ = ["get_engine", "set_engine", "unset_engine", "with_engine"]

_engine: ContextVar[Engine | None] = ContextVar("allm_actors_sandbox", default=None)


def get_engine() -> Engine | None:
    """The engine of this context: its own, else that of the context that started it, else None."""
    return _engine.get()


def set_engine(engine: Engine) -> None:
    """Use this engine here, and in whatever is started from here, from now on. Raises TypeError for anything else."""
    given: object = engine
    if not isinstance(given, Engine):
        raise TypeError(f"the sandbox needs an Engine, got {type(given).__name__}")
    _engine.set(engine)


def unset_engine() -> None:
    """Have no engine here; harmless when there is none."""
    _engine.set(None)


@contextmanager
def with_engine(engine: Engine) -> Iterator[Engine]:
    """Use this engine inside the block, or in the function that this decorates; afterwards the one before."""
    before = _engine.get()
    set_engine(engine)
    try:
        yield engine
    finally:
        _engine.set(before)
