"""`allm sessions`: what a store holds.

Rule of this file: it only reads, and the default store, when it is not there yet, is an empty one.
"""

from __future__ import annotations

from allm_actors.actors.store import Store
from allm_actors.data import Session

from .arguments import Options
from .equipment import place_of, store_of
from .terminal import Terminal
from .transcript import count_text, cut
from .trouble import Misuse

__all__ = ["perform"]


def perform(options: Options, terminal: Terminal) -> int:
    """Print the name of each session."""
    place = place_of(options, terminal.environ)
    if place is not None and options.store and not place.exists():
        raise Misuse(f"there is no store at {place}")
    if place is None or not place.exists():
        terminal.note(f"no sessions: there is no store at {place or 'all, :memory: keeps none'}")
        return 0
    store = store_of(options, terminal.environ)
    store.open()
    try:
        names = store.ids()
        for name in names:
            terminal.say(_line(store, name, terminal) if options.long else name)
    finally:
        store.close()
    if not names:
        terminal.note(f"no sessions in {place}")
    return 0


def _line(store: Store, name: str, terminal: Terminal) -> str:
    session = store.load(name) or Session(id=name)
    said = next(
        (m.content for m in reversed(session.messages) if isinstance(m.content, str) and m.content), ""
    )
    status = terminal.paint(session.status, "red" if session.status == "error" else "green")
    return f"{terminal.paint(name, 'bold')}  {status}  {count_text(session)}  {terminal.paint(cut(said, 60), 'dim')}"
