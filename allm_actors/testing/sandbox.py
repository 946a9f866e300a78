"""An engine for code inside a test, without passing it as an argument.

    with sandbox.with_engine(scripted):
        my_program()              # which asks sandbox.get_engine() where it would build its own

Rule of this file: it is a context variable and nothing else, so tests that run at the same time do not see each other's
engine, and a task, a tool handler or an observer sees its caller's. No call of this library looks here by itself: code
that wants to be sandboxed asks. A plain `threading.Thread` begins with an empty context; run its function with
`contextvars.copy_context().run`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

from allm_actors.engine.engine import Engine

__all__ = ["get_engine", "set_engine", "unset_engine", "with_engine"]

F = TypeVar("F", bound=Callable[..., Any])
_engine: ContextVar[Engine | None] = ContextVar("allm_actors_sandbox", default=None)


def get_engine() -> Engine | None:
    """The engine of this context: its own, else that of the context that started it, else None."""
    return _engine.get()


def set_engine(engine: Engine) -> None:
    """Use this engine here, and in whatever is started from here, from now on. Raises TypeError for anything else."""
    _engine.set(_checked(engine))


def unset_engine() -> None:
    """Have no engine here; harmless when there is none."""
    _engine.set(None)


def with_engine(engine: Engine) -> Within:
    """Use this engine inside the block, or in the function that this decorates; afterwards the one before.

    The function may be asynchronous. Raises TypeError for what is no Engine, and when it decorates a generator.
    """
    return Within(_checked(engine))


class Within:
    """What `with_engine` returns: a context manager, and a decorator."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before: list[Engine | None] = []

    def __enter__(self) -> Engine:
        self._before.append(_engine.get())
        _engine.set(self._engine)
        return self._engine

    def __exit__(self, *_: object) -> None:
        _engine.set(self._before.pop())

    def __call__(self, function: F) -> F:
        """The function, run with the engine."""
        engine = self._engine
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            # It runs piece by piece, in the context of whoever iterates it, who would have the engine, too.
            name = getattr(function, "__name__", repr(function))
            raise TypeError(
                f"with_engine cannot decorate {name}, which is a generator; use `with sandbox.with_engine(…):` in "
                "it, around what needs the engine"
            )

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with Within(engine):
                return function(*args, **kwargs)

        @wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with Within(engine):
                return await function(*args, **kwargs)

        decorated: Any = run_async if inspect.iscoroutinefunction(function) else run
        return cast(F, decorated)


def _checked(engine: object) -> Engine:
    if not isinstance(engine, Engine):
        raise TypeError(f"the sandbox needs an Engine, got {type(engine).__name__}")
    return engine
