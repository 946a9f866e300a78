"""Our stores keep the laws of stores; and each mistake that is planted in a store makes a law fail, in words."""

import itertools
import threading
import time
import unicodedata
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

import msgspec
import pytest

import allm_actors as allm
from allm_actors.actors.store import MemoryStore, SQLiteStore, StoredSession
from allm_actors.testing.conformance import StoreSuite

replace = msgspec.structs.replace


class TestMemory(StoreSuite):
    lasts = shared = False

    @contextmanager
    def place(self):
        yield MemoryStore


class TestSQLite(StoreSuite):
    @contextmanager
    def place(self):
        with TemporaryDirectory() as folder:
            yield lambda: SQLiteStore(Path(folder) / "s.db")


class Place:
    """Rows by name: version, bytes, time, halted reason; no version is given twice."""

    def __init__(self):
        self.rows, self.versions = {}, itertools.count(1)


class Right:
    """Keeps every law."""

    def __init__(self, place):
        self.rows, self.versions, self.seen = place.rows, place.versions, {}

    def open(self):
        self.seen.clear()

    def close(self):
        self.seen.clear()

    def load(self, id):
        self.seen[id] = self.version(id)
        return self.read(id) if id in self.rows else None

    def read(self, id):
        return allm.from_msgpack(self.rows[id][1])

    def version(self, id):
        return self.rows[id][0] if id in self.rows else 0

    def check(self, id):
        if self.version(id) != self.seen.get(id, 0):
            raise allm.StoreError("conflict", message="somebody else has saved it")

    def save(self, batch):
        made = [(save.session.id, self.bytes_of(save), save.halted_reason) for save in batch]
        for id, *_ in made:
            self.check(id)
        for id, data, reason in made:
            self.write(id, data, reason)

    def write(self, id, data, reason):
        self.rows[id] = (next(self.versions), data, time.time(), reason)
        self.seen[id] = self.version(id)

    def bytes_of(self, save):
        try:
            return allm.to_msgpack(save.session)
        except TypeError as error:
            raise allm.StoreError("unencodable", message=str(error)) from error

    def delete(self, id):
        self.rows.pop(id, None)
        self.seen.pop(id, None)

    def ids(self):
        return sorted(self.rows)

    def release(self, id):
        self.seen.pop(id, None)

    def stored(self):
        lines = [self.line(id, at, reason) for id, (_, _, at, reason) in self.rows.items()]
        return sorted(lines, key=lambda line: line.saved_at)

    def line(self, id, at, reason):
        session = self.read(id)
        waits = session.messages[-1].role in ("user", "tool")
        return StoredSession(
            id=id, saved_at=at, unanswered=waits, status=session.status, halted_reason=reason
        )

    def halted_reason(self, id):
        return self.rows[id][3] if id in self.rows else None


def suite_of(store, **fields):
    class Suite(StoreSuite):
        @contextmanager
        def place(self):
            rows = Place()
            yield lambda: store(rows)

    return type("Suite", (Suite,), fields)()


class TestRight(type(suite_of(Right))):
    pass


class Changes(Right):
    """What it is given."""

    def bytes_of(self, save):
        return super().bytes_of(replace(save, session=self.changed(save.session)))


class LosesMetadata(Changes):
    """A session is its messages."""

    def changed(self, session):
        return replace(session, metadata={})


class LosesTools(Changes):
    """A conversation is what was said."""

    def changed(self, session):
        said = [message for message in session.messages if message.role != "tool"]
        return replace(session, thread=replace(session.thread, messages=said))


class KeepsItsHeader(Right):
    """Where there is something to keep, only messages are written."""

    fields = frozenset(allm.Session.__struct_fields__)

    def bytes_of(self, save):
        id = save.session.id
        if not save.keep or id not in self.rows:
            return super().bytes_of(save)
        old, fields = self.read(id), self.fields - {"thread"}
        kept = {name: getattr(old, name) for name in fields}
        return super().bytes_of(replace(save, session=replace(save.session, **kept)))


class KeepsAllButItsStatus(KeepsItsHeader):
    """The status is written, too."""

    fields = KeepsItsHeader.fields - {"status"}


