"""The cleaner's findings on space that eviction cannot free, kept in the index for all processes.

A store whose content may not be evicted never shrinks below its maximum size, and then nothing more
is cached. The cleaner records that after a round that freed too little. Workers then do not wait
for space, and `status`, `check` and the metrics report it.
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
    """Record that *size* bytes can't be evicted; 0 withdraws it. Raises: IndexUnavailable."""
    if size != unevictable(index):
        index.touch({}, {_NOTE: str(size)})


def looked(index: AccessIndex) -> float:
    """Return the start of the cleaner's last round that freed too little (s, UTC epoch), or 0.

    Raises: IndexUnavailable.
    """
    return float(index.note(_LOOKED) or 0)


def note_look(index: AccessIndex, began: float) -> None:
    """Record that the round that began at *began* freed too little. Raises: IndexUnavailable."""
    index.touch({}, {_LOOKED: repr(began)})
