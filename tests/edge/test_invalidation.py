"""Tests of `Invalidation`, through which a worker notices changed files and new cache epochs."""

from __future__ import annotations

import threading

from entrepot.edge.invalidation import Invalidation


class File:
    """A watched file in memory, such as htpasswd; `refresh` adds `unseen` to `generation`."""

    def __init__(self) -> None:
        self.generation = 1
        self.unseen = 0
        self.refreshes = 0

    def refresh(self) -> None:
        """Count the call, and apply the change that the test has made."""
        self.refreshes += 1
        self.generation += self.unseen
        self.unseen = 0


class FakeEpoch:
    """A cache epoch in memory; `retries` counts the calls of `retry`."""

    def __init__(self) -> None:
        self.value = 1
        self.retries = 0

    def now(self) -> str:
        """Return the cache epoch as text."""
        return str(self.value)

    def increment(self) -> None:
        """Raise the cache epoch by one."""
        self.value += 1

    def retry(self) -> None:
        """Count the call, without sending anything to HAProxy."""
        self.retries += 1


def _watching(*files: File) -> tuple[Invalidation, FakeEpoch]:
    epoch = FakeEpoch()
    invalidation = Invalidation(epoch)
    for file in files:
        invalidation.watch(file)
    invalidation.epoch()
    return invalidation, epoch


def test_a_change_raises_the_epoch_once() -> None:
    """If a file changes, the worker raises the cache epoch once.

    Each poll also calls `retry`, which sends HAProxy an epoch that it has not received yet.
    """
    quiet, changed = File(), File()
    invalidation, epoch = _watching(quiet, changed)
    before = epoch.retries

    changed.generation += 1
    invalidation.poll()
    invalidation.poll()
    assert (epoch.value, epoch.retries - before) == (2, 2)


def test_a_new_epoch_refreshes_the_files_before_the_next_response() -> None:
    """If the cache epoch has risen, a worker checks all files before its next response.

    Otherwise HAProxy would cache a response based on old files under the new epoch.
    """
    file = File()
    invalidation, epoch = _watching(file)
    file.unseen = 1
    assert (invalidation.epoch(), file.generation) == ("1", 1)

    epoch.increment()
    assert (invalidation.epoch(), file.generation) == ("2", 2)


def test_a_response_has_the_epoch_at_its_start() -> None:
    """If reading the epoch for a response reveals a changed file, the worker raises the epoch.

    This response gets the epoch from before the raise, and the next response gets the raised epoch.
    """
    file = File()
    invalidation, epoch = _watching(file)
    file.unseen = 1
    epoch.increment()

    epochs = [invalidation.epoch(), invalidation.epoch()]
    assert epochs == ["2", "3"]


def test_the_epoch_is_raised_before_a_response_reflects_a_change() -> None:
    """A worker that notices a changed file raises the cache epoch before its next response.

    Otherwise this worker would already deny access that other workers and HAProxy's cache still
    permit.
    """
    file = File()
    invalidation, epoch = _watching(file)
    file.generation += 1

    assert (invalidation.epoch(), epoch.value) == ("1", 2)


def test_no_file_is_refreshed_while_the_epoch_is_unchanged() -> None:
    """While the cache epoch is unchanged, the worker checks no file, to save system calls."""
    file = File()
    invalidation, _ = _watching(file)
    before = file.refreshes

    for _ in range(100):
        invalidation.epoch()
    assert file.refreshes == before


def test_concurrent_responses_with_a_new_epoch_wait_for_the_refresh() -> None:
    """If the epoch has risen, parallel responses wait until one of them has checked the files."""
    file = File()
    invalidation, epoch = _watching(file)
    seen: list[tuple[str, int]] = []
    file.unseen = 1
    epoch.increment()

    def respond() -> None:
        epoch = invalidation.epoch()
        seen.append((epoch, file.generation))

    threads = [threading.Thread(target=respond) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {generation for _, generation in seen} == {2}
