"""Tests how a migration behaves when its source or target fails for a while."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from entrepot.appliance.migrate.copying import SMALL, BlobResult, Copier, Outcome
from entrepot.appliance.migrate.errors import Interrupted, MigrationStopped
from entrepot.appliance.migrate.stock import Blob
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.errors import StorageBroken
from entrepot.datastore.refs import Digest
from tests.images import filler


class _Impatient(threading.Event):
    """A stand-in for the event that ends a migration.

    Its `wait` returns at once; `waits` lists the requested pauses in seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once whether the event is set."""
        self.waits.append(timeout or 0)
        return self.is_set()


class _Failing(MemoryStorage):
    """A bucket whose next `failures` requests fail, as if the service limited the rate.

    `opens` is the number of values that were opened to be read.
    """

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.opens = 0

    def _fail(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise StorageBroken("503 SlowDown")

    def open(self, key: str) -> BinaryIO:
        """Open a value, or fail."""
        self._fail()
        self.opens += 1
        return super().open(key)

    def write(self, key: str, data: bytes) -> None:
        """Write a value, or fail."""
        self._fail()
        super().write(key, data)


def _copy(
    source: MemoryStorage, target: MemoryStorage, folder: Path, content: bytes
) -> tuple[BlobResult, _Impatient]:
    digest, stop = Digest.of(content), _Impatient()
    copier = Copier(source, target, folder, stop, lambda _: None)
    return copier.blob(Blob(digest, len(content), 1.0)), stop


@pytest.mark.parametrize("size", [100, 2 * SMALL], ids=["short", "long"])
def test_a_source_that_fails_for_a_while_is_asked_again(tmp_path: Path, size: int) -> None:
    """If the source is a bucket that limits the rate, a read is repeated after growing pauses."""
    source, target, content = _Failing(), MemoryStorage(), filler(size)
    source.write(layout.blob(Digest.of(content)), content)
    source.failures = 3

    result, stop = _copy(source, target, tmp_path, content)

    assert result.outcome is Outcome.COPIED
    assert stop.waits == [1.0, 2.0, 4.0]
    assert target.read(layout.blob(Digest.of(content))) == content
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [100, 2 * SMALL], ids=["short", "long"])
def test_a_target_that_fails_for_a_while_is_asked_again(tmp_path: Path, size: int) -> None:
    """If the target is a bucket that limits the rate, a refused write is repeated after a pause.

    For the repeated write the bytes are not read from the source again.
    """
    source, target, content = _Failing(), _Failing(2), filler(size)
    source.write(layout.blob(Digest.of(content)), content)

    result, stop = _copy(source, target, tmp_path, content)

    assert result.outcome is Outcome.COPIED
    assert stop.waits == [1.0, 2.0]
    assert source.opens == 1
    assert target.read(layout.blob(Digest.of(content))) == content


def test_a_target_that_keeps_failing_ends_the_migration(tmp_path: Path) -> None:
    """If writes to the target go on failing, the migration ends; another run can continue it."""
    source, content = MemoryStorage(), filler(100)
    source.write(layout.blob(Digest.of(content)), content)

    with pytest.raises(MigrationStopped, match="run the command again"):
        _copy(source, _Failing(100), tmp_path, content)


def test_a_temporary_file_that_cannot_be_written_ends_the_migration(tmp_path: Path) -> None:
    """If the temporary file cannot be written, the message names the target's state directory."""
    source, content = MemoryStorage(), filler(2 * SMALL)
    source.write(layout.blob(Digest.of(content)), content)

    with pytest.raises(MigrationStopped, match="state directory of the target"):
        _copy(source, MemoryStorage(), tmp_path / "absent", content)


def test_one_unreadable_blob_is_a_result_and_many_end_the_migration(tmp_path: Path) -> None:
    """One unreadable blob is reported; many in a row end the migration.

    The migration tries each unreadable blob for a minute. If it did not end, it could spend years
    on a source that does not respond.
    """
    source, stop = _Failing(1_000), _Impatient()
    copier = Copier(source, MemoryStorage(), tmp_path, stop, lambda _: None)
    blob = Blob(Digest.of(b"x"), 1, 1.0)

    results = [copier.blob(blob).outcome for _ in range(7)]

    assert results == [Outcome.UNREADABLE] * 7
    with pytest.raises(MigrationStopped, match="the source cannot be read"):
        copier.blob(blob)


def test_a_signal_ends_the_wait_for_a_source_that_fails(tmp_path: Path) -> None:
    """A signal ends the pause before a repeated read, so that the migration stops at once."""
    source, stop = _Failing(1_000), _Impatient()
    copier = Copier(source, MemoryStorage(), tmp_path, stop, lambda _: None)
    stop.set()

    with pytest.raises(Interrupted):
        copier.blob(Blob(Digest.of(b"x"), 1, 1.0))


def test_content_that_is_longer_than_its_length_is_damaged(tmp_path: Path) -> None:
    """A blob that is longer than its listed length is damaged, and is not read to its end.

    Short blobs are copied through memory, and a file that has grown could fill the memory.
    """
    source, content = MemoryStorage(), filler(100)
    source.write(layout.blob(Digest.of(content)), filler(SMALL + 1))

    result, _ = _copy(source, MemoryStorage(), tmp_path, content)

    assert result.outcome is Outcome.DAMAGED
    assert "more bytes" in result.why
