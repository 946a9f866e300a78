"""Values as JSON: `{"__type__": "ALLM.Message", "data": {…}}`, nested everywhere.

Rule of this file: the shape is the Elixir library's, and reading is total: any text gives a value or a
`ValidationError`. A round trip is identity; what would come back as something else is refused. Fields that the Elixir
library does not have are written only when they are not at their default. An object of an unknown type stays
a dict. What JSON cannot express has an envelope of its own:

    tuple, bytes   types that JSON does not have
    float          infinite, or not a number
    map            a dict with other than text keys, with a key `__type__`, or where a reader expects a value
    text           with a lone surrogate, which UTF-8 cannot encode
    int            of more digits than Python reads
    value          a value of a type that its field does not expect, as an adapter may have put it there
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from allm_actors.data.depth import DEEPEST_WRITTEN, is_deeper
from allm_actors.data.encoding import json_bytes
from allm_actors.data.errors import ValidationError

from .files import check_no_files
from .foreign import Unencodable, refusal
from .lowering import lower, sayable
from .misreading import Misread
from .raising import raise_top
from .shapes import shape_of

__all__ = ["from_json", "to_json"]


def to_json(value: Any) -> str:
    """One of this library's values as JSON text.

    Shape: `{"__type__": "ALLM.Message", "data": {"role": "user", "content": "hi", …}}`.
    Raises TypeError for anything else, and for a part that JSON cannot express, naming its place: a handler,
    a function, a foreign object, and None in a field with another default, since `null` is read as that
    default; also for JSON nested more than 256 levels deep, which not every reader can read.
    """
    if shape_of(type(value)) is None:
        raise TypeError(
            f"to_json takes a value of this library, such as a Message or a Session, got {type(value).__name__}"
        )
    try:
        tree = lower(value)
        return _text(tree)
    except (Unencodable, RecursionError):
        raise refusal(value, null_is_default=True) from None


def from_json(text: str | bytes, as_: type[Any] | str | None = None, *, files: bool = True) -> Any:
    """The value in JSON text; `as_` (a class or a tag) is the type of an object without a tag; a tag always wins.

    A tagged object of an unknown type comes back as a dict, so that newer data can be passed on.
    An image, a document or a clip may name a file, which is read on this machine when it is sent: for text that
    others wrote pass `files=False`, which refuses those, and check that the value is of the type that you expect.
    Raises TypeError for what is no text, and ValidationError (`invalid_request`), whose message says where and what, as
    in `$.messages[2].role is 'robot'`, and whose `errors` is one of `("json", "malformed")`, `("data", "missing")`,
    `("data", "malformed_struct")`, `("format", "missing_type_tag")`, `("format", "unknown_type_tag")`,
    `("_unknown", "atom_decode_failed")`, `(["source"], "invalid_base64")`, `([field], "malformed_struct")`,
    `(["source"], "file_refused")`.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise TypeError(f"from_json takes JSON text, got {type(text).__name__}")
    try:
        value = raise_top(_tree(text), as_)
    except Misread as misread:
        message = f"invalid JSON for from_json: {misread}"
        raise ValidationError("invalid_request", misread.failures, message=message) from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    if not files:
        check_no_files(value)
    return value


def _text(tree: Any) -> str:
    try:
        data = json_bytes(tree)
    except ValueError:  # a lone surrogate, as a cut stream may leave it, or thousands of digits
        tree = sayable(tree)
        data = json_bytes(tree)
    if data.count(b"{") + data.count(b"[") > DEEPEST_WRITTEN and is_deeper(tree, DEEPEST_WRITTEN):
        raise Unencodable
    return data.decode()


def _tree(text: str | bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        pass
    try:  # reads the lone surrogates and the huge numbers that the fast reader refuses
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        why_not = f"syntax error at line {error.lineno}, column {error.colno} ({error.msg})"
        raise _malformed(why_not) from None
    except UnicodeError:
        raise _malformed("it is not UTF-8") from None
    except ValueError as error:  # NaN and the like, or more digits than Python reads
        raise _malformed(
            str(error) if "not JSON" in str(error) else "it has a number with too many digits"
        ) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _malformed(what: str) -> ValidationError:
    return ValidationError(
        "invalid_request", [("json", "malformed")], message=f"invalid JSON for from_json: {what}"
    )
