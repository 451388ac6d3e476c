"""What running downloads and uploads were promised, read off their files.

An index that was lost, or replaced because it was broken, knows nothing of it, while the writers
go on as far as they were promised. So before a new index grants anything, all of that is promised
anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.budget import STEP
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import Reservation
from entrepot.datastore.locks import is_locked
from entrepot.datastore.refs import Digest


def promise_again(store: DataDirectory, room: int | None, now: float) -> None:
    """Reserve anew what the writers of spool files and uploads may still write, and have written.

    *room* is the most that could have been promised, in bytes. Raises: IndexUnavailable.
    """
    known = {each.digest: each for each in store.index.reservations()}
    for digest, path in _files(store):
        size = _promised(path, room)
        if size > _size_of(known.get(digest)):
            store.index.reserve(digest, size, None, now)


def _files(store: DataDirectory) -> Iterator[tuple[Digest, Path]]:
    """Yield the files that grow, each with the digest of its reservation."""
    for path in _below(store.spool):
        digest = layout.spool_of(path.name)
        if digest is not None:
            yield digest, path
    for path in _below(store.state / layout.UPLOADS):
        if not path.name.endswith((layout.upload_digest(""), layout.upload_size(""))):
            yield layout.upload_promise(path.name), path


def _promised(path: Path, room: int | None) -> int:
    """Return what was promised for one file, at most: what it has, where nobody writes to it."""
    try:
        length = path.stat().st_size
        if not is_locked(path):
            return length
    except (OSError, DatastoreError):
        return 0
    announced = _announced(path.with_name(f"{path.name}.size"))
    if announced is None or (room is not None and announced > room):
        return length + STEP if length else 0
    return max(announced, length)


def _announced(path: Path) -> int | None:
    try:
        text = path.read_text()
    except (OSError, ValueError):
        return None
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None  # noqa: PLR2004 - digits of 2**63


def _size_of(reservation: Reservation | None) -> int:
    return reservation.size if reservation else 0


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
