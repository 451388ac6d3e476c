"""Provide a data directory and the download code of several workers that share the directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.datastore.storage import Storage
from entrepot.registry.download.singleflight import Reader, SingleFlight
from entrepot.registry.download.writer import Destination, Task
from entrepot.registry.server.fileslice import in_bytes
from tests.disk_storage import disk_storage
from tests.registry.remotes import QUICK, FakeRemote

CONTENT = bytes(range(256)) * 40
DIGEST = Digest.of(CONTENT)


@dataclass
class Bench:
    """A data directory, and the objects with which workers download blobs into it."""

    root: Path
    reservations: int | None = None
    index: MemoryIndex = field(default_factory=MemoryIndex)
    events: list[dict[str, Any]] = field(default_factory=list)
    disk: Storage | None = None
    woken: list[int] = field(default_factory=list)

    def worker(self, report: Callable[..., None] | None = None) -> SingleFlight:
        """Return the `SingleFlight` of a new worker on this data directory.

        The worker calls *report* with each event; without *report* the events are added to
        `events`.
        """
        reservations = Reservations(
            self.index.reservations,
            SpaceLimits(max_used_bytes=self.reservations, largest=self.reservations),
            self.woken.append,
            notes=self.index.notes,
        )
        destination = Destination(self.blobs, self.index, reservations, report or self._note)
        return SingleFlight(self.root / "spool", destination)

    def _note(self, **event: Any) -> None:
        self.events.append(event)

    @property
    def blobs(self) -> BlobStore:
        """Return the blob store of all workers."""
        return BlobStore(self.disk or disk_storage(self.root))

    @property
    def spooled(self) -> list[str]:
        """Return the names of the files in the spool folder, which are downloads in progress."""
        folder = self.root / "spool"
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def task(remote: FakeRemote, digest: Digest = DIGEST) -> Task:
    """Return a task that downloads a blob with *remote*'s `fetch` as its only source."""
    return Task(digest, (remote.fetch,), "fake", "fake/app", limits=QUICK)


def read(reader: Reader, start: int, stop: int | None) -> Iterator[bytes]:
    """Yield the bytes of a blob from *start* to *stop* (exclusive), as *reader* delivers them."""
    return in_bytes(reader.read(start, stop))


def read_all(reader: Reader) -> bytes:
    """Return the bytes of the whole blob that *reader* delivers."""
    return b"".join(read(reader, 0, reader.size()))


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until a condition is true, for at most 20 s."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
