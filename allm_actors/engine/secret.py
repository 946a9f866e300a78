"""`Secret`, a key that never prints itself, and the removal of keys from errors.

Rule of this file: pure, so that every module may use the type; where keys come from is in `keys`.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from operator import is_
from traceback import clear_frames
from types import TracebackType
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from allm_actors.data import AllmError

__all__ = [
    "CREDENTIAL_HEADERS",
    "SECRET_HEADERS",
    "AdapterFailed",
    "FunctionLeft",
    "KeySource",
    "Remembered",
    "Secret",
    "is_secret",
    "keys_of",
    "let_go_of_frames",
    "scrub",
    "sealed",
    "secret_option",
    "secrets_of",
    "without_key",
    "without_keys",
]

Options = TypeVar("Options", bound=Mapping[str, Any])
_CREDENTIALS = r"authorization|cookie|.*(?:key|token|secret|auth|pass|credential|signature|jwt).*"
CREDENTIAL_HEADERS: Final = re.compile(_CREDENTIALS)
# `CREDENTIAL_HEADERS`, and headers that tell who requested what.
SECRET_HEADERS: Final = re.compile(rf"{_CREDENTIALS}|.*(?:organization|project|session).*")
_SECRET_QUERY: Final = re.compile(
    r"(?i).*(?:key|auth|token|secret|pass|passw(?:or)?d|passphrase|pwd|sig|signature|credential|code|session|jwt)"
    r"|sid|x-amz-.*"
)
# Adapter options that hold a key, judged by their name; also of adapters that are not ours.
_SECRET_OPTION: Final = re.compile(
    r"(?i)key|auth|(?:.*[-_])?(?:(?:api|access|secret|private)[-_]?key|secret|token|passw(?:or)?d|credentials?|jwt|bearer)"
)
# A value that looks random, so it is taken for a key under any name.
_RANDOM: Final = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9]{20,}")
_SCRUBBED_LENGTH = 8  # shorter keys are not real, and may be an ordinary word of a message
_PIECE = 12  # this many consecutive characters of a key are not a coincidence
_GONE = "[REDACTED]"
_KEPT = 8  # keys of one function that are remembered
_DEPTH = 8  # nesting depth below which an error's values are kept or removed as a whole
# Fields set by this library or the caller: a key that equals a word there, such as a provider's name, is no leak.
_OURS = frozenset({"reason", "provider", "status", "request_id"})


class Secret:
    """A key that never prints itself: not in `str`, `repr`, a log, a pickle or an error."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself; for the header of a request and nowhere else."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is never stored; look the key up again where it is needed")


class Remembered:
    """A user's function for a key; remembers the keys that it returned last, so that they can be removed from errors.

    A chat asks it for each model call, and may get another key each time. `said`: the newest first. `asking`: the
    function is being called now. Thread: readable from any.
    """

    __slots__ = ("_source", "asking", "said")

    def __init__(self, source: Callable[[], Any]) -> None:
        self._source = source
        self.asking: bool = False
        self.said: tuple[Secret, ...] = ()

    def __call__(self) -> Any:
        """Call the function. Raises what it raises, but `FunctionLeft` for an exit such as `SystemExit`."""
        self.asking = True
        key: Any = None
        left = None
        try:
            key = self._source()
        except Exception:
            raise
        except BaseException as raised:
            left = type(raised).__name__
            if left in _FROM_OUTSIDE and not (left == "KeyboardInterrupt" and raised.args):
                raise
        finally:
            self.asking = False
        if left is not None:
            raise FunctionLeft(left)
        if isinstance(key, str | Secret):
            told = key if isinstance(key, Secret) else Secret(key)
            self.said = (told, *(each for each in self.said if each != told))[:_KEPT]
        return key


KeySource = Secret | str | Callable[[], "Secret | str | None"] | None


# A kill, and Ctrl-C, which says nothing.
_FROM_OUTSIDE: Final = frozenset({"ProcessKilled", "KeyboardInterrupt"})


