"""From options to what a command works with: an engine, a store of sessions, the start of a session.

Rule of this file: whatever can be refused is refused here, before anything is started: an adapter nobody knows, a model
nobody named, a key that is not set, a file that is not a store.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from allm_actors.actors.store import MemoryStore, Save, Store, store_for
from allm_actors.data import Session, Thread
from allm_actors.data.utf8 import is_utf8
from allm_actors.engine import keys
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.engine import Engine

from .arguments import Options
from .toolbox import load_tools, path_of
from .trouble import Misuse

__all__ = ["begin", "data_dir", "engine_for", "place_of", "set_up_log", "store_of", "turn_options"]

_MODELS: Final = {"openai": "gpt-4.1-mini"}


def engine_for(options: Options) -> Engine:
    """The engine that the options describe. Raises Misuse and EngineError."""
    adapter = options.adapter or ("openai-compatible" if options.base_url else "openai")
    if adapter.startswith(":"):
        raise Misuse(
            f"adapter {adapter!r} names only a model; put a provider before the colon (`allm providers` lists "
            "them)"
        )
    engine = Engine(
        adapter=adapter,
        model=options.model or None,
        tools=load_tools(options.tools),
        adapter_opts={"base_url": options.base_url} if options.base_url else {},
    )
    if engine.model is None:
        engine = engine.with_model(_model_of_the_environment())
    find_adapter(engine.adapter)
    row = PROVIDERS.get(str(engine.adapter))
    if row is None:
        return engine
    if not (options.base_url or row.base_url or os.environ.get(row.base_url_name)):
        raise Misuse(
            f"{row.name} needs the URL of a server: set it with --base-url URL, or in {row.base_url_name}"
        )
    if row.key_required:
        keys.fetch(row.name, row.key_names)
    if engine.model is None:
        engine = engine.with_model(_MODELS.get(row.name))
    if engine.model is None:
        raise Misuse(f"{row.name} needs a model: choose it with --model NAME, or --adapter {row.name}:NAME")
    return engine


def _model_of_the_environment() -> str | None:
    name = os.environ.get("ALLM_MODEL") or None
    if name is not None and not is_utf8(name):
        raise Misuse(f"ALLM_MODEL must be UTF-8, got {name!r}")
    return name


def turn_options(options: Options) -> dict[str, Any]:
    """The options of every turn."""
    given = {"request_timeout": options.timeout, "max_tokens": options.max_tokens}
    return {name: value for name, value in given.items() if value is not None}


def place_of(options: Options, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file of the store; None for memory."""
    if options.store == ":memory:":
        return None
    return path_of(options.store) if options.store else data_dir(environ) / "sessions.db"


def store_of(options: Options, environ: Mapping[str, str]) -> Store:
    """The store; the folder of the default one is created."""
    place = place_of(options, environ)
    if place is not None and not options.store:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # conversations are private
    return store_for(place)


def data_dir(environ: Mapping[str, str]) -> Path:
    """Where this command keeps its files. Source: XDG Base Directory Specification 0.8.

    Raises Misuse where nothing says which folder is home.
    """
    given = Path(environ.get("XDG_DATA_HOME") or "")
    if given.is_absolute():
        return given / "allm"
    try:
        return Path.home() / ".local" / "share" / "allm"
    except RuntimeError:
        raise Misuse("there is no home folder to keep files in: set HOME or XDG_DATA_HOME") from None


def begin(store: Store, name: str, system: str | None) -> Session | None:
    """The stored session of that name; None for a new one, which begins with the system message if there is one.

    Raises: StoreError, for a store that cannot be used.
    """
    store.open()
    try:
        stored = store.load(name)
        if stored is None and system is not None:
            store.save([Save(Session(id=name, thread=Thread().add_system(system)))])
        return stored
    finally:
        if not isinstance(store, MemoryStore):
            store.close()


def set_up_log(options: Options) -> None:
    """The supervisors' log goes to stderr with --verbose, and nowhere without."""
    handler = logging.StreamHandler() if options.verbose else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    for name in ("supervisors", "allm_actors"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
