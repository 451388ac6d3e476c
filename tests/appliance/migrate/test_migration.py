"""Tests of a migration between a disk and a storage in memory, which has no file times."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from entrepot.appliance.migrate import report as reports
from entrepot.appliance.migrate.copying import SMALL
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.errors import StorageFull
from entrepot.datastore.index import BORN, REBUILT, ContentKind
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.refs import Digest, Tag
from entrepot.datastore.storage import set_time, time_of
from tests.appliance.migrate.sides import NOW, Run, contents, in_memory, on_disk, times
from tests.cleaner.stock import HOSTED, PROXIED, UPSTREAM, pull, push, put_blob
from tests.images import filler

OLD, NEWER = NOW - 86400.0, NOW - 3600.0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a migration that is not interrupted."""
    return Run(tmp_path / "scratch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with a pulled and a pushed image, and a long blob."""
    root = tmp_path_factory.mktemp("made")
    store = on_disk(root)
    pulled = pull(store, 1, OLD)
    push(store, 2, NEWER)
    Proofs(store.storage).keep(pulled.digests[2], UPSTREAM)
    store.repositories.link_manifest(HOSTED, pulled.digests[0], "application/x")
    store.repositories.add_referrer(HOSTED, pulled.digests[1], pulled.digests[0], b"{}")
    store.storage.write(layout.referrers(PROXIED, pulled.digests[0]), b'{"manifests": []}')
    long = put_blob(store, filler(2 * SMALL, 3), OLD)
    store.repositories.link_blob(HOSTED, long)
    for tag, name in (("v1", PROXIED), ("v2", HOSTED)):
        set_time(store.storage, layout.tag_current(name, Tag(tag)), OLD)
    store.index.notes.put({REBUILT: "1", BORN: "12.5"})
    store.index.close()
    return root


@pytest.fixture
def source(made: Path, tmp_path: Path) -> DataDirectory:
    """Return a copy of the data directory that a test may change."""
    shutil.copytree(made, tmp_path / "source")
    return on_disk(tmp_path / "source")


@pytest.fixture(params=["disk", "memory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> DataDirectory:
    """Return an empty target, on a disk or in memory without file times."""
    return on_disk(tmp_path / "target") if request.param == "disk" else in_memory()


def _rows(store: DataDirectory) -> dict[Digest, tuple[int, ContentKind, float, list[Digest]]]:
    return {
        each.digest: (each.size, each.kind, each.used, store.index.children(each.digest))
        for each in store.oldest()
    }


def test_everything_is_at_the_target_as_it_was_at_the_source(
    source: DataDirectory, target: DataDirectory, run: Run
) -> None:
    """After a migration the target has the source's blobs, links, tags, origins and media types.

    The test also compares referrers, proofs, rows of the index, and times.
    """
    report = run(source, target)

    assert report.is_complete, reports.as_text(report)
    assert contents(target) == contents(source)
    assert _rows(target) == _rows(source)
    assert times(target) == pytest.approx(times(source))
    assert target.index.notes.get(REBUILT) == str(NOW)
    assert target.index.notes.get(BORN) == "12.5"
    assert (report.copied_blobs, report.blobs) == (7, 7)


def test_no_temporary_file_is_left(source: DataDirectory, run: Run) -> None:
    """A long blob is copied through a temporary file, which is then moved or removed."""
    run(source, in_memory())

    assert [each.name for each in run.scratch.iterdir()] == ["stock.sqlite"]


def test_times_of_links_return_from_an_index_to_a_disk(
    source: DataDirectory, run: Run, tmp_path: Path
) -> None:
    """A migration to a storage without file times and back keeps the times of links."""
    between, back = in_memory(), on_disk(tmp_path / "back")

    run(source, between)
    report = run(between, back)

    assert report.is_complete
    assert contents(back) == contents(source)
    assert _rows(back) == _rows(source)
    assert times(back) == pytest.approx(times(source))


def test_a_link_of_unknown_time_is_not_confirmed_now(run: Run, tmp_path: Path) -> None:
    """After a copy to a disk, a proxied tag of unknown time must be confirmed by its upstream.

    A hosted tag of unknown time counts as new.
    """
    source, target = in_memory(), on_disk(tmp_path / "target")
    pull(source, 1, OLD)
    push(source, 2, OLD)
    source.index.link_times.forget(list(times(source)))

    assert run(source, target).is_complete

    proxied = target.repositories.tag(PROXIED, Tag("v1"))
    hosted = target.repositories.tag(HOSTED, Tag("v2"))
    assert proxied is not None
    assert hosted is not None
    assert proxied.confirmed == 0
    assert hosted.confirmed > NEWER - 365 * 86400


def test_a_second_run_copies_only_the_difference(
    source: DataDirectory, target: DataDirectory, run: Run
) -> None:
    """A new image, a moved tag and a later access time are copied; nothing else is written."""
    run(source, target)
    assert run(source, target).copied_blobs == 0
    before = contents(target)
    pushed = push(source, 4, NEWER)
    source.repositories.set_tag(HOSTED, Tag("v2"), pushed.digests[0])
    first = next(iter(_rows(source)))
    source.index.touch({first: NOW - 1})

    report = run(source, target)

    assert report.is_complete
    assert contents(target) == contents(source)
    assert _rows(target) == _rows(source)
    assert report.copied_blobs == 3
    changed = [key for key, content in contents(target).items() if before.get(key) != content]
    assert report.copied_values == len([key for key in changed if "/blobs/" not in key])


def test_a_damaged_blob_is_reported_with_its_repository_and_skipped(
    source: DataDirectory, target: DataDirectory, run: Run
) -> None:
    """A damaged blob does not stop the migration, but the migration is not complete."""
    damaged = push(source, 5, NEWER).digests[2]
    source.storage.write(layout.blob(damaged), filler(20_000, 6))

    report = run(source, target)

    assert not report.is_complete
    assert report.failures == 1
    (failure,) = report.failed.values()
    assert (failure.digest, failure.outcome) == (str(damaged), "damaged")
    assert failure.repositories == [str(HOSTED)]
    assert target.blobs.stat(damaged) is None
    assert target.index.entry(damaged) is None
    assert target.repositories.links_blob(HOSTED, damaged)
    assert str(damaged) in reports.as_text(report)
    expected = {key for key in contents(source) if damaged.hex not in key or "/blobs/" not in key}
    assert set(contents(target)) == expected


@pytest.mark.parametrize("after", [1, 4, 2_000_000])
def test_an_interrupted_migration_continues(
    source: DataDirectory, target: DataDirectory, tmp_path: Path, after: int
) -> None:
    """After an interruption the target has no link without content; the next run continues."""
    moved: list[int] = []

    def is_enough(count: int) -> bool:
        moved.append(count)
        return len(moved) >= after or sum(moved) >= after

    interrupted = Run(tmp_path / "scratch", is_enough)(source, target)

    assert not interrupted.is_complete
    assert "again" in interrupted.stopped
    assert target.index.notes.get(REBUILT) is None
    for key in contents(target):
        digest = layout.linked_digest(key)
        if "/_layers/" in key and digest is not None:
            assert target.blobs.stat(digest) is not None
    copied = interrupted.copied_blobs
    report = Run(tmp_path / "again")(source, target)
    assert report.is_complete
    assert report.copied_blobs <= 7 - copied
    assert contents(target) == contents(source)
    assert _rows(target) == _rows(source)


def test_a_blob_of_another_length_is_replaced(
    source: DataDirectory, target: DataDirectory, run: Run
) -> None:
    """If a blob has a wrong length in the target, as after a fault, it is copied again."""
    digest = next(iter(_rows(source)))
    target.storage.write(layout.blob(digest), b"short")

    report = run(source, target)

    assert report.is_complete
    assert contents(target) == contents(source)


def test_content_that_only_the_target_has_stays(
    source: DataDirectory, target: DataDirectory, run: Run
) -> None:
    """The target keeps content that the source lacks, and rebuilds its index at the next start."""
    own = filler(100, 8)
    target.storage.write(layout.blob(Digest.of(own)), own)

    report = run(source, target)

    assert report.is_complete
    assert target.blobs.read(Digest.of(own)) == own
    assert target.index.notes.get(REBUILT) is None


def test_pins_are_copied(source: DataDirectory, target: DataDirectory, run: Run) -> None:
    """A migration copies pins, which protect content that a push still needs from eviction."""
    digest = next(iter(_rows(source)))
    source.index.pins.pin([digest], NOW + 60)

    run(source, target)

    assert target.index.pins.all() == {digest}


class _FullAfter(MemoryStorage):
    """A stand-in for a target that is full after *writes* writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self._left = writes

    def write(self, key: str, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise StorageFull("no space left")
        super().write(key, data)


@pytest.mark.parametrize("writes", [0, 3, 9])
def test_a_full_target_ends_the_migration_with_a_remedy(
    source: DataDirectory, run: Run, writes: int
) -> None:
    """If the target becomes full, at a blob or at a link, the migration ends with a remedy."""
    report = run(source, in_memory(), _FullAfter(writes))

    assert not report.is_complete
    assert "full" in report.stopped
    assert "run the command again" in report.stopped


def test_uploads_and_state_of_the_appliance_are_not_copied(
    source: DataDirectory, target: DataDirectory, run: Run
) -> None:
    """Unfinished uploads, the claim of a bucket's owner and foreign files are not copied."""
    upload = f"{layout.uploads(HOSTED)}/1234/data"
    for key in (upload, "entrepot/owner", f"{layout.BLOBS}/sha256/notes.txt"):
        source.storage.write(key, b"x")

    report = run(source, target)

    assert report.is_complete
    assert report.ignored == 1
    kept = [upload, "entrepot/owner", f"{layout.BLOBS}/sha256/notes.txt"]
    assert [target.storage.stat(key) for key in kept] == [None, None, None]


def test_a_report_lists_only_the_first_failures() -> None:
    """A report lists at most 10,000 failures and only counts the others: its memory is bounded."""
    report = reports.Report("a", "b")
    for number in range(10_005):
        report.fail(reports.Failure(str(number), 1, "damaged", "why"))

    assert len(report.failed) == 10_000
    assert report.failures == 10_005


def test_the_list_of_another_programs_cache_keeps_its_time(
    source: DataDirectory, run: Run, tmp_path: Path
) -> None:
    """A migration keeps the time of the file in which docker distribution lists its cached content.

    The time matters: docker distribution can have fetched only content whose links are older than
    this file.
    """
    source.storage.write(layout.FETCHED_LIST, b"{}")
    set_time(source.storage, layout.FETCHED_LIST, OLD)
    target = on_disk(tmp_path / "target")

    assert run(source, target).is_complete

    copied = target.storage.stat(layout.FETCHED_LIST)
    assert copied is not None
    assert time_of(copied) == OLD
