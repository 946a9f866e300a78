"""What went wrong, in one line that says what to do, and the exit code it deserves.

Rule of this file: the library's own message is used, unless its advice applies only to a program
(`pass api_key=`); those messages have a row here. Errors never contain keys or bodies, so neither do these
lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from allm_actors.data import AdapterError, AllmError, ChatResult, EngineError, StoreError
from allm_actors.engine.catalog import PROVIDERS

from .colour import harmless

__all__ = ["Misuse", "exit_code", "is_empty", "line", "shortcoming"]

_MISUSE: Final = {"unknown_adapter", "missing_adapter", "missing_model", "invalid_engine"}


class Misuse(Exception):
    """The command line asks for something impossible: a tool file that does not exist, no model, no prompt."""


def exit_code(error: BaseException) -> int:
    """2 when another command line would have worked, 1 for a failure outside this program, 0 for a bug in it."""
    match error:
        case Misuse():
            return 2
        case EngineError(__cause__=OSError()):  # there are no files for an event loop
            return 1
        case EngineError(reason=reason) if reason in _MISUSE:
            return 2
        case AllmError() | OSError(filename=str()):
            return 1
        case _:
            return 0


def line(error: object) -> str:
    """The error in one line."""
    advise = _ADVICE.get((type(error), getattr(error, "reason", None)))
    text = advise(error) if advise is not None else _said(error)
    return harmless(" ".join(text.split()))


def shortcoming(result: ChatResult) -> str | None:
    """Why a completed turn has no answer, or only a part of one, in one line; None if its answer is whole."""
    response = result.final_response
    if result.halted or response is None:
        return None
    match response.finish_reason:
        case "length":
            return "the answer was cut off at the token limit: allow more with --max-tokens, or ask for less"
        case "content_filter":
            return f"the model refused: {line(response.metadata.get('refusal') or 'it gave no reason')}"
        case _:
            return None


def is_empty(result: ChatResult) -> bool:
    """Whether a turn is completed and its answer is empty."""
    response = result.final_response
    if result.halted or response is None or response.finish_reason != "stop":
        return False
    text, message = response.text(), response.message
    return not (text.strip() if text is not None else message and message.content)


def _said(error: object) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _no_key(error: Any) -> str:
    return (
        f"no API key for {error.provider}: set {_variables(error.provider)}. For a server that needs no key, "
        "use --adapter openai-compatible --base-url URL"
    )


def _unknown_adapter(error: Any) -> str:
    near = error.metadata.get("near") or []
    hint = f"did you mean {' or '.join(near)}?" if near else "`allm providers` lists them."
    return f"no adapter is called {error.provider!r}; {hint} For any other server, use --base-url URL"


def _wrong_key(error: Any) -> str:
    said = str(error).partition(" Check the key")[0]
    return f"{said} Check the key in {_variables(error.provider)}"


def _not_a_store(error: Any) -> str:
    return f"{error.path} is not a session store: pass another --store PATH, or move the file away"


def _too_slow(error: Any) -> str:
    said, _, advice = str(error).partition("; request_timeout allows more")
    return f"{said}; --timeout allows more, in seconds" if advice else str(error)


def _changed(_error: Any) -> str:
    return (
        "another program has changed this session in the meantime, so this answer was not stored; ask again"
    )


def _variables(provider: str | None) -> str:
    row = PROVIDERS.get(provider or "")
    return " or ".join(row.key_names) if row is not None else "its environment variable"


_ADVICE: Final[dict[tuple[type, Any], Callable[[Any], str]]] = {
    (EngineError, "missing_key"): _no_key,
    (EngineError, "unknown_adapter"): _unknown_adapter,
    (AdapterError, "authentication_failed"): _wrong_key,
    (AdapterError, "timeout"): _too_slow,
    (StoreError, "conflict"): _changed,
    (StoreError, "not_a_store"): _not_a_store,
}