class FunctionLeft(Exception):
    """A function for a key raised `SystemExit` or the like: has only that name, because the text may quote the key."""


class AdapterFailed(Exception):
    """An adapter's exception, as text from which the key was removed."""


def sealed(options: Options) -> Options:
    """A call's options with the key as a `Secret`. Each function that takes options begins with it: when the call
    fails, what prints a traceback with its variables finds no key in ours.
    """
    key = options.get("api_key")
    return cast("Options", {**options, "api_key": Secret(key)}) if isinstance(key, str) else options


def keys_of(source: Any) -> tuple[Secret, ...]:
    """The key that a call was given, or those that the caller's function returned last; empty for none."""
    if isinstance(source, Remembered):
        return source.said
    return (Secret(source),) if isinstance(source, str) else (source,) if isinstance(source, Secret) else ()


def without_key(error: BaseException, source: Any) -> BaseException:
    """What an adapter raised; if it, or one that led to it, quotes the call's key, a copy without the key.

    An AllmError, a TypeError and a ValueError keep their type; any other copy is an `AdapterFailed`.
    """
    keys = keys_of(source)
    if not keys or not any(_quotes(each, keys) for each in _history(error)):
        return error
    if isinstance(error, AllmError):
        return without_keys(error, *keys)
    text = scrub(str(error), *keys)
    for misuse in (TypeError, ValueError):
        if isinstance(error, misuse):
            return misuse(text)
    return AdapterFailed(f"{type(error).__name__}: {text}")


def let_go_of_frames(error: Exception) -> Exception:
    """The error with the frames of its traceback cleared: it still says where, but no longer holds the call's key.

    Frames that are still running are cut off from its beginning.
    """
    for each in _history(error):
        each.__traceback__ = _finished(each.__traceback__)
        clear_frames(each.__traceback__)
    return error


