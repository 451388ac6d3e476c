"""Hash an unfinished upload as bytes arrive, and save the hash for the next request.

Python cannot save the state of a running hash, but this module can save the digest of the bytes so
far. A file beside the upload contains this digest. The request that finishes an upload usually adds
no bytes. So this request needs only the saved digest, in whichever process it runs, and reads no
byte of the upload again. The saved digest is valid only for the number of bytes that it was
computed from, and only until the machine reboots, because the upload's file may lose bytes at a
reboot.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.datastore.errors import Malformed
from entrepot.datastore.refs import Digest
from entrepot.runtime.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from hashlib import _Hash

_MAX_RUNNING = 1024
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Running:
    """A `Running` is the state of a hash after the first `offset` bytes of an upload."""

    hasher: _Hash
    offset: int


class Hashes:
    """A `Hashes` holds the running hashes of one process.

    If there are more than `_MAX_RUNNING` hashes, the hash that has been idle longest is dropped.
    """

    def __init__(self) -> None:
        self._running: BoundedDict[Path, Running] = BoundedDict(_MAX_RUNNING)
        self._lock = threading.Lock()

    def take(self, path: Path, algorithm: str, offset: int) -> _Hash | None:
        """Return the hash of an upload's first *offset* bytes, if this process has that hash.

        For an offset of 0, return a new hash.
        """
        with self._lock:
            known = self._running.pop(path, None)
        if known and known.offset == offset and known.hasher.name == algorithm:
            return known.hasher
        return None if offset else hashlib.new(algorithm)

    def keep(self, path: Path, hasher: _Hash, offset: int) -> None:
        """Keep the hash of an upload's first *offset* bytes for the next request."""
        with self._lock:
            self._running.keep(path, Running(hasher, offset))

    def forget(self, path: Path) -> None:
        """Drop the hash of an upload that has ended."""
        with self._lock:
            self._running.pop(path, None)


def write(path: Path, digest: Digest, size: int) -> None:
    """Write the digest of an upload's first *size* bytes to the file *path*; ignore disk errors."""
    with contextlib.suppress(OSError):
        path.write_text(f"{_boot()} {size} {digest}")


def read(path: Path, size: int) -> Digest | None:
    """Return the digest of an upload's first *size* bytes if it was saved since the last boot."""
    try:
        boot, counted, digest = path.read_text().split(" ")
        known = Digest.parse(digest)
    except (OSError, ValueError, Malformed):
        return None
    return known if boot == _boot() and counted == str(size) else None


def _boot() -> str:
    """Return the ID of this boot of the machine.

    If the ID is unknown, return a new random value at each call.
    """
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return os.urandom(16).hex()
