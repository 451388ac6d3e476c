"""Uploads that are begun and not ended are bounded in number."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.refs import Repository
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.errors import TooManyUploads
from entrepot.registry.push.hashes import Hashes
from entrepot.registry.push.upload_sessions import Sessions, UploadLimits

NAME = Repository.parse("team/app")


class Uploads:
    """Uploads that may be three in all, and two of one owner."""

    def __init__(self, folder: Path) -> None:
        self.reached = 0
        limits = UploadLimits(3, 2, self._count)
        self.folder = folder
        self.sessions = Sessions(
            folder, Reservations(MemoryIndex(), SpaceLimits()), Hashes(), limits
        )

    def _count(self) -> None:
        self.reached += 1

    def begin(self, owner: str) -> str:
        """Begin one."""
        return self.sessions.begin(NAME, owner=owner)

    def age(self, number: str, seconds: float, content: bytes = b"") -> None:
        """Let one have stood still so long, with so much in it."""
        (path,) = self.folder.glob(f"{number}*")
        path.write_bytes(content)
        then = time.time() - seconds
        os.utime(path, (then, then))


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    """Return none yet."""
    return Uploads(tmp_path / "uploads")


def test_one_owner_takes_no_more_than_a_share(uploads: Uploads) -> None:
    """Others may begin theirs; the refusal is counted."""
    uploads.begin("ann")
    uploads.begin("ann")

    with pytest.raises(TooManyUploads):
        uploads.begin("ann")
    uploads.begin("bob")
    assert uploads.reached == 1


def test_all_together_are_bounded(uploads: Uploads) -> None:
    """By files on the disk, whichever worker began them."""
    for owner in ("ann", "bob", "cid"):
        uploads.begin(owner)

    with pytest.raises(TooManyUploads):
        uploads.begin("dan")
    assert len(list(uploads.folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("age", "content", "makes_way"),
    [(61, b"", True), (59, b"", False), (3601, b"x", True), (3500, b"x", False)],
)
def test_what_stands_still_makes_way(
    uploads: Uploads, age: float, content: bytes, *, makes_way: bool
) -> None:
    """Empty ones soon, others after an hour; nobody is locked out by what was left behind."""
    number = uploads.begin("ann")
    uploads.begin("ann")
    uploads.age(number, age, content)

    if makes_way:
        uploads.begin("ann")
    else:
        with pytest.raises(TooManyUploads):
            uploads.begin("ann")
    assert bool(list(uploads.folder.glob(f"{number}*"))) is not makes_way


def test_one_that_is_written_to_does_not_make_way(uploads: Uploads) -> None:
    """However long its request waits for the next byte."""
    number = uploads.begin("ann")
    uploads.begin("ann")
    uploads.age(number, 10_000)

    with uploads.sessions.open(NAME, number), pytest.raises(TooManyUploads):
        uploads.begin("ann")
