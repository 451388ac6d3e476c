"""Tests of `BoundedDict`, a dictionary with a bounded number of entries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from entrepot.runtime.bounded_dict import BoundedDict


def test_the_entry_that_was_kept_first_is_dropped() -> None:
    """A full `BoundedDict` drops its oldest entry for a new entry; reads do not change the age."""
    entries: BoundedDict[str, int] = BoundedDict(2)
    entries.keep("a", 1)
    entries.keep("b", 2)
    assert entries.get("a") == 1

    entries.keep("c", 3)

    assert dict(entries) == {"b": 2, "c": 3}


def test_an_entry_that_is_kept_again_is_dropped_last() -> None:
    """An entry that is set again becomes the newest entry."""
    entries: BoundedDict[str, int] = BoundedDict(2)
    entries.keep("a", 1)
    entries.keep("b", 2)
    entries.keep("a", 10)

    entries.keep("c", 3)

    assert dict(entries) == {"a": 10, "c": 3}


def test_a_changed_entry_drops_no_other() -> None:
    """If an existing key gets a new value, no entry is dropped."""
    entries: BoundedDict[str, int] = BoundedDict(2)
    entries.keep("a", 1)
    entries.keep("b", 2)

    entries.keep("b", 20)

    assert dict(entries) == {"a": 1, "b": 20}


def test_threads_may_keep_entries_at_once() -> None:
    """Even after four threads have added entries at the same time, no more than three remain."""
    entries: BoundedDict[int, int] = BoundedDict(3)

    def keep_many(first: int) -> None:
        for number in range(2000):
            entries.keep(first + number % 7, number)

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(keep_many, first) for first in range(4)]:
            each.result()
    entries.keep(99, 0)

    assert len(entries) == 3
