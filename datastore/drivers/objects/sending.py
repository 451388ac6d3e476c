"""Send a local file to one object in parts, even while another thread still appends to the file.

A multipart upload becomes an object only when a last request completes it. So this module sends
parts before the digest of the file is verified, and completes the upload only if the digest is
right. If the digest is wrong, the iterator that yields the parts raises an exception, and obstore
aborts the upload.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from entrepot.datastore.drivers.objects.client import ObjectClient, repeated
from entrepot.datastore.drivers.objects.journal import SHORT
from entrepot.datastore.errors import (
    ContentDamaged,
    DatastoreError,
    NotFound,
    StorageBroken,
    storage_error,
)
from entrepot.datastore.refs import Digest

log = logging.getLogger(__name__)

_MOST_PARTS: Final = 10_000  # S3 permits this many parts in one multipart upload.


class _UploadAborted(Exception):  # noqa: N818 - not an error
    """This exception aborts a multipart upload: obstore catches it and raises it again."""


class FileSender:
    """A `FileSender` sends the file *path* to the object *key*.

    If *digest* is given, the object is written only if the sent bytes have this digest. *size* is
    the expected length of the file in bytes, or None if it is unknown.
    """

    def __init__(
        self,
        client: ObjectClient,
        path: Path,
        key: str,
        digest: Digest | None = None,
        size: int | None = None,
    ) -> None:
        self._client = client
        self._path = path
        self._key = key
        self._digest = digest
        self._each = max(client.part_bytes, -(-(size or 0) // _MOST_PARTS))
        self._changed = threading.Condition()
        self._length = 0
        self._end: int | None = None
        self._next = self._each + 1
        self._is_stopped = False
        self._is_sent = False
        self.content: bytes | None = None
        """The sent bytes, if the file has at most SHORT bytes; None for a longer file."""
        self._error: DatastoreError | None = None
        self._thread: threading.Thread | None = None

    def reached(self, length: int) -> None:
        """Send the complete parts of the file, which now has *length* bytes.

        A thread sends them; it is started when the file has more than one part.
        """
        if length < self._next:  # PERF: a writer calls this method after each chunk
            return
        with self._changed:
            self._length = length
            self._next = (length // self._each + 1) * self._each
            self._changed.notify_all()
        if self._thread is None and not self._is_stopped:
            self._begin()

    def abort(self) -> None:
        """Make the sending thread abort the multipart upload and exit; do not wait for it."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def finish(self, size: int) -> None:
        """Send the rest of the file, and complete the object of *size* bytes.

        If a part could not be sent earlier, the whole file is sent again.

        Raises: ContentDamaged if the file does not have the expected digest; NotFound if the file
        is absent; StorageFull, StorageBroken.
        """
        with self._changed:
            self._end = size
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if not self._is_sent and self._error is None:
            self._send_whole(size)
        if self._error is not None:
            raise self._error
        stored = self._client.head(self._key)
        if stored is None or stored.size != size:
            raise StorageBroken(
                f"the object {self._key} does not have the length of its file, {size} bytes"
            )

    # ---- the thread that sends parts while the file grows

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name=f"send {self._path.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # No thread can be started, so `finish` sends the whole file.
            self._is_stopped = True
        else:
            self._thread = thread

    def _run(self) -> None:
        try:
            self._client.put_parts(self._key, self._parts(self._wait), self._each)
            self._is_sent = True
        except _UploadAborted:
            log.debug("the parts of a file were discarded", extra={"key": self._key})
        except StorageBroken as error:
            log.info(
                "parts could not be sent to the bucket", extra={"key": self._key, "error": error}
            )
        except Exception:  # After this error, `finish` sends the whole file from its beginning.
            log.exception("parts could not be sent to the bucket", extra={"key": self._key})

    def _wait(self, start: int) -> int:
        """Wait until the file has the part that begins at *start*; return where this part ends.

        Raises: _UploadAborted if the upload is aborted meanwhile.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._is_stopped or self._end is not None or self._length >= start + self._each
                )
            )
            self._check()
            return min(start + self._each, self._end or start + self._each)

    def _check(self) -> None:
        if self._is_stopped:
            raise _UploadAborted

    # ---- reading the file

    def _send_whole(self, size: int) -> None:
        """Send all bytes of the file; if a request fails, send all of them once more."""
        self._is_stopped = False

        def stop(start: int) -> int:
            return min(start + self._each, size)

        def send() -> None:
            parts = self._parts(stop)
            if size > self._each:
                self._client.put_parts(self._key, parts, self._each)
                return
            content = next(parts, b"")
            next(parts, None)  # The iterator verifies the digest after the last part.
            self._client.put_once(self._key, content)
            if size <= SHORT:
                self.content = bytes(content)

        try:
            repeated(send, self._client.requests.repeats)
        except _UploadAborted:
            if self._error is None:
                raise StorageBroken(f"the upload of {self._path.name} was aborted") from None

    def _parts(self, stop_of: Callable[[int], int]) -> Iterator[bytearray]:
        """Yield the parts of the file. Raises: _UploadAborted, with the reason in `_error`."""
        hasher = self._digest.hasher() if self._digest else None
        start = 0
        try:
            with self._path.open("rb", buffering=0) as file:
                while (stop := stop_of(start)) > start:
                    part = self._client.memory.part(stop - start, self._check)
                    _fill(part, file)
                    if hasher is not None:
                        hasher.update(part)
                    start = stop
                    yield part
                    # While the next part waits for memory, this variable must not keep the previous
                    # part in memory.
                    del part
        except FileNotFoundError:
            self._error = NotFound(str(self._path))
        except OSError as error:
            self._error = storage_error(error)
        if hasher is not None and self._error is None and hasher.hexdigest() != self._digest_hex():
            self._error = ContentDamaged(
                f"the file of {self._digest} does not contain the bytes that were written to it"
            )
        if self._error is not None:
            raise _UploadAborted

    def _digest_hex(self) -> str:
        return self._digest.hex if self._digest else ""


def _fill(part: bytearray, file: object) -> None:
    """Fill *part* with bytes from *file*. Raises: OSError, also if the file ends too early."""
    view, at = memoryview(part), 0
    while at < len(part):
        count = file.readinto(view[at:])  # type: ignore[attr-defined] # a raw file
        if not count:
            raise OSError(f"the file ends {len(part) - at} bytes too early")
        at += count
