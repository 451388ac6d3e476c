"""How many uploads may be begun and not ended: in all, and by one owner."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.locks import try_lock_present
from entrepot.datastore.reservations import Reservations
from entrepot.registry.errors import TooManyUploads

_TAG = 8  # hexadecimal digits at the end of an identity
_UUID = 36
_WORD = layout.upload_digest("")
# Where there are too many, those that stand still so long make way, in s.
_EMPTY_S = 60.0
_IDLE_S = 3600.0


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Unfinished uploads: `most` in all, `each` of one owner; `reached` gets told of a refusal."""

    most: int = 1000
    each: int = 500
    reached: Callable[[], None] = lambda: None


def identity(owner: str) -> str:
    """Return a new upload's identity: a random UUID whose last digits stand for its owner."""
    random = str(uuid.uuid4())
    return f"{random[:-_TAG]}{_tag(owner)}"


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """Sees that there is a place for one more upload in *folder*."""

    folder: Path
    reservations: Reservations
    limits: UploadLimits

    def admit(self, owner: str) -> None:
        """Let one more upload of an owner begin. Raises: TooManyUploads.

        Uploads that stand still make way: empty ones after a minute, others after an hour; of the
        owner, where those are too many. Workers look at the same time: a few more may begin.
        """
        names, tag = list(self._names()), _tag(owner)
        own = [each for each in names if each[_UUID - _TAG : _UUID] == tag]
        for found, most in ((own, self.limits.each), (names, self.limits.most)):
            if len(found) >= most and not self._make_way(found):
                self.limits.reached()
                raise TooManyUploads(f"{len(found)} uploads are not ended; end or cancel some")

    def _names(self) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            yield from (each.name for each in entries if not each.name.endswith(_WORD))

    def _make_way(self, names: list[str]) -> bool:
        """Remove uploads that stand still; False when there are none."""
        now, is_one_removed = time.time(), False
        for name in names:
            path = self.folder / name
            with suppress(OSError, DatastoreError):
                stat = path.stat()
                if now - stat.st_mtime > (_IDLE_S if stat.st_size else _EMPTY_S):
                    is_one_removed |= self._remove(path, stat.st_mtime)
        return is_one_removed

    def _remove(self, path: Path, modified: float) -> bool:
        held = try_lock_present(path)
        if held is None:
            return False  # a request writes to it
        with held:
            if os.fstat(held.fd).st_mtime != modified:
                return False
            path.with_name(layout.upload_digest(path.name)).unlink(missing_ok=True)
            held.unlink()
            self.reservations.release(layout.upload_promise(path.name))
        return True


def _tag(owner: str) -> str:
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:_TAG]
