"""Mark stored content whose file has not been read since it was written.

The worker has hashed the bytes in memory, but the disk may have stored other bytes. So the file
must be read and hashed once.

Each mark is an empty file. The file remains when the process that made it exits, so any process can
verify the content later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.errors import storage_error
from entrepot.datastore.refs import Digest


@dataclass(frozen=True, slots=True)
class UnverifiedMarks:
    """An `UnverifiedMarks` stores the marks of unverified content, as files in *folder*."""

    folder: Path

    def add(self, digest: Digest) -> None:
        """Mark content as unverified, before the content is stored.

        Raises: StorageFull, StorageBroken.
        """
        path = self._path(digest)
        try:
            try:
                path.touch()
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        except OSError as error:
            raise storage_error(error) from error

    def all(self) -> Iterator[tuple[Digest, float]]:
        """Yield each marked digest, and the time of its mark by the kernel's clock.

        The time is in seconds since the UTC epoch.
        """
        try:
            paths = sorted(self.folder.iterdir())
        except OSError:
            return
        for path in paths:
            digest = layout.spool_of(path.name)
            with suppress(OSError):
                if digest is not None:
                    yield digest, path.stat().st_mtime

    def remove(self, digest: Digest) -> None:
        """Remove the mark of content that was verified or deleted."""
        with suppress(OSError):
            self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: Digest) -> Path:
        return self.folder / layout.spool(digest)
