"""Tests which values the journal of a bucket remembers, and which changes it refuses."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from entrepot.datastore.drivers.objects.journal import (
    ABSENT,
    SHORT,
    UNSETTLED_S,
    BucketJournal,
    Known,
)
from entrepot.datastore.errors import StorageBroken
from tests.clock import Clock

pytestmark = pytest.mark.slow


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the journal."""
    return Clock(1000.0)


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> BucketJournal:
    """Return the empty journal of a bucket."""
    return BucketJournal(tmp_path / "bucket.sqlite", clock)


def _other(journal: BucketJournal) -> BucketJournal:
    """Return the journal as another process opens it."""
    return BucketJournal(journal._path, journal._clock)


def test_a_written_value_is_known_to_all_processes(journal: BucketJournal) -> None:
    """After a write, the journal has the bytes of a short value and the size of a long one.

    A second process reads them from the journal.
    """
    with journal.changing("short", is_removal=False) as change:
        change.written(3, b"abc")
    with journal.changing("long", is_removal=False) as change:
        change.written(SHORT + 1, bytes(SHORT + 1))

    assert _other(journal).known("short") == Known(3, b"abc")
    assert _other(journal).known("long") == Known(SHORT + 1, None)


def test_an_absence_is_forgotten_with_the_first_write(journal: BucketJournal) -> None:
    """After the first write of a value, its absence is no longer remembered.

    The absence is not remembered even if a process requests the value before the write and gets the
    response after the write.
    """
    generation = journal.generation("key")
    journal.learn("key", ABSENT, generation)
    found = journal.known("key")
    assert found is not None
    assert found.is_absent
    with _other(journal).changing("key", is_removal=False) as change:
        assert journal.known("key") is None
        change.written(1, b"a")

    journal.learn("key", ABSENT, generation)

    assert journal.known("key") == Known(1, b"a")


def test_a_value_is_unknown_while_it_changes(journal: BucketJournal) -> None:
    """While a process changes a value, the journal has no value for the key.

    If another process has read the old value before the change, the journal does not remember that
    value.
    """
    other = _other(journal)
    generation = other.generation("key")
    other.learn("key", Known(1, b"a"), generation)
    with journal.changing("key", is_removal=False) as change:
        assert other.known("key") is None
        other.learn("key", Known(1, b"a"), other.generation("key"))
        assert other.known("key") is None
        change.written(1, b"b")
        other.learn("key", Known(1, b"a"), generation)

    assert other.known("key") == Known(1, b"b")


def test_two_writes_at_once_leave_the_value_unknown(journal: BucketJournal) -> None:
    """If two processes write a value at the same time, the journal remembers neither value.

    After the next read of the bucket, the journal remembers the value.
    """
    with journal.changing("key", is_removal=False) as first:
        with _other(journal).changing("key", is_removal=False) as second:
            second.written(1, b"b")
        assert journal.known("key") is None
        first.written(1, b"a")

    assert journal.known("key") is None
    generation = journal.generation("key")
    journal.learn("key", Known(1, b"b"), generation)
    assert journal.known("key") == Known(1, b"b")


def test_a_removed_value_is_unknown(journal: BucketJournal) -> None:
    """If a process has read a value before its removal, the journal does not remember the value."""
    generation = journal.generation("key")
    with journal.changing("key", is_removal=True) as change:
        change.not_written()

    journal.learn("key", Known(1, b"a"), generation)

    assert journal.known("key") is None


@pytest.mark.parametrize("is_removal", [False, True])
def test_after_a_removal_without_an_answer_a_key_cannot_be_changed(
    journal: BucketJournal, clock: Clock, *, is_removal: bool
) -> None:
    """If a removal gets no response, its key cannot be changed for 16 minutes.

    The bucket may still apply the removal, and would then remove a new value.
    """
    with journal.changing("key", is_removal=True):
        pass
    clock.now += UNSETTLED_S - 1

    with (
        pytest.raises(StorageBroken, match="retry in 1 s"),
        _other(journal).changing("key", is_removal=is_removal),
    ):
        pytest.fail("the change began")
    with journal.changing("other", is_removal=is_removal) as change:
        change.not_written()
    clock.now += 2
    with journal.changing("key", is_removal=is_removal) as change:
        change.written(1, b"a")
    assert journal.known("key") == Known(1, b"a")


def test_after_a_write_without_an_answer_the_value_is_not_remembered(
    journal: BucketJournal, clock: Clock
) -> None:
    """If a write gets no response, values of its key are not remembered for 16 minutes.

    The bucket may still apply the write.
    """
    with journal.changing("key", is_removal=False):
        pass
    with journal.changing("key", is_removal=False) as change:
        change.written(1, b"b")
    assert journal.known("key") is None
    journal.learn("key", Known(1, b"b"), journal.generation("key"))
    assert journal.known("key") is None

    clock.now += UNSETTLED_S + 1

    journal.learn("key", Known(1, b"b"), journal.generation("key"))
    assert journal.known("key") == Known(1, b"b")


def test_after_another_owner_nothing_is_known(journal: BucketJournal) -> None:
    """`clear` deletes all remembered values, for example after another appliance was the owner.

    Removals that got no response stay recorded.
    """
    with journal.changing("key", is_removal=False) as change:
        change.written(1, b"a")
    with journal.changing("gone", is_removal=True):
        pass

    journal.clear()

    assert journal.known("key") is None
    with pytest.raises(StorageBroken), journal.changing("gone", is_removal=False):
        pytest.fail("the change began")


