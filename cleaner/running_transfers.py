"""Add the reservations of running downloads and uploads to a new index.

If the index was lost or damaged, it is replaced by a new index, which has no reservations. But the
downloads and uploads in progress still need the space that the old index had reserved for them. So
this module computes their reservations from their files, and adds them before the new index grants
any other reservation.
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
    """Reserve space for each spool file and each upload, if less is reserved.

    A file beside the spool file or upload, with the suffix `.size`, contains the final length. A
    length above *room*, the cap in bytes, is ignored. Raises: IndexUnavailable.
    """
    known = {each.digest: each for each in store.index.reservations.all()}
    for digest, path in _files(store):
        size = _largest_reservation(path, room)
        if size > _size_of(known.get(digest)):
            store.index.reservations.reserve(digest, size, None, now)


def _files(store: DataDirectory) -> Iterator[tuple[Digest, Path]]:
    """Yield each file of a download or upload, and the digest that identifies its reservation."""
    for path in _below(store.spool):
        digest = layout.spool_of(path.name)
        if digest is not None:
            yield digest, path
    for path in _below(store.state / layout.UPLOADS):
        if not path.name.endswith((layout.upload_digest(""), layout.upload_size(""))):
            yield layout.upload_reservation(path.name), path


def _largest_reservation(path: Path, room: int | None) -> int:
    """Return the number of bytes to reserve for a file.

    If no process writes to the file, return its length. Otherwise return the final length or, if
    the final length is unknown, the current length plus `STEP`.
    """
    try:
        length = path.stat().st_size
        if not is_locked(path):
            return length
    except (OSError, DatastoreError):
        return 0
    announced = _announced_size(path.with_name(f"{path.name}.size"))
    if announced is None or (room is not None and announced > room):
        return length + STEP if length else 0
    return max(announced, length)


def _announced_size(path: Path) -> int | None:
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