def _finished(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        try:
            trace.tb_frame.clear()
        except RuntimeError:
            trace = trace.tb_next
        else:
            break
    return trace


def without_keys(
    error: AllmError, *keys: Secret | None, metadata: Mapping[str, Any] = {}, **ours: Any
) -> AllmError:
    """`error` without these keys in foreign text, with the fields `ours` replaced and `metadata` added.

    What a class of the user's adds to it stays if it is a text, a number or None: anything else may contain the key.
    """
    fields = {
        name: value if name in _OURS else scrub(value, *keys) for name, value in error.to_fields().items()
    }
    fields["metadata"] = {**fields["metadata"], **metadata}
    told = type(error).from_fields(fields | ours)
    added = {
        name: value for name, value in vars(error).items() if isinstance(value, str | int | float | None)
    }
    told.__dict__ = {name: scrub(value, *keys) for name, value in added.items()} | vars(told)
    return told


def scrub(value: Any, *keys: Secret | None) -> Any:
    """`value` without these keys: a text, or the texts inside containers. The same object if it has none of them."""
    for key in keys:
        text = key.reveal().strip() if key is not None else ""
        if len(text) >= _SCRUBBED_LENGTH:
            value = _without(value, text)
    return value


def is_secret(name: str, value: str) -> bool:
    """Whether a query parameter of a URL holds a secret."""
    return bool(_SECRET_QUERY.fullmatch(name) or _RANDOM.fullmatch(value))


def secret_option(options: Mapping[str, Any]) -> str | None:
    """The name of an adapter option that is, or contains, a secret; None if all may be shown."""
    for name, value in options.items():
        if value is not None and _SECRET_OPTION.fullmatch(str(name)):
            return str(name)
    for name, is_secret in (("headers", CREDENTIAL_HEADERS.fullmatch), ("query", _SECRET_QUERY.fullmatch)):
        given = options.get(name)
        if isinstance(given, Mapping) and any(is_secret(str(each).lower()) for each in given):
            return name
    return "base_url" if _hides_something(options.get("base_url")) else None


def _hides_something(url: Any) -> bool:
    try:
        return isinstance(url, str) and bool(secrets_of({}, url.strip()))
    except ValueError:  # no URL at all: a call says so
        return False


def secrets_of(
    headers: Mapping[str, str], url: str = "", names: re.Pattern[str] = CREDENTIAL_HEADERS
) -> list[Secret]:
    """The secrets in a request: keys in headers, without the scheme in front, and in its URL.

    `names` matches the headers that hold them. Each is given in every form that an answer may quote: plain,
    percent-encoded as in a URL, and a user and password also in the Base64 of `Basic`.
    """
    found: list[str] = []
    for name, value in headers.items():
        if names.fullmatch(name.lower()):
            found += _words(value)
        elif _RANDOM.fullmatch(value):
            found.append(value)
    parts = urlsplit(url)
    for name, value in parse_qsl(parts.query):
        if is_secret(name, value):
            found += [value, quote(value, safe=""), quote_plus(value)]
    named = [unquote(text) for text in (parts.username, parts.password) if text]
    if named:
        found += [*named, parts.netloc.rpartition("@")[0], _basic(":".join(named))]
    longest_first = sorted(dict.fromkeys(found), key=len, reverse=True)  # one may be a part of another
    return [Secret(text) for text in longest_first]


def _words(value: str) -> list[str]:
    """The secrets in a header's value: all of it, the key after a scheme, each cookie's value, user and password."""
    last = value.rpartition(" ")[2]
    found = [last, *(crumb.partition("=")[2] for crumb in value.split("; ") if "=" in crumb)]
    if value.lower().startswith("basic "):
        try:
            told = b64decode(last, validate=True).decode()
        except ValueError:
            return found
        found += [told, *told.split(":", 1)]
    return found


def _basic(named: str) -> str:
    return b64encode(named.encode()).decode()


def _quotes(error: BaseException, keys: tuple[Secret, ...]) -> bool:
    fields = error.to_fields() if isinstance(error, AllmError) else {}
    shown = [str(error), repr(error), fields]
    return scrub(shown, *keys) is not shown


def _history(error: BaseException) -> Iterator[BaseException]:
    """The error, and its causes and contexts, as a traceback would show them."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__]
            yield each


def _without(value: Any, text: str, depth: int = _DEPTH) -> Any:
    match value:
        case str():
            return _without_pieces(value, text)
        case bytes() | bytearray():
            key = text.encode()
            return value.replace(key, _GONE.encode()) if key in value else value
        case None | bool() | int() | float():
            return value
        case AllmError() if depth:
            fields = value.to_fields()
            told = _without(fields, text, depth - 1)
            return value if told is fields else without_keys(value, Secret(text))
        case dict() if depth:
            pairs = {
                _without(name, text, depth - 1): _without(item, text, depth - 1)
                for name, item in value.items()
            }
            same = all(
                name is old and pairs[name] is value[old] for name, old in zip(pairs, value, strict=False)
            )
            return value if same and len(pairs) == len(value) else pairs
        case list() | tuple() | set() | frozenset() if depth:
            items = [_without(item, text, depth - 1) for item in value]
            if all(map(is_, items, value)):
                return value
            kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
            return kind(items)
        case _:
            return _GONE if _shows(value, text) else value


def _without_pieces(said: str, key: str) -> str:
    """`said` without the key and without long pieces of it, because a quoted key may be cut or partly masked."""
    said = said.replace(key, _GONE) if key in said else said
    if len(key) <= _PIECE or not any(key[at : at + _PIECE] in said for at in range(len(key) - _PIECE + 1)):
        return said
    kept, at = [], 0
    while at < len(said):
        if (end := at + _PIECE) <= len(said) and said[at:end] in key:
            while end < len(said) and said[at : end + 1] in key:
                end += 1
            kept.append(_GONE)
            at = end
        else:
            kept.append(said[at])
            at += 1
    return "".join(kept)


def _shows(value: object, text: str) -> bool:
    try:
        return text in repr(value) or text in str(value)
    except Exception:  # noqa: BLE001 - a foreign object's own code: what cannot be printed leaks nothing
        return False