def test_a_damaged_journal_begins_anew(tmp_path: Path, clock: Clock) -> None:
    """If the file of the journal is damaged, an empty file replaces it; changes are possible."""
    path = tmp_path / "bucket.sqlite"
    path.write_bytes(b"no database" * 1000)
    journal = BucketJournal(path, clock)

    assert journal.known("key") is None
    with journal.changing("key", is_removal=False) as change:
        change.written(1, b"a")
    assert journal.known("key") == Known(1, b"a")


def test_an_unusable_journal_refuses_changes_and_knows_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    """If a process cannot open the journal of the bucket, it refuses to change values.

    The journal would not record the change, so another process would continue to serve the old
    value from the journal.
    """
    (tmp_path / "folder").mkdir()
    journal = BucketJournal(tmp_path / "folder", clock)

    assert journal.known("key") is None
    journal.learn("key", Known(1, b"a"), journal.generation("key"))
    with pytest.raises(StorageBroken), journal.changing("key", is_removal=False):
        pytest.fail("the change began")


def test_only_a_bounded_number_of_bytes_is_remembered(
    journal: BucketJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the journal becomes too large, it deletes its oldest values."""
    monkeypatch.setattr("entrepot.datastore.drivers.objects.journal._MOST_BYTES", 1024 * 1024)
    for number in range(300):
        with journal.changing(f"key{number}", is_removal=False) as change:
            change.written(8000, bytes(8000))

    known = [number for number in range(300) if journal.known(f"key{number}")]

    assert known == list(range(min(known), 300))
    assert min(known) > 0


def test_a_forked_process_uses_a_connection_of_its_own(journal: BucketJournal) -> None:
    """A forked process opens its own connection to the SQLite file of the journal."""
    with journal.changing("key", is_removal=False) as change:
        change.written(1, b"a")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(journal.known("key") == Known(1, b"a")))
    child.start()
    child.join(60)

    assert queue.get() is True
    assert sqlite3.threadsafety


# ---- names below a folder


def _learn(journal: BucketJournal, folder: str, *names: str) -> None:
    journal.learn_names(folder, list(names), journal.generation(folder))


def test_a_write_adds_its_name_to_each_listed_folder(journal: BucketJournal) -> None:
    """After a folder was listed, a write adds the value's name to the folder's remembered names.

    All processes read these names from the journal, in byte order.
    """
    other = _other(journal)
    assert other.names("a") is None
    _learn(journal, "a", "b", "x")
    _learn(journal, "a/b")

    with journal.changing("a/Z/key", is_removal=False) as change:
        change.written(1)
    with journal.changing("a/b/key", is_removal=False) as change:
        change.written(1)

    assert other.names("a") == ["Z", "b", "x"]
    assert other.names("a/b") == ["key"]
    assert other.names("a/Z") is None


def test_a_removal_forgets_the_folders_above(journal: BucketJournal) -> None:
    """A removal deletes the remembered names of the folders above its key, and no other names."""
    for folder in ("a", "a/b", "c"):
        _learn(journal, folder, "b")

    with journal.changing("a/b/key", is_removal=True) as change:
        _learn(journal, "a", "b")  # The bucket has not applied the removal yet.
        change.removed()

    assert (journal.names("a"), journal.names("a/b"), journal.names("c")) == (None, None, ["b"])
    assert journal.known("a/b/key") == ABSENT


def test_names_that_were_listed_during_a_write_are_not_remembered(journal: BucketJournal) -> None:
    """If a folder is listed while a value in it is written, the names are not remembered.

    The listed names may lack the name of the written value.
    """
    generation = journal.generation("a")
    with journal.changing("a/key", is_removal=False) as change:
        change.written(1)
    journal.learn_names("a", [], generation)
    assert journal.names("a") is None

    with journal.changing("a/key", is_removal=False) as change:
        journal.learn_names("a", [], journal.generation("a"))
        change.written(1)
    assert journal.names("a") is None


def test_a_write_without_an_answer_makes_the_names_unknown(
    journal: BucketJournal, clock: Clock
) -> None:
    """After a write without a response, the names in its folder are not remembered any more.

    If the process was killed during the write, they are forgotten two minutes later.
    """
    _learn(journal, "a", "b")
    with pytest.raises(StorageBroken), journal.changing("a/key", is_removal=False):
        raise StorageBroken("no answer")
    assert journal.names("a") is None

    _learn(journal, "c", "b")
    killed = journal.changing("c/key", is_removal=False)
    killed.__enter__()
    assert journal.names("c") == ["b"]
    clock.now += 121.0
    assert journal.names("c") is None


def test_a_folder_with_very_many_names_is_listed_each_time(journal: BucketJournal) -> None:
    """If a folder has more than 10,000 names, the journal does not remember them."""
    _learn(journal, "a", *(str(number) for number in range(10_001)))

    assert journal.names("a") is None


def test_requests_without_an_answer_leave_no_rows_for_ever(
    journal: BucketJournal, clock: Clock
) -> None:
    """The row of a write without a response is deleted when the bucket cannot apply it any more.

    If the rows stayed, an outage of the bucket that lasts for days would fill the state directory.
    """
    for number in range(10):
        with pytest.raises(StorageBroken), journal.changing(f"{number}", is_removal=False):
            raise StorageBroken("no answer")
    clock.now += UNSETTLED_S + 1

    with _other(journal).changing("key", is_removal=False) as change:
        change.written(1, b"a")

    with closing(sqlite3.connect(journal._path)) as db:
        assert db.execute("SELECT count(*) FROM change").fetchone() == (0,)
