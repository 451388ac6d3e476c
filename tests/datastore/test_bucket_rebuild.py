"""Tests that `rebuild` restores a lost index from its snapshot and from lists of the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.maintenance.index_snapshot import IndexSnapshot
from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.index import BORN, ContentKind, IndexEntry
from entrepot.datastore.rebuild import born, needs_rebuild, rebuild
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.snapshot import SHARDS, shard_key
from tests.bucket_appliance import DAY, NOW, Appliance
from tests.cleaner.stock import HOSTED, PROXIED, UPSTREAM, pull, push, put_blob
from tests.s3_front import Refused, S3Front
from tests.s3_signatures import Refusal

pytestmark = pytest.mark.slow


@pytest.fixture
def first(s3: S3Front, tmp_path: Path) -> Iterator[Appliance]:
    """Return an appliance whose index was created ten days ago and has recorded uses since."""
    made = Appliance(s3, tmp_path / "first")
    made.rebuild()
    made.index.notes.put({BORN: str(NOW - 10 * DAY)})
    yield made
    made.index.close()


@pytest.fixture
def second(s3: S3Front, tmp_path: Path, first: Appliance) -> Iterator[Appliance]:
    """Return the appliance `first` a day later, with a new and empty state directory."""
    made = Appliance(s3, tmp_path / "second")
    made.clock.now = first.clock.now + DAY
    yield made
    made.index.close()


def test_a_snapshot_restores_rows_uses_edges_and_the_age_of_the_index(
    s3: S3Front, first: Appliance, second: Appliance
) -> None:
    """After the state directory was lost, the snapshot restores rows, last uses and edges.

    No manifest and no link is read, and only shards that exist are requested.
    """
    pulled = [pull(first.store, seed, NOW - seed * DAY) for seed in range(4)]
    push(first.store, 9, NOW - 2 * DAY)
    written = first.write()
    s3.forget()

    second.rebuild()

    assert second.rows() == first.rows()
    assert [second.index.children(each.digests[0]) for each in pulled] == [
        each.digests[1:] for each in pulled
    ]
    assert (born(second.index.notes), needs_rebuild(second.index.notes)) == (NOW - 10 * DAY, False)
    assert s3.count("GET", f"^{layout.SNAPSHOT}/..$") == written
    assert s3.count("GET", "^docker/") == s3.count("HEAD") == 0
    assert s3.count("GET", "^$") == 5, "snapshot, origins, damaged blobs, blobs and repositories"


class _Informed:
    """A log barrier that always succeeds, for an appliance without clients."""

    blind = 0.0

    def fetch(self) -> str:
        """Return an empty text."""
        return ""


def _due(appliance: Appliance) -> list[tuple[IndexEntry, str]]:
    """Return the entries that the next round evicts with a TTL of two days, and the reasons."""
    store, clock = appliance.store, appliance.clock
    sweep = Sweep(store, lambda _: None, clock)
    tools = RoundTools(store, Spool(store, clock), sweep, _Informed(), clock, lambda: False)
    steps = Rounds(tools, StoreLimits(ttl=2 * DAY)).explain()
    return [(each.entry, each.reason.value) for step in steps for each in step.evictions]


def test_the_next_sweep_removes_what_it_would_have_removed(
    first: Appliance, second: Appliance
) -> None:
    """After a lost index was rebuilt, a round evicts the same content as with the original index.

    In this test, the round is a day after the snapshot, and some content exceeds the TTL by then.
    """
    pulled = [pull(first.store, seed, NOW - seed * DAY / 2) for seed in range(6)]
    first.write()
    first.clock.now = second.clock.now

    second.rebuild()

    due = _due(second)
    assert due == _due(first)
    assert {entry.digest for entry, _ in due} == {
        digest for image in pulled[3:] for digest in image.digests
    }


def test_the_lists_give_the_difference_to_the_snapshot(
    s3: S3Front, first: Appliance, second: Appliance
) -> None:
    """A rebuild adds rows for objects that the snapshot lacks, and removes rows of deleted objects.

    Only a manifest that was stored after the snapshot is read. The time of the rebuild counts as
    the last use of this manifest and its parts.
    """
    kept = pull(first.store, 1, NOW - 3 * DAY)
    gone = put_blob(first.store, b"gone", NOW - DAY)
    first.write()
    first.store.blobs.delete(gone)
    came = pull(first.store, 2, NOW)
    s3.forget()

    second.rebuild()

    uses = {row.digest: (row.kind, row.used) for row in second.rows()}
    manifest, later = ContentKind.MANIFEST, second.clock.now
    assert uses == {
        kept.digests[0]: (manifest, NOW - 3 * DAY),
        **dict.fromkeys(kept.digests[1:], (ContentKind.BLOB, NOW - 3 * DAY)),
        came.digests[0]: (manifest, later),
        **dict.fromkeys(came.digests[1:], (ContentKind.BLOB, later)),
    }
    assert second.index.children(came.digests[0]) == came.digests[1:]
    assert s3.count("GET", "^docker/") == s3.count("GET", came.digests[0].hex) == 1


def test_new_downloads_are_stored_as_soon_as_the_snapshot_was_read(
    s3: S3Front, first: Appliance, second: Appliance
) -> None:
    """A download can reserve space when the snapshot is read and the bucket is not listed yet."""
    pull(first.store, 1, NOW)
    first.write()
    s3.forget()
    reserved: list[bool] = []

    def reserve() -> None:
        if not reserved and not needs_rebuild(second.index.notes):
            lists = [each for each in s3.requests if "prefix=docker" in each.query]
            reserve = second.index.reservations.reserve
            reserved.append(not lists and reserve(Digest.of(b"new"), 100, 10**9, 1.0))

    rebuild(second.store.storage, second.index, NOW, reserve, snapshots=second.snapshots)

    assert reserved == [True]


def test_without_a_snapshot_each_manifest_is_read_once(
    s3: S3Front, first: Appliance, second: Appliance
) -> None:
    """Without a snapshot, a rebuild reads each manifest once, even if two repositories link it.

    All content then counts as last used at the time of the rebuild.
    """
    image = pull(first.store, 1, NOW - 9 * DAY)
    push(first.store, 1, NOW - 9 * DAY)
    s3.forget()

    second.rebuild()

    assert {row.used for row in second.rows()} == {second.clock.now}
    assert second.index.children(image.digests[0]) == image.digests[1:]
    assert born(second.index.notes) == second.clock.now
    assert (s3.count("GET", "^docker/"), s3.count("HEAD")) == (1, 0)


def test_a_corrupt_shard_counts_as_absent(s3: S3Front, first: Appliance, second: Appliance) -> None:
    """If a shard is corrupt, the content in its rows counts as last used at the rebuild.

    The other shards are used.
    """
    blobs = [put_blob(first.store, bytes([number]), NOW - DAY) for number in range(8)]
    first.write()
    corrupt = shard_key(blobs[0].hex[:2])
    content = s3.get(corrupt)
    assert content is not None
    s3.put(corrupt, content[:-1])

    second.rebuild()

    hit = [each for each in blobs if each.hex[:2] == blobs[0].hex[:2]]
    uses = {row.digest: row.used for row in second.rows()}
    assert uses == {each: second.clock.now if each in hit else NOW - DAY for each in blobs}


def test_a_use_of_the_snapshot_in_the_future_counts_as_a_use_now(
    first: Appliance, second: Appliance
) -> None:
    """If a last use in the snapshot is in the future, the current time replaces it.

    The clock may have been wrong when the snapshot was written. With a last use in the future, the
    content would not be evicted before that time.
    """
    digest = put_blob(first.store, b"content", NOW + 300 * DAY)
    first.write()

    second.rebuild()

    assert second.rows() == [IndexEntry(digest, 7, ContentKind.BLOB, second.clock.now)]


def test_a_wrong_size_in_the_snapshot_is_corrected(first: Appliance, second: Appliance) -> None:
    """If the snapshot has another size than the list of the bucket, the row gets the listed size.

    The sizes of rows count against the cap.
    """
    digest = put_blob(first.store, b"content", NOW)
    first.index.record(digest, 10**12, ContentKind.BLOB, NOW)
    first.write()

    second.rebuild()

    assert second.rows() == [IndexEntry(digest, 7, ContentKind.BLOB, NOW)]


def test_origins_are_known_without_a_request_if_their_objects_are_unchanged(
    s3: S3Front, first: Appliance, second: Appliance
) -> None:
    """The origin of a repository is read from the bucket only if it changed since the snapshot."""
    changed = Repository("quay.io/other")
    for name in (PROXIED, changed):
        first.store.repositories.set_origin(name, UPSTREAM)
    first.write()
    first.store.repositories.set_origin(changed, "docker.io")
    second.rebuild()
    s3.forget()

    origins = [second.store.repositories.origin(name) for name in (PROXIED, changed, HOSTED)]

    assert origins == [UPSTREAM, "docker.io", None]
    assert s3.count("GET", f"^{layout.ORIGINS}/{PROXIED}/") == 0


def test_only_changed_shards_are_written(s3: S3Front, first: Appliance) -> None:
    """A new snapshot writes only the shards whose content has changed.

    If the only row of a shard was removed, the shard is replaced by a shard without rows.
    """
    digests = [put_blob(first.store, bytes([number]), NOW) for number in range(20)]
    assert first.write() == len({each.hex[:2] for each in digests})
    s3.forget()
    assert first.write() == 0
    assert s3.count("PUT") == 0

    first.index.touch({digests[3]: NOW + 5})
    assert first.write() == 1
    row = first.index.entry(digests[3])
    assert row is not None
    assert first.index.mark_for_deletion(row)
    first.index.forget(digests[3])
    assert (first.write(), first.write()) == (1, 0)


def test_a_shard_that_another_program_wrote_is_replaced(s3: S3Front, first: Appliance) -> None:
    """If another program has replaced a shard, the next snapshot writes the shard again."""
    digest = put_blob(first.store, b"content", NOW)
    first.write()
    key = shard_key(digest.hex[:2])
    mine = s3.get(key)
    s3.put(key, b"of another appliance")

    assert (first.write(), s3.get(key)) == (1, mine)


def test_a_snapshot_is_written_once_an_hour(s3: S3Front, first: Appliance) -> None:
    """The cleaner writes a snapshot at most once an hour, even if it is restarted meanwhile."""

    def turn() -> int:
        s3.forget()
        IndexSnapshot(first.store, first.snapshots, first.clock).write_if_due()
        return s3.count("PUT", layout.SNAPSHOT)

    put_blob(first.store, b"one", NOW)
    assert turn() == 1
    put_blob(first.store, b"two", NOW)
    first.clock.now += 3599
    assert turn() == 0
    first.clock.now += 1
    assert turn() == 1


def test_a_failed_write_is_repeated_with_the_rest(s3: S3Front, first: Appliance) -> None:
    """If the write of a shard failed, the next snapshot writes only the unwritten shards."""
    digests = [put_blob(first.store, bytes([number]), NOW) for number in range(20)]
    shards = sorted({each.hex[:2] for each in digests})
    s3.fault("PUT", shard_key(shards[-1]), Refused(Refusal(403, "AccessDenied")))
    snapshot = IndexSnapshot(first.store, first.snapshots, first.clock)
    with pytest.raises(Exception, match="AccessDenied"):
        snapshot.write_if_due()
    s3.forget()

    snapshot.write_if_due()

    assert s3.count("PUT", layout.SNAPSHOT) == 1


def test_without_ownership_and_before_a_rebuild_nothing_is_written(
    s3: S3Front, first: Appliance, second: Appliance
) -> None:
    """An appliance that does not own the bucket, or whose index is not rebuilt, writes no snapshot.

    A snapshot of an incomplete index would replace a complete snapshot.
    """
    put_blob(first.store, b"content", NOW)
    s3.forget()

    assert second.write() == 0
    first.is_owner = False
    assert first.write() == 0
    assert s3.count("PUT", layout.SNAPSHOT) == 0


def test_every_first_byte_has_a_shard() -> None:
    """The first byte of a digest's hash selects one of the 256 shards of the snapshot."""
    assert len(SHARDS) == len(set(SHARDS)) == 256
    assert {Digest.of(bytes([number])).hex[:2] for number in range(256)} <= set(SHARDS)


def test_foreign_objects_beside_the_shards_are_not_read(
    s3: S3Front, first: Appliance, second: Appliance
) -> None:
    """If the folder of the snapshot has other objects too, they are not read."""
    pull(first.store, 1, NOW - DAY)
    first.write()
    first.snapshots.client.put(f"{layout.SNAPSHOT}/other", b"content")
    s3.forget()

    second.rebuild()

    assert second.rows() == first.rows()
    assert born(second.index.notes) == NOW - 10 * DAY
    assert s3.count("GET", f"^{layout.SNAPSHOT}/other$") == 0
