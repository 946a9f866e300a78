"""Where API keys come from, and how they are hidden.

Rule of this file: a key is looked up when a call needs it, and nothing ever prints one. The first non-empty
string wins:

    1 opts        `api_key=` of the call: a string, or a function that is called each time
    2 runtime     `put("openai", …)`, until `delete` or `clear`
    3 app_config  `configure({"openai": …})`
    4 env         the provider's environment variable
    5 dotenv      the `.env` file, when `configure(load_dotenv=True)`
"""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from allm_actors.data import EngineError
from allm_actors.engine.kinds import check_source, kind_of, let_go
from allm_actors.engine.secret import FunctionLeft, KeySource, Secret

__all__ = [
    "PATIENCE",
    "KeySource",
    "Secret",
    "check_source",
    "clear",
    "configure",
    "delete",
    "either",
    "fetch",
    "find",
    "parse_dotenv",
    "put",
    "unanswered",
]

PATIENCE: Final = 30.0
"""How many seconds an `api_key=` function may take."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE_END = re.compile(r"\r\n?|\n")
_lock = threading.Lock()
_runtime: dict[str, Secret] = {}
_config: dict[str, Secret] = {}
_dotenv: dict[str, Secret] | None = None  # None: it is not asked
_dotenv_trouble = ""
_DOTENV_LIMIT: Final = 1 << 20  # bytes: a device has no end


def put(provider: str, key: str | Secret) -> None:
    """Use `key` for `provider` in this process from now on; an empty key does not hide the lower levels.

    Raises TypeError for a provider that is no text, and for a key that is neither text nor a Secret. Thread: safe.
    """
    _check_named("put", provider)
    _check_key("keys.put takes a key that is", key, f"; keys.delete({provider!r}) removes one")
    secret = _secret(key)
    with _lock:
        if secret is None:
            _runtime.pop(provider, None)
        else:
            _runtime[provider] = secret


def delete(provider: str) -> None:
    """Forget the key that `put` stored, if any."""
    with _lock:
        _runtime.pop(provider, None)


def clear() -> None:
    """Forget every stored and configured key, and the `.env` file."""
    configure({})
    with _lock:
        _runtime.clear()


def configure(
    keys: Mapping[str, str | Secret] | None = None,
    *,
    load_dotenv: bool = False,
    dotenv_path: str | Path | None = None,
) -> None:
    """Set the configured keys by provider, and whether a `.env` file (default: of the working directory) is read.

    It is read here and now, once: opening one may take long, as where it is a pipe of a password manager. A file that
    is missing, or cannot be read, has no keys; a call that finds none anywhere then says so. A key of None is ignored.
    Raises TypeError for what is no mapping, a provider that is no text, and a key of any other type.
    """
    global _config, _dotenv, _dotenv_trouble
    _check_keys(keys)
    for name, text in (keys or {}).items():
        _check_named("configure", name)
        if text is not None:
            _check_key(f"the key of {name!r} must be", text)
    file, trouble = None, ""
    if load_dotenv is True:
        text, trouble = _read(Path(dotenv_path) if dotenv_path is not None else Path.cwd() / ".env")
        file = _secrets(parse_dotenv(text))
    with _lock:
        _config, _dotenv, _dotenv_trouble = _secrets(keys or {}), file, trouble


def find(provider: str, names: Sequence[str], api_key: KeySource = None) -> tuple[Secret, str] | None:
    """The key and the name of its level, as above, or None; `names` are the variables to read."""
    check_source(api_key)
    if key := _secret(_asked(provider, api_key) if callable(api_key) else api_key):
        return key, "opts"
    with _lock:
        if key := _runtime.get(provider):
            return key, "runtime"
        if key := _config.get(provider):
            return key, "app_config"
        file = _dotenv or {}
    for name in names:
        if key := _secret(os.environ.get(name)):
            return key, "env"
    for name in names:
        if key := file.get(name):
            return key, "dotenv"
    return None


def fetch(provider: str, names: Sequence[str], api_key: KeySource = None) -> Secret:
    """The key. Raises `EngineError("missing_key")`, which says where it was looked for."""
    found = find(provider, names, api_key)
    if found is not None:
        return found[0]
    sources = ["opts", "runtime", "app_config", "env"] + ([] if _dotenv is None else ["dotenv"])
    variables = " or ".join(names)
    with _lock:
        near = difflib.get_close_matches(provider, [*_runtime, *_config], n=1)
        trouble = f"; {_dotenv_trouble}" if _dotenv_trouble else ""
    hint = f"; there is a key for {near[0]!r}: is one of the two misspelled?" if near else ""
    raise EngineError(
        "missing_key",
        provider=provider,
        message=f"no API key for {provider!r}: set {variables or 'its environment variable'}, or pass api_key= with "
        f"the call (looked in: {', '.join(sources)}{trouble}){hint}",
        metadata={"checked_sources": sources, "variables": list(names)},
    )


def either(first: KeySource, second: KeySource) -> KeySource:
    """A source that gives the key of `first`, or, if that has none, the key of `second`."""
    if second is None or not (first is None or callable(first) or isinstance(first, str | Secret)):
        return first
    if not callable(first):
        return second if _secret(first) is None else first

    def ask() -> Any:
        key: Any = first()
        if isinstance(key, str | Secret | None) and _secret(key) is None:
            return second() if callable(second) else second
        return key

    return ask


def parse_dotenv(text: str) -> dict[str, str]:
    """The assignments of a `.env` file: `KEY=VALUE` lines, without `export `, the space around either, and one pair of
    double quotes. A line ends where a file's does, and not at the other characters at which `str.splitlines` splits.
    """
    found = {}
    for line in _LINE_END.split(text):
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and _NAME.fullmatch(name.strip()):
            value = value.strip()
            quoted = len(value) >= 2 and value[0] == value[-1] == '"'
            found[name.strip()] = value[1:-1] if quoted else value
    return found


def _asked(provider: str, source: Callable[[], Any]) -> Any:
    try:
        key = source()
        if key is None or isinstance(key, str | Secret):
            return key
        trouble = f"returned {kind_of(key)}"
        let_go(key)
    except FunctionLeft as left:
        trouble = f"exited with {left}"
    except Exception as error:  # noqa: BLE001 - the user's code; its text may quote the key
        trouble = f"failed with {type(error).__name__}"
    raise _keyless(provider, trouble)


def unanswered(provider: str, seconds: float) -> EngineError:
    """The error of a call whose `api_key=` function has not returned within these seconds."""
    return _keyless(provider, f"did not answer within {seconds:g} s")


def _keyless(provider: str, trouble: str) -> EngineError:
    message = f"the api_key= function for {provider!r} {trouble}; it must return a key, or None"
    return EngineError("missing_key", provider=provider, message=message)


def _check_named(function: str, provider: object) -> None:
    if not isinstance(provider, str) or not provider:
        raise TypeError(
            f"keys.{function} takes the name of a provider, such as 'openai', got {kind_of(provider)}"
        )


def _check_keys(keys: object) -> None:
    if not isinstance(keys, Mapping | None):
        form = 'a mapping, such as {"openai": key}'
        raise TypeError(f"keys.configure takes the keys by provider as {form}, got {kind_of(keys)}")


def _check_key(takes: str, key: object, otherwise: str = "") -> None:
    if not isinstance(key, str | Secret):
        raise TypeError(f"{takes} text or a Secret, got {kind_of(key)}{otherwise if key is None else ''}")


def _secret(value: object) -> Secret | None:
    if isinstance(value, Secret):
        value = value.reveal()
    return Secret(value.strip()) if isinstance(value, str) and value.strip() else None


def _secrets(texts: Mapping[str, str | Secret]) -> dict[str, Secret]:
    return {name: key for name, text in texts.items() if (key := _secret(text))}


def _read(path: Path) -> tuple[str, str]:
    """The file's text, empty if there is no file, and why it cannot be read, empty if it can."""
    try:
        with path.open("rb") as file:
            found = file.read(_DOTENV_LIMIT + 1)
        if len(found) > _DOTENV_LIMIT:
            return "", f"{path} has more than {_DOTENV_LIMIT:,} bytes: name another file with dotenv_path="
        return found.decode("utf-8-sig"), ""
    except FileNotFoundError:
        return "", ""
    except UnicodeDecodeError as error:  # contains the whole file, so it is not chained
        return "", f"{path} is not UTF-8, see its byte {error.start}: save it as UTF-8"
    except OSError as error:
        return "", f"{path} cannot be read, {error.strerror}: name another file with dotenv_path="
    except ValueError:
        return "", f"{str(path)!r} is not a file path: name a file with dotenv_path="
