"""The scrubbers verify stored content, and move damaged files to quarantine."""

from __future__ import annotations

import io
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entrepot.cleaner.maintenance.damaged import KEPT_S, QuarantineKeeper, QuarantineMetrics
from entrepot.cleaner.maintenance.reading import Condition, ContentReader, Stopped
from entrepot.cleaner.maintenance.scrub import (
    NewContentScrubber,
    Scrubber,
    ScrubPosition,
    ScrubTotals,
    digests,
)
from entrepot.cleaner.maintenance.verify import Verification
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.index import ContentKind
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.unverified import UnverifiedMarks
from tests.clock import Clock

CONTENTS = [bytes([number]) * 5000 for number in range(5)]
DIGESTS = sorted(Digest.of(content) for content in CONTENTS)
HOSTED, PROXIED = Repository("team/app"), Repository("quay.io/app")


@dataclass
class VerifiedStore:
    """A data directory with five blobs, and the objects with which the cleaner verifies them."""

    store: DataDirectory
    clock: Clock
    reported: list[tuple[Digest, int, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    read: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Store the blobs of the test."""
        for content in CONTENTS:
            digest = Digest.of(content)
            self.store.blobs.write(digest, content)
            self.store.index.record(digest, len(content), ContentKind.BLOB, self.clock())

    @property
    def reading(self) -> ContentReader:
        """Return the reader that verifies stored content."""
        store = self.store
        quarantine = Quarantine(
            store.storage, store.index, self.clock, lambda *reported: self.reported.append(reported)
        )
        return ContentReader(store, quarantine, self.clock)

    @property
    def keeper(self) -> QuarantineKeeper:
        """Return the object with which the cleaner lists and removes files in quarantine."""
        return QuarantineKeeper(self.store, self.clock)

    @property
    def unverified(self) -> UnverifiedMarks:
        """Return the marks of unverified content."""
        return UnverifiedMarks(self.store.state / layout.UNVERIFIED)

    def new_content(self) -> NewContentScrubber:
        """Return the scrubber that verifies marked content."""
        return NewContentScrubber(
            self.reading, self.unverified, self.stop, lambda size, _: self.read.append(size)
        )

    def scrubber(self, *, until: int | None = None) -> Scrubber:
        """Return the scrubber that verifies all content; it ends after *until* files."""

        def tell(size: int, _: int) -> None:
            self.read.append(size)
            if until is not None and len(self.read) >= until:
                self.stop.set()

        return Scrubber(self.reading, self.store.state, 2**50, self.stop, tell)

    def path(self, digest: Digest) -> Path:
        """Return the path of the file with the content of *digest*."""
        with self.store.storage.open(layout.blob(digest)) as file:
            return Path(f"/proc/self/fd/{file.fileno()}").readlink()

    def damage(self, digest: Digest) -> bytes:
        """Flip a bit in the file of *digest*, and return its new content."""
        path = self.path(digest)
        content = bytearray(path.read_bytes())
        content[2500] ^= 1
        path.write_bytes(content)
        return bytes(content)

    def in_quarantine(self) -> list[Digest]:
        """Return the digests in quarantine."""
        return [case.damaged.digest for case in self.keeper.cases()]


@pytest.fixture
def verified(store: DataDirectory, clock: Clock) -> VerifiedStore:
    """Return a store of five blobs."""
    return VerifiedStore(store, clock)


# ---- content that was not verified yet


def test_new_content_is_verified_after_its_commit(verified: VerifiedStore) -> None:
    """New content is verified after its commit, and its mark is removed.

    If a file was damaged between its write and this verification, it is moved to quarantine.
    """
    right, wrong = DIGESTS[:2]
    for digest in (right, wrong):
        verified.unverified.add(digest)
    damaged = verified.damage(wrong)

    verified.new_content().prove()

    assert verified.in_quarantine() == [wrong]
    assert verified.store.storage.read(layout.quarantined(wrong)) == damaged
    assert verified.reported == [(wrong, 5000, "commit")]
    assert list(verified.unverified.all()) == []
    assert verified.store.blobs.stat(right)
    assert verified.store.index.entry(wrong) is None


def test_a_mark_waits_for_its_content(verified: VerifiedStore) -> None:
    """If marked content is not stored yet, its mark stays, because the commit may follow.

    If the mark is older than an hour and the content is still absent, the mark is removed.
    """
    absent = Digest.of(b"not yet")
    verified.unverified.add(absent)

    verified.new_content().prove()
    assert [digest for digest, _ in verified.unverified.all()] == [absent]
    path = verified.store.state / layout.UNVERIFIED / layout.spool(absent)
    os.utime(path, (0, 0))
    verified.new_content().prove()

    assert list(verified.unverified.all()) == []


def test_a_mark_stays_until_its_content_is_verified(verified: VerifiedStore) -> None:
    """If the process exits before it has verified marked content, the mark stays."""
    verified.unverified.add(DIGESTS[0])
    verified.stop.set()

    with pytest.raises(Stopped):
        verified.new_content().prove()

    assert [digest for digest, _ in verified.unverified.all()] == [DIGESTS[0]]


# ---- the scrubber of all content


def test_a_pass_reads_everything_and_finds_a_flipped_bit(verified: VerifiedStore) -> None:
    """The scrubber reads all content, and finds a file in which one bit has changed."""
    verified.damage(DIGESTS[2])

    verified.scrubber(until=5).run()

    assert verified.read == [5000] * 5
    assert [digest for digest, _, _ in verified.reported] == [DIGESTS[2]]


def test_a_pass_resumes_after_a_restart(verified: VerifiedStore) -> None:
    """After a restart, the scrubber continues its pass at the saved position."""
    scrub = verified.store.state / layout.SCRUB
    verified.store.state.mkdir(exist_ok=True)
    scrub.write_text(json.dumps({"after": str(DIGESTS[2]), "began": verified.clock()}))

    verified.scrubber(until=2).run()

    assert len(verified.read) == 2


def test_a_pass_begins_a_day_after_the_last(verified: VerifiedStore) -> None:
    """The scrubber begins no pass within a day after the start of the previous one.

    If the saved position is invalid, the scrubber begins a pass immediately.
    """
    scrub = verified.store.state / layout.SCRUB
    verified.store.state.mkdir(exist_ok=True)
    scrub.write_text(json.dumps({"after": "", "began": verified.clock() - 3600}))
    early = verified.scrubber()
    early._pass()
    assert verified.read == []
    scrub.write_text("nonsense")

    early._pass()

    assert len(verified.read) == 5
    assert ScrubPosition(**json.loads(scrub.read_text())) == ScrubPosition("", verified.clock())


def test_verification_corrects_the_size_of_a_row(verified: VerifiedStore) -> None:
    """If a row has another size than the intact content, a verification corrects the row."""
    verified.store.index.record(DIGESTS[0], 17, ContentKind.BLOB, verified.clock())

    found = verified.reading.check(DIGESTS[0], found="scrub", pace=lambda _: None)

    row = verified.store.index.entry(DIGESTS[0])
    assert found.verdict is Condition.RIGHT
    assert row is not None
    assert row.size == 5000


def test_content_evicted_during_its_verification_is_not_damaged(verified: VerifiedStore) -> None:
    """If content is evicted or replaced during its verification, it does not count as damaged."""
    verified.damage(DIGESTS[0])
    replaced = verified.damage(DIGESTS[1])

    def evict(_: int) -> None:
        verified.store.blobs.delete(DIGESTS[0])
        verified.store.storage.write(layout.blob(DIGESTS[1]), replaced)

    verdicts = [
        verified.reading.check(digest, found="scrub", pace=evict).verdict for digest in DIGESTS[:2]
    ]

    assert verdicts == [Condition.ABSENT, Condition.ABSENT]
    assert verified.in_quarantine() == []


def test_reads_are_reported_in_sums() -> None:
    """The numbers of read files and bytes are reported as sums, not for each file."""
    reported: list[tuple[int, int]] = []
    gathered = ScrubTotals(lambda *each: reported.append(each))
    for _ in range(100):
        gathered.add(10, 1)

    assert sum(files for files, _ in reported) <= 100
    assert len(reported) < 50


def test_digests_are_listed_in_order_after_a_position(verified: VerifiedStore) -> None:
    """`digests` yields the digests of stored content in order, and begins after a given digest.

    Files whose names are not digests are skipped.
    """
    verified.store.storage.write(f"{layout.BLOBS}/sha256/zz/nonsense/data", b"")

    assert list(digests(verified.store.storage)) == DIGESTS
    assert list(digests(verified.store.storage, str(DIGESTS[1]))) == DIGESTS[2:]


# ---- the quarantine


def _put(verified: VerifiedStore, digest: Digest) -> None:
    verified.damage(digest)
    verified.reading.check(digest, found="scrub", pace=lambda _: None)


def test_files_in_quarantine_count_as_used_bytes(verified: VerifiedStore) -> None:
    """A file in quarantine counts as used bytes until it is removed.

    Its reservation has no spool file, but the cleaner does not release the reservation.
    """
    before = verified.store.index.reservations.used_bytes()
    _put(verified, DIGESTS[0])
    verified.clock.now += 3600

    Spool(verified.store, verified.clock).settle()
    assert verified.store.index.reservations.used_bytes() == before

    verified.clock.now += KEPT_S
    Spool(verified.store, verified.clock).purge()

    assert verified.in_quarantine() == []
    assert verified.store.index.reservations.used_bytes() < before


def test_a_lost_index_counts_files_in_quarantine_again(verified: VerifiedStore) -> None:
    """If the reservation of a file in quarantine was lost with the index, it is restored."""
    _put(verified, DIGESTS[0])
    held = verified.store.index.reservations.used_bytes()
    verified.store.index.reservations.release(layout.quarantine_reservation(DIGESTS[0]))

    Spool(verified.store, verified.clock).settle()

    assert verified.store.index.reservations.used_bytes() == held


def test_a_damaged_hosted_file_stays(verified: VerifiedStore) -> None:
    """A damaged file of a hosted repository stays in quarantine, because it is the only copy.

    After a client has pushed the content again, the damaged file is removed.
    """
    pulled, pushed, repaired = DIGESTS[:3]
    verified.store.repositories.set_origin(PROXIED, "quay.io")
    verified.store.repositories.link_blob(PROXIED, pulled)
    verified.store.repositories.link_blob(HOSTED, pushed)
    verified.store.repositories.link_blob(HOSTED, repaired)
    for digest in (pulled, pushed, repaired):
        _put(verified, digest)
    content = next(each for each in CONTENTS if Digest.of(each) == repaired)
    verified.store.blobs.write(repaired, content)

    verified.clock.now += 2 * KEPT_S
    Spool(verified.store, verified.clock).purge()
    Spool(verified.store, verified.clock).make_room(lambda: False)

    assert verified.in_quarantine() == [pushed]
    assert verified.store.storage.read(layout.quarantined(pushed))


def test_a_change_of_the_quarantine_is_reported_once(verified: VerifiedStore) -> None:
    """The numbers of files and bytes in quarantine are reported only after a change."""
    reported: list[tuple[int, int]] = []
    census = QuarantineMetrics(verified.keeper, lambda *each: reported.append(each))
    census.look()
    _put(verified, DIGESTS[0])
    census.look()
    census.look()

    assert reported == [(0, 0), (1, 5000)]


# ---- the command `entrepot verify`


def _verify(verified: VerifiedStore, *, as_json: bool = False) -> tuple[bool, str]:
    written: list[str] = []
    verification = Verification(verified.reading, verified.keeper, io.StringIO())
    is_right = verification.run(written.append, as_json=as_json)
    return is_right, "\n".join(written)


def test_verify_succeeds_on_an_undamaged_store(verified: VerifiedStore) -> None:
    """If no content is damaged, `entrepot verify` succeeds and reports the files and bytes."""
    assert _verify(verified) == (True, "5 files, 24 KiB read, 0 damaged, 0 in quarantine")


def test_verify_reports_damaged_files(verified: VerifiedStore) -> None:
    """`entrepot verify` reports the digest of a damaged file and the repositories that link it.

    The command exits with an error until a client has pushed the content again.
    """
    verified.store.repositories.link_blob(HOSTED, DIGESTS[0])
    verified.damage(DIGESTS[0])

    is_right, text = _verify(verified, as_json=True)
    (found,) = json.loads(text)["damaged"]

    assert not is_right
    assert found["digest"] == str(DIGESTS[0])
    assert (found["new"], found["repaired"]) == (True, False)
    assert (found["pushed"], found["repositories"]) == (["team/app"], ["team/app"])
    assert "lost: pushed to team/app" in _verify(verified)[1]
    assert not _verify(verified)[0]  # The content is lost until it is pushed again.
    content = next(each for each in CONTENTS if Digest.of(each) == DIGESTS[0])
    verified.store.blobs.write(DIGESTS[0], content)
    assert _verify(verified)[0]