class KeepsTheTopic(KeepsItsHeader):
    """What the thread has besides its messages."""

    def bytes_of(self, save):
        if not save.keep or save.session.id not in self.rows:
            return super().bytes_of(save)
        thread = replace(save.session.thread, metadata=self.read(save.session.id).thread.metadata)
        return Right.bytes_of(self, replace(save, session=replace(save.session, thread=thread)))


class HasNoBytes(Changes):
    """Its metadata are JSON."""

    def changed(self, session):
        def plain(value):
            return value.decode("latin-1") if isinstance(value, bytes) else value

        return replace(session, metadata={name: plain(value) for name, value in session.metadata.items()})


class HasSmallColumns(Right):
    """Of 64 kB."""

    def bytes_of(self, save):
        data = super().bytes_of(save)
        if len(data) > 0xFFFF:
            raise allm.StoreError("unavailable", message="it is too long for its column")
        return data


class CutsPictures(HasSmallColumns):
    """Of what is too long, the rest is lost."""

    def bytes_of(self, save):
        try:
            return super().bytes_of(save)
        except allm.StoreError:
            return super().bytes_of(replace(save, session=replace(save.session, thread=allm.Thread())))


class RaisesForNobody(Right):
    """Who asks should know."""

    def load(self, id):
        if id not in self.rows:
            raise KeyError(id)
        return super().load(id)


class KeepsTheFirst(Right):
    """What is stored is stored."""

    def write(self, id, data, reason):
        if id not in self.rows:
            super().write(id, data, reason)


class Appends(Right):
    """What is new is what was not there."""

    kept = False

    def bytes_of(self, save):
        had = [] if save.session.id not in self.rows else self.read(save.session.id).messages
        said = self.joined(had, save)
        return super().bytes_of(
            replace(save, session=replace(save.session, thread=allm.Thread(messages=said)))
        )


class AppendsTwice(Appends):
    """To all that is there."""

    def joined(self, had, save):
        return [*had, *save.session.messages[save.keep :]]


class KeepsWhatIsNotThere(Appends):
    """It takes `keep` at its word."""

    def joined(self, had, save):
        return [*had[: save.keep], *save.session.messages[save.keep :]]


class TakesOneSaveOfABatch(Right):
    """The first of each session."""

    def save(self, batch):
        super().save([*{save.session.id: save for save in reversed(batch)}.values()])


class StoresHalfABatch(Right):
    """As far as it comes."""

    def save(self, batch):
        for save in batch:
            super().save([save])


class StoresTheRestOfABatch(Right):
    """All but the one that has a conflict."""

    def save(self, batch):
        refusals = []
        for save in batch:
            try:
                super().save([save])
            except allm.StoreError as refused:
                refusals.append(refused)
        if refusals:
            raise refusals[0]


class BelievesItHasWritten(Right):
    """What it has seen is not taken back with what it has written."""

    def save(self, batch):
        try:
            super().save(batch)
        except allm.StoreError as refused:
            if refused.reason == "conflict":
                self.seen |= {save.session.id: 10**6 for save in batch[:1]}
            raise


class WritesAtItsEnd(Right):
    """A program that crashes has stored nothing."""

    def __init__(self, place):
        super().__init__(place)
        self.place, self.rows = place, {}

    def open(self):
        super().open()
        self.rows = dict(self.place.rows)

    def close(self):
        self.place.rows.update(self.rows)
        super().close()


class RaisesAsItComes(Right):
    """A `TypeError`, for which the host has to drop the whole batch."""

    def bytes_of(self, save):
        return allm.to_msgpack(save.session)


class RefusesWithAnyReason(Right):
    """So the host tries none of the others."""

    def bytes_of(self, save):
        try:
            return super().bytes_of(save)
        except allm.StoreError as error:
            raise allm.StoreError("unavailable", message=str(error)) from None


class TakesNamesForPaths(Right):
    """Of which there are two for one file, on some systems."""

    def key_of(self, id):
        return id.lower()

    def load(self, id):
        found = super().load(self.key_of(id))
        return found and replace(found, id=id)

    def write(self, id, data, reason):
        super().write(self.key_of(id), data, reason)

    def check(self, id):
        super().check(self.key_of(id))


