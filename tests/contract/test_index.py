"""The index of every driver stores rows with their values, their parts and their last uses."""

from __future__ import annotations

import pytest

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind, Index, IndexEntry
from entrepot.datastore.refs import Digest

A, B, C, D = (Digest.of(letter) for letter in (b"a", b"b", b"c", b"d"))
LONG = Digest.of(b"long", "sha512")


def _used(index: Index, digest: Digest) -> float:
    entry = index.entry(digest)
    assert entry is not None
    return entry.used


class TestRecord:
    """`record` creates or updates the row of a blob or manifest, with the parts of a manifest."""

    @pytest.mark.parametrize("digest", [A, LONG], ids=["sha256", "sha512"])
    @pytest.mark.parametrize("kind", list(ContentKind))
    def test_a_row_has_the_recorded_values(
        self, index: Index, digest: Digest, kind: ContentKind
    ) -> None:
        """`entry` returns the values that were recorded, for every digest algorithm and kind."""
        index.record(digest, 10, kind, 5.25)

        assert index.entry(digest) == IndexEntry(digest, 10, kind, 5.25)
        assert index.count() == 1

    def test_an_absent_row_is_none(self, index: Index) -> None:
        """If a digest has no row, `entry` returns None."""
        assert index.entry(A) is None
        assert index.children(A) == []
        assert (index.count(), index.reservations.used_bytes()) == (0, 0)

    def test_a_repeated_record_updates_the_row_and_keeps_the_later_time(self, index: Index) -> None:
        """If a row is recorded again, the later last use is kept and all other values are replaced.

        This corrects a kind that a rebuild guessed wrongly.
        """
        index.record(A, 10, ContentKind.BLOB, 5.0)
        index.record(A, 12, ContentKind.MANIFEST, 3.0)

        assert index.entry(A) == IndexEntry(A, 12, ContentKind.MANIFEST, 5.0)
        assert (index.count(), index.reservations.used_bytes()) == (1, 12 + OVERHEAD)

    def test_the_parts_of_a_manifest_keep_their_order(self, index: Index) -> None:
        """The parts of a manifest keep their order; a second record replaces the whole list."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[D, B])
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C, B, D])

        assert index.children(A) == [C, B, D]

    def test_the_manifests_of_a_part_are_sorted_by_last_use(self, index: Index) -> None:
        """`parents` returns the manifests of a part sorted by last use, the latest first.

        Clients are most likely to pull the first of these manifests.
        """
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C, C])
        index.record(B, 1, ContentKind.MANIFEST, 2.0, children=[C])

        assert index.parents(C) == [B, A]
        assert index.parents(A) == []

    def test_a_repeated_part_is_kept_twice(self, index: Index) -> None:
        """If a manifest lists a layer twice, the index also lists it twice among the parts."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[B, B])

        assert index.children(A) == [B, B]

    def test_a_recorded_manifest_updates_older_parts(self, index: Index) -> None:
        """If a manifest is recorded, parts with an earlier last use get the manifest's last use."""
        index.record(B, 1, ContentKind.BLOB, 1.0)
        index.record(C, 1, ContentKind.BLOB, 9.0)
        index.record(A, 1, ContentKind.MANIFEST, 5.0, children=[B, C])

        assert (_used(index, B), _used(index, C)) == (5.0, 9.0)

    def test_a_part_recorded_later_gets_the_time_of_its_manifest(self, index: Index) -> None:
        """If a part is recorded after its manifest, it gets the later of the two last uses."""
        index.record(A, 1, ContentKind.MANIFEST, 5.0, children=[B])
        index.record(B, 1, ContentKind.BLOB, 2.0)

        assert _used(index, B) == 5.0

    def test_a_manifest_recorded_last_passes_the_time_of_its_index_to_its_layers(
        self, index: Index
    ) -> None:
        """If a manifest is recorded after its OCI index, its layers get this index's last use."""
        index.record(C, 1, ContentKind.BLOB, 1.0)
        index.record(A, 1, ContentKind.INDEX, 9.0, children=[B])
        index.record(B, 1, ContentKind.MANIFEST, 3.0, children=[C])

        assert (_used(index, B), _used(index, C)) == (9.0, 9.0)


class TestRestore:
    """The method `restore` of an index creates rows for stored files."""

    def test_a_missing_row_is_created(self, index: Index) -> None:
        """`restore` creates a missing row; the file's time becomes the row's last use."""
        index.restore(
            [IndexEntry(A, 10, ContentKind.BLOB, 5.0), IndexEntry(LONG, 20, ContentKind.BLOB, 6.0)]
        )

        assert index.oldest(None, 9) == [
            IndexEntry(A, 10, ContentKind.BLOB, 5.0),
            IndexEntry(LONG, 20, ContentKind.BLOB, 6.0),
        ]
        assert index.reservations.used_bytes() == 30 + 2 * OVERHEAD

    def test_an_existing_row_is_unchanged(self, index: Index) -> None:
        """`restore` changes no existing row, because its values are more exact than the file's.

        `restore` also keeps a mark for deletion.
        """
        index.record(A, 10, ContentKind.MANIFEST, 5.0, children=[B])
        index.mark_for_deletion(IndexEntry(A, 10, ContentKind.MANIFEST, 5.0))

        index.restore([IndexEntry(A, 11, ContentKind.BLOB, 7.0)])

        assert index.marked_for_deletion() == [IndexEntry(A, 10, ContentKind.MANIFEST, 5.0)]
        assert (index.children(A), index.reservations.used_bytes()) == ([B], 10 + OVERHEAD)

    def test_a_restored_part_gets_the_time_of_its_manifest(self, index: Index) -> None:
        """A restored part with an earlier last use than its manifest gets the manifest's last use.

        File times can be up to an hour older than the last use.
        """
        index.record(A, 1, ContentKind.MANIFEST, 5.0, children=[B])
        index.restore([IndexEntry(B, 1, ContentKind.BLOB, 2.0)])

        assert _used(index, B) == 5.0

    def test_a_restored_manifest_has_its_edges(self, index: Index) -> None:
        """`restore` stores the parts of a new manifest; the parts get the manifest's last use.

        `restore` does not change the parts of a manifest that already has a row.
        """
        index.record(D, 1, ContentKind.MANIFEST, 1.0, children=[LONG])
        rows = [
            IndexEntry(B, 1, ContentKind.BLOB, 2.0),
            IndexEntry(A, 10, ContentKind.MANIFEST, 5.0),
            IndexEntry(D, 1, ContentKind.MANIFEST, 9.0),
        ]

        index.restore(rows, {A: [C, B], D: [B]})

        assert (index.children(A), index.children(D)) == ([C, B], [LONG])
        assert (_used(index, B), _used(index, D)) == (5.0, 1.0)


