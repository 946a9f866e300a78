"""`allm sessions`: what a store holds.

Rule of this file: it only reads; if the default store does not exist yet, it counts as empty. A session
that cannot be read does not hide the others.
"""

from __future__ import annotations

from allm_actors.actors.store import SQLiteStore, Store
from allm_actors.data import Session, StoreError

from .arguments import Options
from .equipment import place_of
from .terminal import Terminal
from .transcript import count_text, cut
from .trouble import Misuse, line

__all__ = ["perform"]


def perform(options: Options, terminal: Terminal) -> int:
    """Print the name of each session. 1 when one of them cannot be read."""
    place = place_of(options, terminal.environ)
    if place is not None and options.store and not place.exists():
        raise Misuse(f"there is no store at {place}")
    if place is None or not place.exists():
        terminal.note(f"no sessions: there is no store at {place or 'all, :memory: keeps none'}")
        return 0
    store = SQLiteStore(place, read_only=True)
    store.open()
    try:
        names = store.ids()
        unread = _list_long(store, names, terminal) if options.long else _list(names, terminal)
    finally:
        store.close()
    if not names:
        terminal.note(f"no sessions in {place}")
    for error in unread:
        terminal.complain(line(error))
    return 1 if unread else 0


def _list(names: list[str], terminal: Terminal) -> list[StoreError]:
    for name in names:
        terminal.say(terminal.name(name))
    return []


def _list_long(store: Store, names: list[str], terminal: Terminal) -> list[StoreError]:
    """Print a line for each session. Returns the errors of those that cannot be read."""
    unread = []
    for name in names:
        try:
            text = _line(store, name, terminal)
        except StoreError as error:
            if error.reason not in ("corrupt", "newer_schema"):
                raise
            unread.append(error)
            text = f"{terminal.paint(terminal.name(name), 'bold')}  {terminal.paint(error.reason, 'red')}"
        terminal.say(text)
    return unread


def _line(store: Store, name: str, terminal: Terminal) -> str:
    session = store.load(name) or Session(id=name)
    said = next(
        (m.content for m in reversed(session.messages) if isinstance(m.content, str) and m.content), ""
    )
    status = terminal.paint(session.status, "red" if session.status == "error" else "green")
    name = terminal.paint(terminal.name(name), "bold")
    return f"{name}  {status}  {count_text(session)}  {terminal.paint(cut(said, 60), 'dim')}"