class ComposesAccents(TakesNamesForPaths):
    """As some file systems do."""

    def key_of(self, id):
        return unicodedata.normalize("NFC", id)


class StripsNames(TakesNamesForPaths):
    """As the columns of some databases."""

    def key_of(self, id):
        return id.rstrip(" ")


class CutsNames(TakesNamesForPaths):
    """After 64 letters."""

    def key_of(self, id):
        return id[:64]


class RefusesLongNames(Right):
    """Which is allowed."""

    def check(self, id):
        if len(id) > 255:
            raise allm.StoreError("unencodable", message="its name is too long")
        super().check(id)


class TestRefusesLongNames(type(suite_of(RefusesLongNames))):
    pass


class ListsNothing(Right):
    def ids(self):
        return []


class ListsAsTheyCame(Right):
    def ids(self):
        return [*self.rows]


class NeverDeletes(Right):
    def delete(self, id):
        pass


class DeletesAll(Right):
    def delete(self, id):
        self.rows.clear()


class MindsDeletingTwice(Right):
    def delete(self, id):
        del self.rows[id]


class ForgetsAtItsEnd(Right):
    def close(self):
        self.rows.clear()


class MindsClosingTwice(Right):
    def close(self):
        del self.opened

    def open(self):
        self.opened = True


class SeesNoConflict(Right):
    def check(self, id):
        pass


class LosesItsPlaceAfterAConflict(Right):
    """It has written before it has looked."""

    def save(self, batch):
        try:
            super().save(batch)
        except allm.StoreError:
            for save in batch:
                self.rows[save.session.id] = (self.version(save.session.id), self.bytes_of(save), 0.0, None)
            raise


class ForgivesTheSecondTry(Right):
    """Who was refused once has looked."""

    def check(self, id):
        try:
            super().check(id)
        finally:
            self.seen[id] = self.version(id)


class HasOneVersionForAll(Right):
    """Whoever saves anything conflicts with all others."""

    def version(self, id):
        return max((row[0] for row in self.rows.values()), default=0)


class CountsFromOne(Right):
    """So who waits long enough finds the version that it has."""

    def write(self, id, data, reason):
        self.rows[id] = (self.version(id) + 1, data, time.time(), reason)
        self.seen[id] = self.version(id)


class ChecksNothing(Right):
    def save(self, batch):
        for save in batch:
            super().check(save.session.id)
        checked, self.check = self.check, lambda _: None
        try:
            super().save(batch)
        finally:
            self.check = checked

    def check(self, id):
        pass


class ReleasesForGood(Right):
    def release(self, id):
        self.rows.pop(id, None)


class ListsByName(Right):
    def stored(self):
        return sorted(super().stored(), key=lambda line: line.id)


class TellsWhenItWasBegun(Right):
    def write(self, id, data, reason):
        at = self.rows[id][2] if id in self.rows else time.time()
        super().write(id, data, reason)
        self.rows[id] = (self.version(id), data, at, reason)


class TellsThatAllWait(Right):
    def line(self, id, at, reason):
        return replace(super().line(id, at, reason), unanswered=True)


class ListsWhatItHasSeen(Right):
    def ids(self):
        return [id for id in super().ids() if id in self.seen]


class TellsMilliseconds(Right):
    def line(self, id, at, reason):
        return super().line(id, at * 1000, reason)


class KeepsAReason(Right):
    def write(self, id, data, reason):
        super().write(id, data, reason or self.halted_reason(id))


class KeepsNothing(Right):
    def save(self, batch):
        pass


