"""Define an index in memory that fails on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.drivers.memory_parts import MemoryNotes
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import REBUILT
from entrepot.datastore.refs import Digest


class _FailingNotes(MemoryNotes):
    """Notes of an index that are unavailable whenever the index is."""

    def __init__(self, values: Mapping[str, str], refuse: Callable[[], None]) -> None:
        super().__init__(values)
        self._refuse = refuse

    def get(self, key: str) -> str | None:
        """Return a note of the failing index."""
        self._refuse()
        return super().get(key)

    def clear(self) -> None:
        """Remove all notes."""
        self._values.clear()


class FailingIndex(MemoryIndex):
    """A MemoryIndex whose methods raise IndexUnavailable while `is_out` is True."""

    def __init__(self) -> None:
        self.stored = _FailingNotes({REBUILT: "0"}, self._refuse)
        super().__init__(notes=self.stored)
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

    def children(self, digest: Digest) -> list[Digest]:
        """Return the parts of a manifest."""
        self._refuse()
        return super().children(digest)

    def _refuse(self) -> None:
        if self.is_out:
            raise IndexUnavailable("out on demand")
