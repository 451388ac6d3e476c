"""Tests that damaged objects in a bucket are found by their lengths, and are not served."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.maintenance.damaged import QuarantineKeeper
from entrepot.cleaner.maintenance.readers import Listeners, Readers
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.blobs import BlobStore, Integrity
from entrepot.datastore.errors import NotFound
from entrepot.datastore.index import ContentKind
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.rebuild import rebuild
from entrepot.datastore.refs import Digest
from entrepot.datastore.unverified import UnverifiedMarks
from tests.bucket_appliance import DAY, NOW, Appliance
from tests.cleaner.stock import HOSTED, PROXIED, UPSTREAM, put_blob
from tests.s3_front import S3Front

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 300


class Scene:
    """An appliance with one proxied and one pushed blob, and the objects that verify content."""

    def __init__(self, s3: S3Front, folder: Path) -> None:
        self.s3 = s3
        self.appliance = Appliance(s3, folder)
        self.store = self.appliance.store
        self.said: list[Event] = []
        self.readers = Readers(
            self.store, self.appliance.clock, threading.Event(), Listeners(self.said.append)
        )
        self.appliance.rebuild()
        self.store.repositories.set_origin(PROXIED, UPSTREAM)
        self.proxied = put_blob(self.store, CONTENT, NOW - DAY)
        self.pushed = put_blob(self.store, CONTENT[::-1], NOW - DAY)
        self.store.repositories.link_blob(PROXIED, self.proxied)
        self.store.repositories.link_blob(HOSTED, self.pushed)
        s3.forget()

    def damage(self, digest: Digest, content: bytes) -> None:
        """Replace an object, as a faulty service or another program could do."""
        self.s3.put(layout.blob(digest), content)

    def compare(self) -> None:
        """Compare the lengths of all objects, and purge the quarantine, as the cleaner does daily.

        Before that, empty the journal of the bucket, as the start of the appliance does.
        """
        self.appliance.journal.clear()
        rebuild(
            self.store.storage,
            self.appliance.index,
            self.appliance.clock(),
            snapshots=self.appliance.snapshots,
            examine=self.readers.examine,
        )
        self.keeper().purge()

    def keeper(self) -> QuarantineKeeper:
        """Return the object with which the cleaner removes files in quarantine."""
        return QuarantineKeeper(self.store, self.appliance.clock)

    def verify(self) -> tuple[str, str, bool]:
        """Verify all content; return the progress lines, the report and the result."""
        progress, report = io.StringIO(), list[str]()
        done = self.readers.verification(progress).run(report.append, as_json=False)
        return progress.getvalue(), report[0], done

    def worker(self) -> BlobStore:
        """Return the blob store of a worker."""
        index, storage = self.appliance.index, self.store.storage
        marks = UnverifiedMarks(self.store.state / layout.UNVERIFIED)
        return BlobStore(storage, Integrity(storage, index, Quarantine(storage, index), marks))

    def bodies(self) -> int:
        """Return how many GETs of blobs the bucket has received since the last call."""
        count = self.s3.count("GET", f"^{layout.BLOBS}/")
        self.s3.forget()
        return count


@pytest.fixture
def scene(s3: S3Front, tmp_path: Path) -> Iterator[Scene]:
    """Return an appliance whose content is intact."""
    made = Scene(s3, tmp_path / "state")
    yield made
    made.appliance.index.close()


def test_intact_content_is_never_read(scene: Scene) -> None:
    """A comparison of lengths sends no GET for intact blobs, because a list shows the lengths."""
    scene.compare()

    assert scene.bodies() == 0
    assert scene.said == []


def test_damaged_content_with_an_upstream_is_deleted(scene: Scene) -> None:
    """If a proxied blob in the bucket is damaged, it is deleted; a later pull fetches it again.

    Only the object with a wrong length is read.
    """
    scene.damage(scene.proxied, CONTENT[:-1])

    scene.compare()

    assert scene.bodies() == 1
    assert scene.s3.get(layout.blob(scene.proxied)) is None
    assert scene.s3.keys(layout.QUARANTINE) == []
    assert scene.appliance.index.entry(scene.proxied) is None
    assert [each.name for each in scene.said] == ["damaged"]
    assert scene.worker().open(scene.pushed).read() == CONTENT[::-1]


def test_damaged_content_that_was_pushed_stays_with_a_mark_until_it_is_pushed_again(
    scene: Scene,
) -> None:
    """If pushed content in the bucket is damaged, it is marked, and counts as absent.

    After a client has pushed the content again, the content is served.
    """
    worker = scene.worker()
    worker.open(scene.pushed).close()
    scene.damage(scene.pushed, CONTENT[1:])
    scene.compare()
    (case,) = scene.keeper().cases()
    scene.s3.forget()

    assert (case.is_lost, case.pushed, case.damaged.size) == (
        True,
        (str(HOSTED),),
        len(CONTENT) - 1,
    )
    assert scene.s3.get(layout.blob(scene.pushed)) == CONTENT[1:]
    for each in (worker, scene.worker()):
        assert each.stat(scene.pushed) is None
        with pytest.raises(NotFound):
            each.open(scene.pushed)
    scene.compare()
    assert len(list(scene.keeper().cases())) == len(scene.said) == 1

    put_blob(scene.store, CONTENT[::-1], NOW)
    assert worker.stat(scene.pushed) is not None
    assert worker.open(scene.pushed).read() == CONTENT[::-1]
    scene.compare()
    assert list(scene.keeper().cases()) == []
    assert worker.open(scene.pushed).read() == CONTENT[::-1]


def test_damaged_content_is_not_served_while_it_is_pinned(scene: Scene) -> None:
    """A pin, such as that of a signed URL, does not keep damaged content from being marked.

    Without the mark, the row of the pinned content would show that the content is intact.
    """
    scene.appliance.index.pins.pin([scene.pushed], NOW + DAY)
    scene.damage(scene.pushed, CONTENT[1:])

    scene.compare()

    (case,) = scene.keeper().cases()
    assert case.is_lost
    with pytest.raises(NotFound):
        scene.worker().open(scene.pushed)


def test_damage_without_another_length_is_found_by_a_verification(scene: Scene) -> None:
    """If damage does not change the length of an object, only `entrepot verify` finds it.

    `entrepot verify` reads all content, and first prints how many requests and bytes this costs.
    """
    scene.damage(scene.pushed, bytes(len(CONTENT)))
    worker = scene.worker()
    scene.compare()
    assert scene.said == []

    progress, report, done = scene.verify()

    assert progress.startswith("reading 2 objects, 150 KiB, with a GET request each\n")
    assert scene.bodies() == 2
    assert not done
    assert f"lost: pushed to {HOSTED}" in report
    with pytest.raises(NotFound):
        worker.open(scene.pushed)


def test_a_verification_removes_the_mark_of_content_that_is_intact_again(scene: Scene) -> None:
    """If damaged content was restored from a backup, `entrepot verify` removes its mark."""
    scene.damage(scene.pushed, b"damaged")
    scene.compare()
    scene.damage(scene.pushed, CONTENT[::-1])
    scene.appliance.journal.clear()

    _, _, done = scene.verify()

    assert done
    assert scene.worker().open(scene.pushed).read() == CONTENT[::-1]
    assert list(scene.keeper().cases()) == []


def test_a_wrong_size_in_the_index_is_corrected_if_the_digest_is_right(scene: Scene) -> None:
    """If an object has another size than its row, but the right digest, the row is corrected."""
    scene.appliance.index.record(scene.proxied, 5, ContentKind.BLOB, NOW)

    scene.compare()

    row = scene.appliance.index.entry(scene.proxied)
    assert row is not None
    assert row.size == len(CONTENT)
    assert scene.said == []


def test_an_appliance_that_does_not_own_the_bucket_changes_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """If an appliance does not own the bucket, it does not mark a damaged object.

    The comparison of lengths continues with the other objects.
    """
    scene.damage(scene.pushed, b"damaged")
    scene.appliance.is_owner = False
    rows = scene.appliance.rows()
    rebuild(scene.store.storage, scene.appliance.index, NOW, examine=scene.readers.examine)

    assert "was not verified" in caplog.text
    assert scene.appliance.rows() == rows
    assert scene.s3.keys(layout.QUARANTINE) == []


@pytest.mark.parametrize("mark", [b"", b"[]", b'{"size": "x"}', b'{"size": 1}', b"\xff" * 9000])
def test_a_mark_of_another_program_states_nothing(scene: Scene, mark: bytes) -> None:
    """An invalid mark that another program wrote for intact content is removed.

    The content is served.
    """
    scene.s3.put(layout.quarantined(scene.pushed), mark)

    scene.compare()

    assert scene.worker().open(scene.pushed).read() == CONTENT[::-1]
    assert list(scene.keeper().cases()) == []