class TestByDigest:
    """The method `by_digest` of an index returns rows in the order of their digests."""

    def test_pages_have_each_row_of_a_range_once(self, index: Index) -> None:
        """A page contains the rows between an exclusive lower bound and an inclusive upper bound.

        Rows that are marked for deletion are left out.
        """
        digests = sorted([A, B, C, D, LONG])
        for number, digest in enumerate(digests):
            index.record(digest, 1, ContentKind.BLOB, float(-number))
        assert index.mark_for_deletion(IndexEntry(digests[1], 1, ContentKind.BLOB, -1.0))

        def page(after: Digest | None, until: Digest | None, limit: int) -> list[Digest]:
            return [row.digest for row in index.by_digest(after, until, limit)]

        assert page(None, None, 9) == [digests[0], *digests[2:]]
        assert page(None, None, 2) == [digests[0], digests[2]]
        assert page(digests[0], digests[3], 9) == digests[2:4]
        assert page(digests[4], None, 9) == []

    def test_the_bounds_may_be_the_first_bytes_of_digests(self, index: Index) -> None:
        """A bound can consist of only the first byte of a digest.

        Digests that begin with this byte come after the bound.
        """
        first = Digest("sha256", "ab" + 62 * "0")
        for digest in (first, Digest("sha256", "aa" + 62 * "f"), Digest("sha256", "ac" + 62 * "0")):
            index.record(digest, 1, ContentKind.BLOB, 1.0)

        found = index.by_digest(Digest("sha256", "ab"), Digest("sha256", "ab" + 62 * "f"), 9)

        assert [row.digest for row in found] == [first]


class TestTouch:
    """`touch` updates the last use of rows."""

    def test_the_later_time_is_kept(self, index: Index) -> None:
        """If a row is touched twice, it keeps the later of the two times, whichever comes first."""
        index.record(A, 1, ContentKind.BLOB, 5.0)

        index.touch({A: 9.5})
        index.touch({A: 7.0})

        assert _used(index, A) == 9.5

    def test_a_touch_creates_no_row(self, index: Index) -> None:
        """`touch` creates no row, so evicted content stays evicted."""
        index.touch({A: 9.0})

        assert (index.entry(A), index.count()) == (None, 0)

    def test_a_touch_of_a_manifest_touches_its_parts(self, index: Index) -> None:
        """A use of a manifest is also treated as a use of its parts.

        A client that already has the parts of an image requests only the manifest.
        """
        index.record(A, 1, ContentKind.INDEX, 1.0, children=[B, D])
        index.record(B, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.record(C, 1, ContentKind.BLOB, 1.0)

        index.touch({A: 9.0})

        assert [_used(index, each) for each in (A, B, C)] == [9.0, 9.0, 9.0]
        assert index.entry(D) is None

    def test_a_touch_of_a_part_does_not_touch_its_manifests(self, index: Index) -> None:
        """A use of a layer does not touch its manifests, because images can share a layer."""
        index.record(B, 1, ContentKind.BLOB, 1.0)
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[B])

        index.touch({B: 9.0})

        assert _used(index, A) == 1.0

    def test_a_part_gets_the_latest_of_all_times(self, index: Index) -> None:
        """The last use of a part is the latest among its own uses and those of its manifests."""
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.record(B, 1, ContentKind.MANIFEST, 1.0, children=[C])
        index.record(C, 1, ContentKind.BLOB, 1.0)

        index.touch({A: 8.0, B: 9.0, C: 7.0})

        assert _used(index, C) == 9.0

    def test_a_touch_of_an_absent_manifest_has_no_effect(self, index: Index) -> None:
        """If the row of a manifest is deleted, a use of the manifest changes no other row.

        The manifest's list of parts is deleted with the row.
        """
        index.record(B, 1, ContentKind.BLOB, 1.0)
        index.record(A, 1, ContentKind.MANIFEST, 1.0, children=[B])
        index.mark_for_deletion(IndexEntry(A, 1, ContentKind.MANIFEST, 1.0))
        index.forget(A)

        index.touch({A: 9.0})

        assert (_used(index, B), index.children(A)) == (1.0, [])

    def test_a_cycle_of_references_ends(self, index: Index) -> None:
        """If two rows refer to each other, `touch` still returns.

        Correct digests rule out such a cycle, but an upstream can send wrong content.
        """
        index.record(A, 1, ContentKind.INDEX, 1.0, children=[B])
        index.record(B, 1, ContentKind.INDEX, 1.0, children=[A])

        index.touch({A: 9.0})

        assert _used(index, B) == 9.0
