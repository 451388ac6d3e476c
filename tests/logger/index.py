"""An index in memory that fails on demand."""

from __future__ import annotations

from collections.abc import Mapping

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.refs import Digest


class FailingIndex(MemoryIndex):
    """A MemoryIndex whose methods raise IndexUnavailable while `is_out` is True."""

    def __init__(self) -> None:
        super().__init__()
        self.is_out = False
        self.commits = 0
        self.last: set[str] = set()

    def touch(
        self, accesses: Mapping[Digest, float], notes: Mapping[str, str] | None = None
    ) -> None:
        """Count the successful transactions."""
        self._refuse()
        super().touch(accesses, notes)
        self.commits += 1
        self.last = set(notes or ())

    def note(self, key: str) -> str | None:
        """Return a note."""
        self._refuse()
        return super().note(key)

    def children(self, digest: Digest) -> list[Digest]:
        """Return the parts of a manifest."""
        self._refuse()
        return super().children(digest)

    def used_bytes(self) -> int:
        """Return the used bytes."""
        self._refuse()
        return super().used_bytes()

    def _refuse(self) -> None:
        if self.is_out:
            raise IndexUnavailable("out on demand")
