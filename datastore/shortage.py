"""What eviction could not free, as the cleaner found it last: kept in the index for all processes.

A store whose content may not be evicted never shrinks below its maximum size, and then nothing more
is cached. The cleaner notes it after a round that was short of room, workers then do not wait for
room, and `status`, `check` and the metrics report it.
"""

from __future__ import annotations

from typing import Final

from entrepot.datastore.index import AccessIndex

_NOTE: Final = "unevictable"
_LOOKED: Final = "looked for room"


def unevictable(index: AccessIndex) -> int:
    """Return the bytes that eviction could not free; 0 while it frees enough.

    Raises: IndexUnavailable.
    """
    noted = index.note(_NOTE) or ""
    return int(noted) if noted.isascii() and noted.isdigit() else 0


def note(index: AccessIndex, size: int) -> None:
    """Note that *size* bytes can't be evicted; 0 takes it back. Raises: IndexUnavailable."""
    if size != unevictable(index):
        index.touch({}, {_NOTE: str(size)})


def looked(index: AccessIndex) -> float:
    """Return when the cleaner last began to look for room and found too little (s, UTC epoch).

    Raises: IndexUnavailable.
    """
    return float(index.note(_LOOKED) or 0)


def note_look(index: AccessIndex, began: float) -> None:
    """Note that a round which began then ended without enough room. Raises: IndexUnavailable."""
    index.touch({}, {_LOOKED: repr(began)})
