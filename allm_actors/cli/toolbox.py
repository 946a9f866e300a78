"""From `MODULE[:NAME]` to tools.

Rule of this file: a place is a path to a Python file, or the name of an importable module. It holds user
code, and whatever goes wrong while loading it is reported with the place's name.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from allm_actors.data import Tool
from allm_actors.data.build import tool
from allm_actors.data.predicates import all_of
from allm_actors.engine.isolated import address_of

from .trouble import Misuse

__all__ = ["load_tools", "path_of"]


def load_tools(places: Iterable[str]) -> list[Tool]:
    """The tools of all places, in order; one that two places share is taken once. Raises Misuse."""
    found: dict[int, Tool] = {}
    for place in places:
        for each in _tools_of(place):
            _refuse_what_cannot_be_isolated(place, each)
            found[id(each)] = each
    return list(found.values())


def path_of(typed: str) -> Path:
    """The path that was typed, with `~` and `~user` replaced, or left alone if there is no such user."""
    return Path(os.path.expanduser(typed))  # noqa: PTH111 - that of `Path` raises RuntimeError


def _tools_of(place: str) -> list[Tool]:
    where, name = _split(place)
    module = _module(where)
    if name is None:
        tools = [value for value in vars(module).values() if isinstance(value, Tool)]
        if not tools:
            raise Misuse(
                f"{where} has no tools: decorate its functions with @allm.tool, or name one: {where}:NAME"
            )
        return tools
    if not hasattr(module, name):
        raise Misuse(f"{where} has no {name!r}; it has: {', '.join(_names(module)) or 'no tools'}")
    return _as_tools(place, getattr(module, name))


def _split(place: str) -> tuple[str, str | None]:
    where, colon, name = place.rpartition(":")
    return (where, name) if colon and name.isidentifier() else (place, None)


def _module(where: str) -> ModuleType:
    path = path_of(where)
    by_path = path.suffix == ".py" or path.is_file()
    if by_path and not path.is_file():
        raise Misuse(f"there is no file {where}")
    try:
        return _from_file(path) if by_path else _by_name(where)
    except (Exception, SystemExit) as error:
        raise Misuse(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error


def _by_name(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` would have it; a script has its own folder there instead
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    path = path.parent.resolve() / path.name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickle look their module up
    if sys.path[:1] != [str(path.parent)]:
        sys.path.insert(0, str(path.parent))  # to stay: a tool may import something when it is called
    spec.loader.exec_module(module)
    return module


def _as_tools(place: str, value: Any) -> list[Tool]:
    if isinstance(value, Tool):
        return [value]
    if all_of(value, Tool) and value:
        return list(value)
    if callable(value) and not isinstance(value, type):
        try:
            return [tool(value)]
        except TypeError as error:
            raise Misuse(f"{place} cannot be a tool: {error}") from error
    raise Misuse(f"{place} is {type(value).__name__}, not a tool, a list of tools or a function")


def _refuse_what_cannot_be_isolated(place: str, tool: Tool) -> None:
    if tool.isolation == "process" and tool.handler is not None:
        try:
            address_of(tool)
        except ValueError as error:
            raise Misuse(f"{place}: {error}") from error


def _names(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Tool)]
