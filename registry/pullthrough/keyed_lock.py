"""One at a time, over all workers: who asks an upstream for a manifest, and who waits for that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.locks import holding


class KeyedLock:
    """A lock file a question, in *folder*; whoever had the turn before may have the answer."""

    def __init__(self, folder: Path, patience: float = 35.0) -> None:
        self._folder = folder
        self._patience = patience

    @contextmanager
    def take(self, *question: object) -> Iterator[None]:
        """Wait for the turn, at most the patience (s): then, or without a disk, go on without."""
        name = hashlib.sha256("\0".join(map(str, question)).encode()).hexdigest()
        with ExitStack() as turn:
            with suppress(DatastoreError):
                turn.enter_context(holding(self._folder / name, self._patience))
            yield
