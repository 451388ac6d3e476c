"""Tests of `in_threads`, which runs the threads of a migration."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from entrepot.appliance.migrate.workers import in_threads


def _unused() -> None:
    raise AssertionError("nothing failed")


def test_results_come_in_the_order_of_the_items() -> None:
    """The results of the threads come in the order of the items, even if the first item is slow."""
    first_waits = threading.Event()

    def act(item: int) -> int:
        if item == 0:
            first_waits.wait(60)
        if item == 3:
            first_waits.set()
        return item * 2

    assert list(in_threads(range(10), act, threads=4, abort=_unused)) == [*range(0, 20, 2)]


def test_only_a_few_items_are_read_ahead() -> None:
    """Few items are read ahead of the threads, so memory does not grow with the number of items."""
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1_000):
            read.append(number)
            yield number

    results = in_threads(items(), lambda item: item, threads=2, abort=_unused)
    next(results)

    assert len(read) <= 8
    assert sum(1 for _ in results) == 999


def test_a_failure_aborts_the_running_calls() -> None:
    """If one call fails, the calls of the other threads are aborted, and the failure is raised."""
    aborted = threading.Event()

    def act(item: int) -> None:
        if item == 0:
            raise ValueError("failed")
        assert aborted.wait(60)

    with pytest.raises(ValueError, match="failed"):
        list(in_threads(range(3), act, threads=3, abort=aborted.set))

    assert aborted.is_set()
