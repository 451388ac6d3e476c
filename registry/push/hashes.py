"""What an upload hashes to so far: computed while it comes in, and left for the next request.

A hash that runs cannot be written down, but what it says of the bytes so far can: it lies beside
the upload, so that the request that ends it, in whatever process, need not read all of it again.
It counts for as many bytes as it was made of, and until the machine stops: after that the file
may lack bytes that it had.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.datastore.errors import Malformed
from entrepot.datastore.refs import Digest

if TYPE_CHECKING:
    from hashlib import _Hash

_MOST = 1024
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Running:
    """A hash of the first `offset` bytes of an upload."""

    hasher: _Hash
    offset: int


class Hashes:
    """The hashes of one process that run; the upload that was silent longest is forgotten first."""

    def __init__(self) -> None:
        self._running: OrderedDict[Path, Running] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, path: Path, algorithm: str, offset: int) -> _Hash | None:
        """Return the hash of an upload's first *offset* bytes, if that is known here.

        Of no bytes it always is.
        """
        with self._lock:
            known = self._running.pop(path, None)
        if known and known.offset == offset and known.hasher.name == algorithm:
            return known.hasher
        return None if offset else hashlib.new(algorithm)

    def keep(self, path: Path, hasher: _Hash, offset: int) -> None:
        """Remember the hash of an upload's first *offset* bytes."""
        with self._lock:
            self._running[path] = Running(hasher, offset)
            if len(self._running) > _MOST:
                self._running.popitem(last=False)

    def forget(self, path: Path) -> None:
        """Forget an upload that has ended."""
        with self._lock:
            self._running.pop(path, None)


def write(path: Path, digest: Digest, size: int) -> None:
    """Leave word in the file *path* of what *size* bytes hash to; a full disk forgoes that."""
    with contextlib.suppress(OSError):
        path.write_text(f"{_boot()} {size} {digest}")


def read(path: Path, size: int) -> Digest | None:
    """Return what the first *size* bytes hash to, if word of that was left since the last boot."""
    try:
        boot, counted, digest = path.read_text().split(" ")
        known = Digest.parse(digest)
    except (OSError, ValueError, Malformed):
        return None
    return known if boot == _boot() and counted == str(size) else None


def _boot() -> str:
    """Return what tells one run of this machine from another; never twice the same if unknown."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return os.urandom(16).hex()