SHARED_BATCH = "test_whoever_shares_a_batch_with_a_conflict_is_not_stored_with_it"
TABLE = [
    (KeepsNothing, "test_what_was_saved_is_loaded", r"load\(\) returned None"),
    (LosesMetadata, "test_what_was_saved_is_loaded", r"but load\(\) returned"),
    (LosesTools, "test_what_was_saved_is_loaded", r"but load\(\) returned"),
    (KeepsTheFirst, "test_what_is_saved_again_takes_the_place_of_what_was", r"but load\(\) returned"),
    (AppendsTwice, "test_what_is_kept_stays_and_the_rest_is_replaced", r"but load\(\) returned"),
    (KeepsWhatIsNotThere, "test_a_save_that_builds_on_what_is_not_there_makes_no_half_session", "keep=2"),
    (KeepsItsHeader, "test_what_is_kept_stays_and_the_rest_is_replaced", r"but load\(\) returned"),
    (KeepsAllButItsStatus, "test_what_is_kept_stays_and_the_rest_is_replaced", r"but load\(\) returned"),
    (KeepsTheTopic, "test_what_is_kept_stays_and_the_rest_is_replaced", r"but load\(\) returned"),
    (HasNoBytes, "test_what_was_saved_is_loaded", r"but load\(\) returned"),
    (HasSmallColumns, "test_what_was_saved_is_loaded", "picture of 100 kB was refused"),
    (CutsPictures, "test_what_was_saved_is_loaded", r"load\(\) returned another one"),
    (TakesOneSaveOfABatch, "test_several_saves_of_one_session_may_be_in_a_batch", r"but load\(\) returned"),
    (StoresHalfABatch, "test_a_batch_is_stored_whole_or_not_at_all", r"\['harbour'\] of it is stored"),
    (
        RefusesWithAnyReason,
        "test_a_batch_is_stored_whole_or_not_at_all",
        'raise StoreError\\("unencodable", …',
    ),
    (RaisesAsItComes, "test_a_batch_is_stored_whole_or_not_at_all", "must refuse with a StoreError"),
    (StoresHalfABatch, SHARED_BATCH, r"but \['first', 'harbour'\] are stored"),
    (StoresTheRestOfABatch, SHARED_BATCH, r"but \['first', 'harbour', 'last'\] are stored"),
    (BelievesItHasWritten, SHARED_BATCH, "this store has not seen"),
    (ComposesAccents, "test_a_name_may_have_any_letters", r"but load\(\) returned"),
    (StripsNames, "test_a_name_may_have_any_letters", r"but load\(\) returned"),
    (CutsNames, "test_a_name_may_have_any_letters", r"but load\(\) returned"),
    (TakesNamesForPaths, "test_a_name_may_have_any_letters", r"but load\(\) returned"),
    (ListsNothing, "test_the_names_are_listed", r"ids\(\) returned \[\]"),
    (ListsAsTheyCame, "test_the_names_are_listed", r"ids\(\) returned \['b', 'a'\]"),
    (NeverDeletes, "test_a_deleted_session_is_gone", "was deleted, but"),
    (DeletesAll, "test_a_deleted_session_is_gone", r"but load\(\) returned None"),
    (ForgetsAtItsEnd, "test_what_is_stored_is_there_when_it_is_opened_again", r"ids\(\) returned \[\]"),
    (ListsWhatItHasSeen, "test_what_is_stored_is_there_when_it_is_opened_again", r"ids\(\) returned \[\]"),
    (
        WritesAtItsEnd,
        "test_what_is_stored_is_there_when_its_store_was_never_closed",
        r"found None .* not in close",
    ),
    (ForgetsAtItsEnd, "test_a_host_goes_on_with_what_another_has_stored", r"found \[\]"),
    (SeesNoConflict, "test_who_has_not_seen_the_last_save_is_refused", 'raise StoreError\\("conflict"'),
    (ForgivesTheSecondTry, "test_who_has_not_seen_the_last_save_is_refused", 'raise StoreError\\("conflict"'),
    (LosesItsPlaceAfterAConflict, "test_who_has_not_seen_the_last_save_is_refused", r"but load\(\) returned"),
    (CountsFromOne, "test_who_has_a_deleted_session_is_refused", 'raise StoreError\\("conflict"'),
    (ChecksNothing, "test_a_check_finds_what_a_save_would_be_refused_with", r"it raised None"),
    (ReleasesForGood, "test_who_is_released_can_be_loaded_again", r"but load\(\) returned None"),
    (ListsByName, "test_stored_sessions_are_listed_by_their_last_save", "saved longest ago first"),
    (TellsWhenItWasBegun, "test_stored_sessions_are_listed_by_their_last_save", "saved longest ago first"),
    (TellsThatAllWait, "test_stored_sessions_are_listed_by_their_last_save", "model's next words are due"),
    (TellsMilliseconds, "test_stored_sessions_are_listed_by_their_last_save", r"must be time\.time\(\)"),
    (KeepsAReason, "test_why_a_turn_ended_is_kept", r"halted_reason\(\) is 'completed'"),
]
RAISING = [
    (RaisesForNobody, "test_what_was_never_saved_is_none", KeyError),
    (MindsDeletingTwice, "test_a_deleted_session_is_gone", KeyError),
    (MindsClosingTwice, "test_closing_is_harmless", AttributeError),
    (HasOneVersionForAll, "test_what_another_host_does_with_other_sessions_is_no_conflict", allm.StoreError),
]


