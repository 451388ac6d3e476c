"""Provide an in-memory index that a test can make unavailable."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.drivers.memory_parts import MemoryNotes
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import REBUILT
from entrepot.datastore.refs import Digest


class _FailingNotes(MemoryNotes):
    """The notes of a `FailingIndex`, which are unavailable while the index is unavailable."""

    def __init__(self, values: Mapping[str, str], refuse: Callable[[], None]) -> None:
        super().__init__(values)
        self._refuse = refuse

    def get(self, key: str) -> str | None:
        """Return a note, or raise IndexUnavailable while the index is unavailable."""
        self._refuse()
        return super().get(key)

    def clear(self) -> None:
        """Delete all notes, as if the index had been replaced."""
        self._values.clear()


class FailingIndex(MemoryIndex):
    """An index in memory whose methods raise IndexUnavailable while `is_out` is True."""

    def __init__(self) -> None:
        self.stored = _FailingNotes({REBUILT: "0"}, self._refuse)
        super().__init__(notes=self.stored)
        self.is_out = False
        self.commits = 0
        self.last: set[str] = set()

    def touch(
        self, accesses: Mapping[Digest, float], notes: Mapping[str, str] | None = None
    ) -> None:
        """Record the last uses, and count the transaction."""
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
