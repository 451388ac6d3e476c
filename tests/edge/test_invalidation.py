"""Workers check watched files without a request, and before the first response with a new epoch."""

from __future__ import annotations

import threading

from entrepot.edge.invalidation import Invalidation


class File:
    """A `File` is a watched file whose change is unseen until it is refreshed."""

    def __init__(self) -> None:
        self.generation = 1
        self.unseen = 0
        self.refreshes = 0

    def refresh(self) -> None:
        """Take over the unseen change."""
        self.refreshes += 1
        self.generation += self.unseen
        self.unseen = 0


class FakeEpoch:
    """A `FakeEpoch` stands for the cache epoch, and counts retries."""

    def __init__(self) -> None:
        self.value = 1
        self.retries = 0

    def now(self) -> str:
        """Return the cache epoch."""
        return str(self.value)

    def increment(self) -> None:
        """Raise the cache epoch."""
        self.value += 1

    def retry(self) -> None:
        """Count the retry."""
        self.retries += 1


def _watching(*files: File) -> tuple[Invalidation, FakeEpoch]:
    epoch = FakeEpoch()
    invalidation = Invalidation(epoch)
    for file in files:
        invalidation.watch(file)
    invalidation.epoch()
    return invalidation, epoch


def test_a_change_raises_the_epoch_once() -> None:
    """A changed file raises the cache epoch once; each poll retries a failed update of HAProxy."""
    quiet, changed = File(), File()
    invalidation, epoch = _watching(quiet, changed)
    before = epoch.retries

    changed.generation += 1
    invalidation.poll()
    invalidation.poll()
    assert (epoch.value, epoch.retries - before) == (2, 2)


def test_a_new_epoch_refreshes_the_files_before_the_next_response() -> None:
    """A worker that sees a new cache epoch refreshes its files before the next response.

    Otherwise a worker would apply its old view of the files under the new epoch.
    """
    file = File()
    invalidation, epoch = _watching(file)
    file.unseen = 1
    assert (invalidation.epoch(), file.generation) == ("1", 1)

    epoch.increment()
    assert (invalidation.epoch(), file.generation) == ("2", 2)


def test_a_response_has_the_epoch_at_its_start() -> None:
    """A response has the cache epoch that was current at its start."""
    file = File()
    invalidation, epoch = _watching(file)
    file.unseen = 1
    epoch.increment()

    epochs = [invalidation.epoch(), invalidation.epoch()]
    assert epochs == ["2", "3"]


def test_the_epoch_is_raised_before_a_response_reflects_a_change() -> None:
    """The cache epoch is raised before a response reflects a change.

    Otherwise one worker would deny access that the other workers, and the cache, still permit.
    """
    file = File()
    invalidation, epoch = _watching(file)
    file.generation += 1

    assert (invalidation.epoch(), epoch.value) == ("1", 2)


def test_no_file_is_refreshed_while_the_epoch_is_unchanged() -> None:
    """While the epoch is unchanged no file is refreshed, so a hit costs no check of a file."""
    file = File()
    invalidation, _ = _watching(file)
    before = file.refreshes

    for _ in range(100):
        invalidation.epoch()
    assert file.refreshes == before


def test_concurrent_responses_with_a_new_epoch_wait_for_the_refresh() -> None:
    """Concurrent responses with a new cache epoch wait for the refresh of the files."""
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
