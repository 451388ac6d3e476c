"""The Storage protocol: bytes under keys; a driver verifies nothing and decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Stat:
    """One value: its key, its `size` in bytes, when it was last `modified` (s, UTC epoch)."""

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """Bytes under slash-separated keys, which callers made with `datastore.layout`.

    Every verb may be repeated. Several processes use one storage at once.
    Raises, each verb: StorageFull, StorageBroken; and NotFound where it is said.
    """

    def stat(self, key: str) -> Stat | None:
        """Return what is known of a value; None when it is absent."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Open a value for reading: seekable, with `fileno()` where it is a file.

        Raises: NotFound.
        """
        ...

    def read(self, key: str, most: int | None = None) -> bytes:
        """Return a small value.

        Raises: NotFound, also when the value is longer than *most* bytes: then no more than that is
        read (None: there is no bound).
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Set a small value, atomically: readers see the old one or the new one."""
        ...

    def adopt(self, path: Path, key: str) -> None:
        """Make a finished local file the value, atomically and durably; *path* is gone after.

        Readers that hold *path* open go on reading. Raises: NotFound when *path* is absent.
        """
        ...

    def set_aside(self, key: str, target: str, file: BinaryIO) -> bool:
        """Move a value under another key, if it still is the one that *file* was opened from.

        Otherwise nothing changes, and the answer is False. What lies under *target* is replaced.
        """
        ...

    def stamp(self, key: str, at: float) -> None:
        """Set when a value was last `modified` (s, UTC epoch); nothing when it is absent."""
        ...

    def delete(self, key: str) -> bool:
        """Remove a value, and folders that are empty then; False when there was nothing."""
        ...

    def list(self, key: str) -> Iterator[str]:
        """Yield the names directly below *key*, sorted; none when it is absent."""
        ...

    def walk(self, key: str) -> Iterator[Stat]:
        """Yield every value below *key*, in the order of its keys' components."""
        ...

    def tidy(self, key: str, before: float) -> int:
        """Remove what died before it became a value below *key*, if older (s, UTC epoch).

        Returns how many there were. `list` and `walk` never show them.
        """
        ...
