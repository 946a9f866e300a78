"""Laws of a store of sessions: what was saved is there, whole and under its name, and nobody overwrites another's.

    class TestMyStore(StoreSuite):
        @contextmanager
        def place(self) -> Iterator[Callable[[], Store]]:
            with TemporaryDirectory() as folder:
                yield lambda: MyStore(folder)

Rule of this file: a store is used as a host uses it: opened, asked by one thread at a time, and closed. Laws about what
the protocol leaves to a store are skipped where it has not got it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from msgspec.structs import replace

from allm_actors.actors.host import Host
from allm_actors.actors.store import Save, Store, StoredSession
from allm_actors.data import (
    AdapterError,
    Document,
    DocumentPart,
    Image,
    ImagePart,
    Message,
    Part,
    Session,
    StoreError,
    TextPart,
    Thread,
    ToolCall,
    Usage,
)
from allm_actors.engine.engine import Engine
from allm_actors.testing import script

from .bounded import Bounded
from .made import PDF, pictures_of
from .scenes import SPECIAL, skip, soon

__all__ = ["StoreSuite"]

NAME = "harbour"
NAMES = ["..", "a b", "a/b", "a%2Fb", "A", "a", "a ", " a", "\u00e9", "e\u0301", "São João", "港"]
"""Some differ only in a space, in a capital, or in how a letter with an accent is composed."""
LONG_NAMES = [300 * "x" + end for end in "12"]
_CALL = ToolCall(
    id="c0", name="tides", arguments={"days": [1, 2.5]}, raw_arguments='{"days": [1,2.5]}', metadata={"n": 1}
)
_PARTS: list[Part] = [
    TextPart(text="What is this?", metadata={"of": None}),
    ImagePart(image=Image.from_bytes(pictures_of(1)[0], "image/png"), detail="low"),
    DocumentPart(document=Document.from_bytes(PDF, "application/pdf", "tides")),
]
WHOLE = Session(
    id=NAME,
    thread=Thread(
        messages=[
            Message(role="system", content="".join(SPECIAL), metadata={"kept": True}),
            Message(role="user", content=_PARTS, name="ana"),
            Message(
                role="assistant", content="", metadata={"tool_calls": [_CALL], "usage": Usage(input_tokens=3)}
            ),
            Message(role="tool", content="", tool_call_id="c0"),
        ],
        metadata={"topic": "água"},
    ),
    status="awaiting_user",
    pending_tool_calls=[replace(_CALL, id="c1")],
    pending_question="Which harbour?",
    pending_tool_call_id="c1",
    context={"tenant": {"id": 2**53 + 1, "rate": 0.1 + 0.2, "of": (1, ("a",))}},
    metadata={
        "empty": [],
        "deep": [[{"a": [None, False, 0, ""]}]],
        "bytes": b"\xff\x00",
        "error": AdapterError("rate_limited", provider="corvid", message="later", retry_after_ms=500),
    },
)
"""A session with something in each of its fields; errors, as of a turn that failed, and bytes and tuples among it."""
BARE = Session(id=NAME)
PICTURE = bytes(range(256)) * 400
"""As long as a small photo: 100 kB."""


class StoreSuite(Bounded):
    """Subclass it, and implement `place`."""

    lasts = True
    """Whether what is stored is there when its store was closed, and another one is opened at its place."""
    shared = True
    """Whether several hosts may use one place at the same time."""
    if_it_hangs = (
        "Look at what that method of your store waits for, such as a lock or a connection: it must end"
    )

    def place(self) -> AbstractContextManager[Callable[[], Store]]:
        """An empty place, for the time of a `with` block: a function that makes a store of it, not opened yet."""
        raise NotImplementedError(
            f"{type(self).__name__} needs place(), a context manager of a function that makes a store"
        )

    def test_what_was_saved_is_loaded(self) -> None:
        """All that a session has, and nothing of another."""
        other = _talk("And when is low water?", id="other")
        photo = ImagePart(image=Image.from_bytes(PICTURE, "image/png"))
        large = Thread(messages=[Message(role="user", content=[photo])])
        with self.opened() as (store,):
            store.save([Save(WHOLE), Save(other)])
            _has(store, WHOLE)
            _has(store, other)
            refused = _refusal(lambda: store.save([Save(Session(id="photo", thread=large))]))
            assert refused is None, f"a session with a picture of 100 kB was refused: {refused!r}"
            found = store.load("photo")
            assert found is not None, "a session with a picture of 100 kB was saved, but load() returned None"
            assert found.thread == large, "a picture of 100 kB was saved, but load() returned another one"

    def test_what_was_never_saved_is_none(self) -> None:
        """So a host begins it."""
        with self.opened() as (store,):
            found = store.load("nobody")
        assert found is None, f"there is no session of that name, but load() returned {found!r}"

    def test_what_is_saved_again_takes_the_place_of_what_was(self) -> None:
        """Also where it has become shorter, or something in the middle of it has changed."""
        first, changed = _talk("a", "b", "c"), _talk("a", "B", "c")
        with self.opened() as (store,):
            for each in (first, changed, _talk("a"), WHOLE):
                store.save([Save(each)])
                _has(store, each)

    def test_what_is_kept_stays_and_the_rest_is_replaced(self) -> None:
        """`keep` says how many of the messages the store has already: none of them is lost, and none is there twice.
        It says nothing of the other fields: what changes there, such as the calls that wait for an answer, is stored.
        """
        fields = [name for name in Session.__struct_fields__ if name not in ("id", "thread")]
        with self.opened() as (store,):
            store.save([Save(_talk("a", "b", "c"))])
            for said, keep in (("abcd", 3), ("abcd", 4), ("abX", 2), ("aX", 1)):
                store.save([Save(_talk(*said), keep)])
                _has(store, _talk(*said))
            session = _talk("a", "X")
            for source in (WHOLE, BARE):
                for name in (*fields, "metadata of the thread"):
                    keep = len(session.messages)
                    thread = replace(session.thread, messages=[*session.messages, *_talk(name).messages])
                    if name in fields:
                        session = replace(session, thread=thread, **{name: getattr(source, name)})
                    else:
                        session = replace(session, thread=replace(thread, metadata=source.thread.metadata))
                    store.save([Save(session, keep)])
                    _has(store, session)

    def test_a_save_that_builds_on_what_is_not_there_makes_no_half_session(self) -> None:
        """After a save that failed: refuse it, or store all of it."""
        whole = _talk("a", "b", "c")
        with self.opened() as (store,):
            _refusal(lambda: store.save([Save(whole, 2)]))
            found = store.load(NAME)
        assert found in (None, whole), (
            f"Save(session, keep=2) came to a store that has nothing of the session, and {found!r} was stored: raise "
            'StoreError("corrupt", …), or store session.thread.messages from the first one on'
        )

    def test_several_saves_of_one_session_may_be_in_a_batch(self) -> None:
        """Each builds on the one before."""
        with self.opened() as (store,):
            store.save(
                [
                    Save(_talk("a")),
                    Save(_talk("a", "b"), 1),
                    Save(_talk("x", id="other")),
                    Save(_talk("a", "c"), 1),
                ]
            )
            _has(store, _talk("a", "c"))

    def test_a_batch_is_stored_whole_or_not_at_all(self) -> None:
        """What cannot be stored is refused as `unencodable`: then the host saves the others by themselves."""
        odd = replace(_talk("b", id="odd"), metadata={"it": object()})
        with self.opened() as (store,):
            refused = _refusal(lambda: store.save([Save(_talk("a")), Save(odd)]))
            kept = store.ids()
        if refused is None:
            assert kept == [NAME, "odd"], f"two sessions were saved, but {kept} are stored"
        else:
            assert refused.reason == "unencodable", (
                f'object() cannot be stored: raise StoreError("unencodable", …), not {refused!r}'
            )
            assert kept == [], f"a batch was refused, but {kept} of it is stored: write all of it, or nothing"

    def test_whoever_shares_a_batch_with_a_conflict_is_not_stored_with_it(self) -> None:
        """Whole or not at all; the host then saves each by itself, and those that have no conflict are stored."""
        batch = [_talk("a", id="first"), _talk("x"), _talk("z", id="last")]
        with self.two() as (mine, theirs):
            for session in batch:
                theirs.load(str(session.id))
            mine.save([Save(_talk("a"))])
            _conflicts(theirs, *map(Save, batch))
            kept = mine.ids()
            assert kept == [NAME], (
                f"a batch was refused because of {NAME!r}, which another host has saved, but {kept} are stored: write "
                "all of it, or nothing"
            )
            for session in (batch[0], batch[2]):
                refused = _refusal(partial(theirs.save, [Save(session)]))
                assert refused is None, (
                    f"a session that was in a refused batch was saved again by itself, but save() raised {refused!r}: "
                    "what a refused batch has not written, this store has not seen"
                )
                _has(mine, session)

    def test_a_name_may_have_any_letters(self) -> None:
        """It is a text, not a file's name: those that are not equal are not the same. One of hundreds of letters may be
        refused.
        """
        with self.opened() as (store,):
            for name in NAMES:
                store.save([Save(_talk(f"of {name}", id=name))])
            for name in NAMES:
                _has(store, _talk(f"of {name}", id=name))
            long = [name for name in LONG_NAMES if _takes(store, _talk(f"of {name}", id=name))]
            for name in long:
                _has(store, _talk(f"of {name}", id=name))
            _lists(store, [*NAMES, *long])

    def test_the_names_are_listed(self) -> None:
        """All of them, sorted, each once, and none of those that were deleted."""
        with self.opened() as (store,):
            _lists(store, [])
            store.save([Save(_talk("a", id=name)) for name in ("b", "a", "c")])
            store.save([Save(_talk("a", "b", id="b"), 1)])
            store.delete("c")
            store.load("nobody")
            _lists(store, ["a", "b"])

    def test_a_deleted_session_is_gone(self) -> None:
        """And no other; it may be begun anew, and has nothing of the old one."""
        other = _talk("x", id="other")
        with self.opened() as (store,):
            store.save([Save(_talk("a", "b")), Save(other)])
            for name in (NAME, NAME, "nobody"):
                store.delete(name)
            found = store.load(NAME)
            assert found is None, f"a session was deleted, but load() returned {found!r}"
            _has(store, other)
            store.save([Save(_talk("anew"))])
            _has(store, _talk("anew"))

    def test_what_is_stored_is_there_when_it_is_opened_again(self) -> None:
        """By the same store, or by another one."""
        if not self.lasts:
            skip("what this store has ends with it, as the suite's `lasts` says")
        with self.place() as make:
            first = make()
            for store in (first, first, make()):
                store.open()
                store.save([Save(WHOLE)] if store.load(NAME) is None else [])
                store.close()
                store.open()
                _lists(store, [NAME])
                _has(store, WHOLE)
                store.close()

    def test_what_is_stored_is_there_when_its_store_was_never_closed(self) -> None:
        """As after a crash of the program: `save` returns when it is stored, not before."""
        if not self.lasts:
            skip("what this store has ends with it, as the suite's `lasts` says")
        with self.place() as make, ExitStack() as closing:
            first, second = make(), make()
            first.open()
            closing.callback(first.close)
            first.save([Save(WHOLE)])
            try:
                second.open()
                closing.callback(second.close)
                found = second.load(NAME)
            except Exception as refused:
                if self.shared:
                    raise
                skip(
                    "this store is for one host, as the suite's `shared` says, and a second one cannot be opened at "
                    f"its place, so that what a crash leaves cannot be seen: {refused!r}"
                )
        assert found == WHOLE, (
            f"save() returned, and its store was not closed; another one found {found!r} at its place: write before "
            "save() returns, not in close()"
        )

    def test_closing_is_harmless(self) -> None:
        """Twice, and before it was opened."""
        with self.place() as make:
            store = make()
            store.close()
            store.open()
            store.close()
            store.close()

    def test_a_host_goes_on_with_what_another_has_stored(self) -> None:
        """As after a restart of the program."""
        if not self.lasts:
            skip("what this store has ends with it, as the suite's `lasts` says")
        answers = [[script.text(text), script.finish("stop")] for text in ("At six.", "At noon.")]
        engine = Engine(adapter="fake", adapter_opts={"scripts": answers})
        with self.place() as make:
            for question in ("When is high water?", "And low water?"):
                with Host(store=make()) as host:
                    host.session(NAME, engine).reply(question).result()
            with Host(store=make()) as host:
                said = [message.content for message in host.session(NAME, engine).messages]
        wanted = ["When is high water?", "At six.", "And low water?", "At noon."]
        assert said == wanted, f"two hosts, one after the other, said {wanted}, but a third one found {said}"

    def test_who_has_not_seen_the_last_save_is_refused(self) -> None:
        """Or it would overwrite what another host was told to store."""
        with self.two() as (mine, theirs):
            for store in (mine, theirs):
                store.load(NAME)
            mine.save([Save(_talk("a"))])
            mine.save([Save(_talk("a", "b"), 1)])
            for _ in range(2):  # to try again is not to look again
                _conflicts(theirs, Save(_talk("x")))
            _has(mine, _talk("a", "b"))
            _has(theirs, _talk("a", "b"))
            theirs.save([Save(_talk("a", "b", "c"), 2)])
            _conflicts(mine, Save(_talk("a", "b", "X"), 2))
            _has(theirs, _talk("a", "b", "c"))

    def test_what_another_host_does_with_other_sessions_is_no_conflict(self) -> None:
        """Many hosts, each with sessions of its own."""
        with self.two() as (mine, theirs):
            for store in (mine, theirs):
                store.load(NAME)
                store.load("other")
            mine.save([Save(_talk("a"))])
            theirs.save([Save(_talk("x", id="other"))])
            mine.save([Save(_talk("a", "b"), 1)])
            _has(mine, _talk("a", "b"))
            _has(mine, _talk("x", id="other"))

    def test_who_has_a_deleted_session_is_refused(self) -> None:
        """Whatever was begun under its name: a version that was given once is never given again."""
        for saves in range(4):
            with self.two() as (mine, theirs):
                mine.save([Save(_talk("a"))])
                mine.save([Save(_talk("a", "b"), 1)])
                theirs.load(NAME)
                theirs.delete(NAME)
                for _ in range(saves):
                    theirs.save([Save(_talk("x", "y"))])
                _conflicts(mine, Save(_talk("a", "b", "c"), 2))
                found = theirs.load(NAME)
                assert found == (_talk("x", "y") if saves else None), f"after a conflict {found!r} is stored"

    def test_a_check_finds_what_a_save_would_be_refused_with(self) -> None:
        """`check` is optional."""
        with self.two() as (mine, theirs):
            mine_checks, theirs_checks = (_optional(store, "check") for store in (mine, theirs))
            for store in (mine, theirs):
                store.load(NAME)
            mine.save([Save(_talk("a"))])
            mine_checks(NAME)
            refused = _refusal(lambda: theirs_checks(NAME))
            assert getattr(refused, "reason", None) == "conflict", (
                f"another host has saved it, so check() must raise a conflict, but it raised {refused!r}"
            )
            theirs.load(NAME)
            theirs_checks(NAME)

    def test_who_is_released_can_be_loaded_again(self) -> None:
        """`release` is optional: it says that nobody works with a session, which is stored all the same."""
        with self.opened() as (store,):
            release = _optional(store, "release")
            release("nobody")
            store.save([Save(_talk("a"))])
            release(NAME)
            _has(store, _talk("a"))
            store.save([Save(_talk("a", "b"), 1)])
            _has(store, _talk("a", "b"))

    def test_stored_sessions_are_listed_by_their_last_save(self) -> None:
        """`stored` is optional."""
        began = time.time()
        with self.opened() as (store,):
            stored = _optional(store, "stored")
            for name in ("first", "second", "first", "deleted"):
                session = _answered(name) if name == "second" else _talk("a", id=name)
                store.save([Save(session, 0, "completed" if name == "second" else None)])
                _let_the_clock_move()
            store.delete("deleted")
            lines: list[StoredSession] = stored()
        told = [(line.id, line.status, line.unanswered, line.halted_reason) for line in lines]
        wanted = [("second", "completed", False, "completed"), ("first", "idle", True, None)]
        assert told == wanted, (
            f"stored() must return {wanted}, the session that was saved longest ago first, but returned {told}; "
            "`unanswered` is whether the model's next words are due, as after a user's message"
        )
        times = [line.saved_at for line in lines]
        assert began - 1 <= times[0] <= times[1] <= time.time() + 1, (
            f"saved_at must be time.time() of the last save, but stored() has {times}"
        )

    def test_why_a_turn_ended_is_kept(self) -> None:
        """`halted_reason` is optional: that of the last save, or None."""
        with self.opened() as (store,):
            halted_reason = _optional(store, "halted_reason")
            for reason in ("cancelled", "completed", None):
                store.save([Save(_talk("a"), 0, reason)])
                told = halted_reason(NAME)
                assert told == reason, f"saved with halted_reason={reason!r}, but halted_reason() is {told!r}"
            assert halted_reason("nobody") is None, (
                "halted_reason() of a session that is not stored must be None"
            )

    @contextmanager
    def opened(self, count: int = 1) -> Iterator[list[Store]]:
        """So many stores of one empty place, open."""
        with self.place() as make, ExitStack() as closing:
            stores = [make() for _ in range(count)]
            for store in stores:
                store.open()
                closing.callback(store.close)
            yield stores

    def two(self) -> AbstractContextManager[list[Store]]:
        """Two open stores of one empty place. Skips the law for a store that is for one host."""
        if not self.shared:
            skip("this store is for one host alone, as the suite's `shared` says")
        return self.opened(2)


def _talk(*texts: str, id: str = NAME) -> Session:
    return Session(id=id, thread=Thread.from_messages([Message(role="user", content=text) for text in texts]))


def _answered(id: str) -> Session:
    said = [Message(role="user", content="a"), Message(role="assistant", content="b")]
    return Session(id=id, thread=Thread.from_messages(said), status="completed")


def _takes(store: Store, session: Session) -> bool:
    return _refusal(lambda: store.save([Save(session)])) is None


def _has(store: Store, wanted: Session) -> None:
    found = store.load(str(wanted.id))
    assert found == wanted, f"save() was given {wanted!r}, but load() returned {found!r}"


def _lists(store: Store, wanted: list[str]) -> None:
    found = store.ids()
    assert found == sorted(wanted), f"the sessions {sorted(wanted)} are stored, but ids() returned {found!r}"


def _conflicts(store: Store, *batch: Save) -> None:
    refused = _refusal(lambda: store.save(batch))
    assert getattr(refused, "reason", None) == "conflict", (
        "another host has saved or deleted the session since this store loaded or saved it, so save() must raise "
        f'StoreError("conflict", …), but it raised {refused!r}: compare the version of what is stored with the one '
        "that was seen last"
    )


def _refusal(ask: Callable[[], object]) -> StoreError | None:
    """What a store refuses with, or None. Any other exception is a mistake."""
    try:
        ask()
    except StoreError as refused:
        return refused
    except Exception as error:
        raise AssertionError(
            f"a store must refuse with a StoreError, but it raised {error!r}: the host takes that for a failure of the "
            "whole store, and drops the other sessions of the batch, too"
        ) from error
    return None


def _let_the_clock_move() -> None:
    now = time.time()
    soon(lambda: time.time() > now, 1.0)


def _optional(store: Store, name: str) -> Callable[..., Any]:
    method: Callable[..., Any] | None = getattr(store, name, None)
    if method is None:
        skip(f"the store has no {name}(), which is optional")
    return method
