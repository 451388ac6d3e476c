"""The number of unfinished uploads is limited in total and for each owner."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.refs import Repository
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.errors import TooManyUploads
from entrepot.registry.push.hashes import Hashes
from entrepot.registry.push.upload_sessions import Sessions, UploadLimits

NAME = Repository.parse("team/app")


class Uploads:
    """The uploads of a worker; the limits are three in total, and two for each owner.

    An owner is a user or an address.
    """

    def __init__(self, folder: Path) -> None:
        self.reached = 0
        limits = UploadLimits(3, 2, self._count)
        self.folder = folder
        index = MemoryIndex()
        reservations = Reservations(index.reservations, SpaceLimits(), notes=index.notes)
        self.sessions = Sessions(folder, reservations, Hashes(), limits)

    def _count(self) -> None:
        self.reached += 1

    def begin(self, owner: str) -> str:
        """Begin an upload for *owner*, and return its ID."""
        return self.sessions.begin(NAME, owner=owner)

    def age(self, number: str, seconds: float, content: bytes = b"") -> None:
        """Set an upload's *content*, and make its file look unused for *seconds*."""
        (path,) = self.folder.glob(f"{number}*")
        path.write_bytes(content)
        then = time.time() - seconds
        os.utime(path, (then, then))


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    """Return the `Uploads` object of a worker without uploads."""
    return Uploads(tmp_path / "uploads")


def test_an_owner_cannot_exceed_its_limit(uploads: Uploads) -> None:
    """If an owner has two uploads, a third is rejected; another owner can still begin an upload.

    The rejected upload is counted in a metric.
    """
    uploads.begin("ann")
    uploads.begin("ann")

    with pytest.raises(TooManyUploads):
        uploads.begin("ann")
    uploads.begin("bob")
    assert uploads.reached == 1


def test_the_total_limit_covers_all_workers(uploads: Uploads) -> None:
    """The limit counts the upload files on the disk, so it holds for all workers together."""
    for owner in ("ann", "bob", "cid"):
        uploads.begin(owner)

    with pytest.raises(TooManyUploads):
        uploads.begin("dan")
    assert len(list(uploads.folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("age", "content", "makes_way"),
    [(61, b"", True), (59, b"", False), (3601, b"x", True), (3500, b"x", False)],
)
def test_idle_uploads_are_removed_at_the_limit(
    uploads: Uploads, age: float, content: bytes, *, makes_way: bool
) -> None:
    """If the limit is reached, the oldest idle upload is deleted to make room for a new upload.

    An empty upload is idle after a minute without requests, and an upload with bytes after an hour.
    So abandoned uploads do not prevent new uploads for long.
    """
    number = uploads.begin("ann")
    uploads.begin("ann")
    uploads.age(number, age, content)

    if makes_way:
        uploads.begin("ann")
    else:
        with pytest.raises(TooManyUploads):
            uploads.begin("ann")
    assert bool(list(uploads.folder.glob(f"{number}*"))) is not makes_way


def test_a_locked_upload_is_not_removed(uploads: Uploads) -> None:
    """While a request uses an upload, the upload's file is locked.

    So a new upload does not displace this upload, even if the limit is reached.
    """
    number = uploads.begin("ann")
    uploads.begin("ann")
    uploads.age(number, 10_000)

    with uploads.sessions.open(NAME, number), pytest.raises(TooManyUploads):
        uploads.begin("ann")


def test_a_note_about_an_upload_is_no_upload(uploads: Uploads) -> None:
    """The files with an upload's length and running hash are not counted as uploads.

    These files are deleted together with the upload, not earlier.
    """
    uploads.begin("ann")
    (upload,) = uploads.folder.iterdir()
    named = (layout.upload_digest(upload.name), layout.upload_size(upload.name))
    notes = [upload.with_name(each) for each in named]
    for note in notes:
        note.write_text("1")
        os.utime(note, (0, 0))

    uploads.begin("ann")
    with pytest.raises(TooManyUploads):
        uploads.begin("ann")
    assert all(note.exists() for note in notes)

    os.utime(upload, (0, 0))
    uploads.begin("ann")
    assert not any(note.exists() for note in notes)
