"""Refuses a value that names files of this machine, for readers of what others wrote.

Rule of this file: total. It looks at what was decoded, not at the text: however a value was written, it is found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from allm_actors.data.errors import ValidationError
from allm_actors.data.media.audio import Audio
from allm_actors.data.media.documents import Document
from allm_actors.data.media.images import Image

from .misreading import place

__all__ = ["check_no_files"]


def check_no_files(value: Any) -> None:
    """Raises ValidationError (`invalid_request`) for an image, a document or a clip whose source is a file, anywhere
    in the value, naming the place but not the file.
    """
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(value, ())]
    seen: dict[int, Any] = {}  # with the values, so that an `id` stays its own
    while waiting:
        each, path = waiting.pop()
        if isinstance(each, str | bytes | int | float | None) or id(each) in seen:
            continue
        seen[id(each)] = each
        source: Any = each.source if isinstance(each, Image | Document | Audio) else None
        if isinstance(source, list | tuple) and source and source[0] == "file":
            message = f"{place([*path, 'source'])} is a file of this machine, which files=False refuses"
            raise ValidationError("invalid_request", [(["source"], "file_refused")], message=message)
        waiting += [(part, (*path, step)) for step, part in _parts(each)]


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
        yield from ((key, key) for key in value)
    elif isinstance(value, list | tuple | set | frozenset):
        yield from enumerate(value)
    else:
        yield from getattr(value, "__dict__", {}).items()
        yield from ((name, getattr(value, name, None)) for name in getattr(value, "__struct_fields__", ()))
        if dataclasses.is_dataclass(value):
            yield from ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
