"""Stored content is read again; what is wrong goes into quarantine, and is looked after there."""

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
class Desk:
    """A store with five blobs, and everything that reads it."""

    store: DataDirectory
    clock: Clock
    told: list[tuple[Digest, int, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    read: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Store what is read here."""
        for content in CONTENTS:
            digest = Digest.of(content)
            self.store.blobs.write(digest, content)
            self.store.index.record(digest, len(content), ContentKind.BLOB, self.clock())

    @property
    def reading(self) -> ContentReader:
        """Return what reads."""
        store = self.store
        quarantine = Quarantine(
            store.storage, store.index, self.clock, lambda *told: self.told.append(told)
        )
        return ContentReader(store, quarantine, self.clock)

    @property
    def keeper(self) -> QuarantineKeeper:
        """Return what looks after the quarantine."""
        return QuarantineKeeper(self.store, self.clock)

    @property
    def unproven(self) -> UnverifiedMarks:
        """Return the marks."""
        return UnverifiedMarks(self.store.state / layout.UNVERIFIED)

    def proofs(self) -> NewContentScrubber:
        """Return what reads new content."""
        return NewContentScrubber(
            self.reading, self.unproven, self.stop, lambda size, _: self.read.append(size)
        )

    def scrubber(self, *, until: int | None = None) -> Scrubber:
        """Return what reads all of it; it ends by itself after *until* files."""

        def tell(size: int, _: int) -> None:
            self.read.append(size)
            if until is not None and len(self.read) >= until:
                self.stop.set()

        return Scrubber(self.reading, self.store.state, 2**50, self.stop, tell)

    def path(self, digest: Digest) -> Path:
        """Return the file of a blob."""
        with self.store.storage.open(layout.blob(digest)) as file:
            return Path(f"/proc/self/fd/{file.fileno()}").readlink()

    def damage(self, digest: Digest) -> bytes:
        """Flip a bit of a stored file, and return what it has then."""
        path = self.path(digest)
        content = bytearray(path.read_bytes())
        content[2500] ^= 1
        path.write_bytes(content)
        return bytes(content)

    def in_quarantine(self) -> list[Digest]:
        """Return what lies there."""
        return [case.damaged.digest for case in self.keeper.cases()]


@pytest.fixture
def desk(store: DataDirectory, clock: Clock) -> Desk:
    """Return five blobs."""
    return Desk(store, clock)


# ---- new content


def test_new_content_is_read_once_more(desk: Desk) -> None:
    """What was damaged between its writing and its reading is not served any more."""
    right, wrong = DIGESTS[:2]
    for digest in (right, wrong):
        desk.unproven.add(digest)
    damaged = desk.damage(wrong)

    desk.proofs().prove()

    assert desk.in_quarantine() == [wrong]
    assert desk.store.storage.read(layout.quarantined(wrong)) == damaged
    assert desk.told == [(wrong, 5000, "commit")]
    assert list(desk.unproven.all()) == []
    assert desk.store.blobs.stat(right)
    assert desk.store.index.entry(wrong) is None


def test_a_mark_waits_for_its_content(desk: Desk) -> None:
    """It is made before the content is stored, which a kill may prevent for ever."""
    absent = Digest.of(b"not yet")
    desk.unproven.add(absent)

    desk.proofs().prove()
    assert [digest for digest, _ in desk.unproven.all()] == [absent]
    path = desk.store.state / layout.UNVERIFIED / layout.spool(absent)
    os.utime(path, (0, 0))
    desk.proofs().prove()

    assert list(desk.unproven.all()) == []


def test_a_mark_stays_until_its_content_was_read_to_the_end(desk: Desk) -> None:
    """A stop in between, or a kill, leaves it to the next process."""
    desk.unproven.add(DIGESTS[0])
    desk.stop.set()

    with pytest.raises(Stopped):
        desk.proofs().prove()

    assert [digest for digest, _ in desk.unproven.all()] == [DIGESTS[0]]


# ---- all content


def test_a_pass_reads_everything_and_finds_a_flipped_bit(desk: Desk) -> None:
    """In the order of the digests."""
    desk.damage(DIGESTS[2])

    desk.scrubber(until=5).run()

    assert desk.read == [5000] * 5
    assert [digest for digest, _, _ in desk.told] == [DIGESTS[2]]


def test_a_pass_goes_on_where_it_was(desk: Desk) -> None:
    """A restart reads nothing twice."""
    scrub = desk.store.state / layout.SCRUB
    desk.store.state.mkdir(exist_ok=True)
    scrub.write_text(json.dumps({"after": str(DIGESTS[2]), "began": desk.clock()}))

    desk.scrubber(until=2).run()

    assert len(desk.read) == 2


def test_a_pass_begins_a_day_after_the_last(desk: Desk) -> None:
    """A small store is not read all the time; a position that makes no sense is none."""
    scrub = desk.store.state / layout.SCRUB
    desk.store.state.mkdir(exist_ok=True)
    scrub.write_text(json.dumps({"after": "", "began": desk.clock() - 3600}))
    early = desk.scrubber()
    early._pass()
    assert desk.read == []
    scrub.write_text("nonsense")

    early._pass()

    assert len(desk.read) == 5
    assert ScrubPosition(**json.loads(scrub.read_text())) == ScrubPosition("", desk.clock())


def test_reading_corrects_the_size_of_a_row(desk: Desk) -> None:
    """A rebuilt index has the length of the file as it then was."""
    desk.store.index.record(DIGESTS[0], 17, ContentKind.BLOB, desk.clock())

    found = desk.reading.check(DIGESTS[0], found="scrub", pace=lambda _: None)

    row = desk.store.index.entry(DIGESTS[0])
    assert found.verdict is Condition.RIGHT
    assert row is not None
    assert row.size == 5000


def test_content_that_is_evicted_while_it_is_read_is_not_damaged(desk: Desk) -> None:
    """Nor is what is replaced."""
    desk.damage(DIGESTS[0])
    replaced = desk.damage(DIGESTS[1])

    def evict(_: int) -> None:
        desk.store.blobs.delete(DIGESTS[0])
        desk.store.storage.write(layout.blob(DIGESTS[1]), replaced)

    verdicts = [
        desk.reading.check(digest, found="scrub", pace=evict).verdict for digest in DIGESTS[:2]
    ]

    assert verdicts == [Condition.ABSENT, Condition.ABSENT]
    assert desk.in_quarantine() == []


def test_what_is_read_is_told_in_sums() -> None:
    """An event for each file would be too many."""
    told: list[tuple[int, int]] = []
    gathered = ScrubTotals(lambda *each: told.append(each))
    for _ in range(100):
        gathered.add(10, 1)

    assert sum(files for files, _ in told) <= 100
    assert len(told) < 50


def test_the_digests_behind_one_are_found(desk: Desk) -> None:
    """In order, and nothing that is none."""
    desk.store.storage.write(f"{layout.BLOBS}/sha256/zz/nonsense/data", b"")

    assert list(digests(desk.store.storage)) == DIGESTS
    assert list(digests(desk.store.storage, str(DIGESTS[1]))) == DIGESTS[2:]


# ---- the quarantine


def _put(desk: Desk, digest: Digest) -> None:
    desk.damage(digest)
    desk.reading.check(digest, found="scrub", pace=lambda _: None)


def test_files_in_quarantine_count_until_they_go(desk: Desk) -> None:
    """A round does not take their room back as that of a dead download."""
    before = desk.store.index.used_bytes()
    _put(desk, DIGESTS[0])
    desk.clock.now += 3600

    Spool(desk.store, desk.clock).settle()
    assert desk.store.index.used_bytes() == before

    desk.clock.now += KEPT_S
    Spool(desk.store, desk.clock).purge()

    assert desk.in_quarantine() == []
    assert desk.store.index.used_bytes() < before


def test_a_lost_index_counts_them_again(desk: Desk) -> None:
    """They lie on the disk."""
    _put(desk, DIGESTS[0])
    held = desk.store.index.used_bytes()
    desk.store.index.release(layout.quarantine_promise(DIGESTS[0]))

    Spool(desk.store, desk.clock).settle()

    assert desk.store.index.used_bytes() == held


def test_a_damaged_pushed_file_stays(desk: Desk) -> None:
    """Neither time nor want of room removes the only copy that there is."""
    pulled, pushed, repaired = DIGESTS[:3]
    desk.store.repositories.keep_origin(PROXIED, "quay.io")
    desk.store.repositories.link_blob(PROXIED, pulled)
    desk.store.repositories.link_blob(HOSTED, pushed)
    desk.store.repositories.link_blob(HOSTED, repaired)
    for digest in (pulled, pushed, repaired):
        _put(desk, digest)
    content = next(each for each in CONTENTS if Digest.of(each) == repaired)
    desk.store.blobs.write(repaired, content)

    desk.clock.now += 2 * KEPT_S
    Spool(desk.store, desk.clock).purge()
    Spool(desk.store, desk.clock).make_room(lambda: False)

    assert desk.in_quarantine() == [pushed]
    assert desk.store.storage.read(layout.quarantined(pushed))


def test_a_change_of_the_quarantine_is_told_once(desk: Desk) -> None:
    """What it holds is a metric."""
    told: list[tuple[int, int]] = []
    census = QuarantineMetrics(desk.keeper, lambda *each: told.append(each))
    census.look()
    _put(desk, DIGESTS[0])
    census.look()
    census.look()

    assert told == [(0, 0), (1, 5000)]


# ---- verify


def _verify(desk: Desk, *, as_json: bool = False) -> tuple[bool, str]:
    written: list[str] = []
    verification = Verification(desk.reading, desk.keeper, io.StringIO())
    is_right = verification.run(written.append, as_json=as_json)
    return is_right, "\n".join(written)


def test_verify_finds_nothing_where_all_is_right(desk: Desk) -> None:
    """And says how much it has read."""
    assert _verify(desk) == (True, "5 files, 24 KiB read, 0 damaged, 0 in quarantine")


def test_verify_reports_what_is_damaged(desk: Desk) -> None:
    """By digest, with what was pushed and is lost."""
    desk.store.repositories.link_blob(HOSTED, DIGESTS[0])
    desk.damage(DIGESTS[0])

    is_right, text = _verify(desk, as_json=True)
    (found,) = json.loads(text)["damaged"]

    assert not is_right
    assert found["digest"] == str(DIGESTS[0])
    assert (found["new"], found["repaired"]) == (True, False)
    assert (found["pushed"], found["repositories"]) == (["team/app"], ["team/app"])
    assert "lost: pushed to team/app" in _verify(desk)[1]
    assert not _verify(desk)[0]  # until it was pushed again
    content = next(each for each in CONTENTS if Digest.of(each) == DIGESTS[0])
    desk.store.blobs.write(DIGESTS[0], content)
    assert _verify(desk)[0]