def names_of(rows):
    return [f"{store.__name__}-{law.removeprefix('test_')}" for store, law, _ in rows]


@pytest.mark.parametrize(("store", "law", "says"), TABLE, ids=names_of(TABLE))
def test_a_planted_store_fails_its_law_and_is_told_what_to_do(store, law, says):
    with pytest.raises(AssertionError, match=says):
        getattr(suite_of(store), law)()


@pytest.mark.parametrize(("store", "law", "raises"), RAISING, ids=names_of(RAISING))
def test_a_planted_store_that_raises_fails_its_law(store, law, raises):
    with pytest.raises(raises):
        getattr(suite_of(store), law)()


def test_every_law_of_stores_is_broken_by_something_planted():
    laws = {name for name in vars(StoreSuite) if name.startswith("test_")}
    assert laws == {law for _, law, _ in (*TABLE, *RAISING)}


@pytest.mark.parametrize(
    ("fields", "law", "says"),
    [
        ({"lasts": False}, "test_what_is_stored_is_there_when_it_is_opened_again", "`lasts`"),
        ({"lasts": False}, "test_what_is_stored_is_there_when_its_store_was_never_closed", "`lasts`"),
        ({"lasts": False}, "test_a_host_goes_on_with_what_another_has_stored", "`lasts`"),
        ({"shared": False}, "test_who_has_not_seen_the_last_save_is_refused", "`shared`"),
        ({}, "test_who_is_released_can_be_loaded_again", r"no release\(\), which is optional"),
        ({}, "test_stored_sessions_are_listed_by_their_last_save", r"no stored\(\), which is optional"),
        ({}, "test_why_a_turn_ended_is_kept", r"no halted_reason\(\), which is optional"),
        ({}, "test_a_check_finds_what_a_save_would_be_refused_with", r"no check\(\), which is optional"),
    ],
)
def test_what_a_store_has_not_got_is_skipped(fields, law, says):
    class Plain:
        """The methods that every store has."""

        def __init__(self, place):
            right = Right(place)
            for name in ("open", "load", "save", "delete", "ids", "close"):
                setattr(self, name, getattr(right, name))

    with pytest.raises(SkipTest, match=says):
        getattr(suite_of(Plain, **fields), law)()


def test_what_a_crash_leaves_is_skipped_where_one_host_locks_its_place():
    class OpenOnce(Right):
        """By one at a time."""

        def open(self):
            if vars(self.place).setdefault("user", self) is not self:
                raise allm.StoreError("locked", message="somebody else has it open")

        def __init__(self, place):
            super().__init__(place)
            self.place = place

    law = "test_what_is_stored_is_there_when_its_store_was_never_closed"
    with pytest.raises(SkipTest, match=r"for one host.*cannot be seen: StoreError\('locked'"):
        getattr(suite_of(OpenOnce, shared=False), law)()
    with pytest.raises(allm.StoreError, match="somebody else has it open"):
        getattr(suite_of(OpenOnce), law)()


def test_a_store_that_never_ends_fails_its_law():
    let_go = threading.Event()

    class Waits(Right):
        def load(self, id):
            let_go.wait()

    try:
        with pytest.raises(
            AssertionError,
            match=r"hangs: after 0\.1 s .* in test_store_suites\.py, line \d+: let_go.*that method of your store",
        ):
            suite_of(Waits, limit=0.1).test_what_was_never_saved_is_none()
    finally:
        let_go.set()
