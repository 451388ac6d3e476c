"""Read blobs from disk, follow a running download, or fetch blobs from the upstream."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from entrepot.datastore import layout
from entrepot.datastore.content import ContentStore
from entrepot.datastore.errors import DatastoreError, StorageBroken, StorageFull
from entrepot.datastore.refs import Digest
from entrepot.registry.download.resume import passed_through
from entrepot.registry.download.singleflight import Reader, SingleFlight
from entrepot.registry.download.sources import Limits
from entrepot.registry.download.verify import compared, is_early, unstored_blob
from entrepot.registry.download.writer import Task
from entrepot.registry.errors import Absent, BlobUnknown
from entrepot.registry.pullthrough.prefetch import Prefetch, PrefetchRequest
from entrepot.registry.pullthrough.recent_answers import NegativeCache, RecentConfirmations
from entrepot.registry.pullthrough.responses import (
    ArrivingBlob,
    BlobAnswer,
    KnownBlob,
    ResponseSource,
    StoredBlob,
)
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.registry.server.fileslice import Piece, in_bytes
from entrepot.registry.upstream.upstreams import Registered

log = logging.getLogger(__name__)

_NEAR = 4 * 1024 * 1024
"""A range may start this many bytes after the last downloaded byte and still wait for the download.

A range that starts later is fetched from the upstream by a separate request.
"""


@dataclass(frozen=True, slots=True)
class Blobs:
    """A `Blobs` finds blobs by repository and digest.

    `is_remote` is True if opening a stored blob costs a request to the storage. Every method may
    raise BlobUnknown or an UpstreamError, unless the method's docstring states otherwise.
    """

    store: ContentStore
    downloads: SingleFlight
    negative: NegativeCache
    prefetch: Prefetch
    shown: RecentConfirmations
    is_remote: bool = False

    def get(self, resolved: ResolvedRepository, digest: Digest) -> BlobAnswer:
        """Find a blob for a GET request.

        Raises: StorageFull or StorageBroken, for hosted repositories only.
        """
        try:
            return self._found(resolved, digest)
        except (StorageFull, StorageBroken) as error:
            if resolved.upstream is None:
                raise
            self.store.disk_errors.log(error)
        with self._negative_cached(resolved, digest):
            task = self._task(resolved, resolved.upstream, digest, size=None)
            return self._passed_through(resolved, resolved.upstream, task)

    def _found(self, resolved: ResolvedRepository, digest: Digest) -> BlobAnswer:
        stored = self._stored(resolved, digest)
        if stored:
            return stored
        registered = _registered(resolved, digest)
        with self._negative_cached(resolved, digest):
            return self._downloading(resolved, registered, digest)

    def head(self, resolved: ResolvedRepository, digest: Digest) -> BlobAnswer:
        """Find the size of a blob in the store or at the upstream, without fetching the blob.

        Raises: StorageFull or StorageBroken, for hosted repositories only.
        """
        if self.is_remote and (size := self.stored_size(resolved, digest)) is not None:
            return KnownBlob(digest, size, ResponseSource.HIT)
        try:
            stored = self._stored(resolved, digest)
        except (StorageFull, StorageBroken) as error:
            if resolved.upstream is None:
                raise
            self.store.disk_errors.log(error)
            stored = None
        if stored:
            stored.file.close()
            return KnownBlob(digest, stored.size, stored.source)
        registered = _registered(resolved, digest)
        with self._negative_cached(resolved, digest):
            size = registered.upstream.blob_size(resolved.remote, digest)
            if size is None:
                size = self.store.announced_size(resolved.repository, digest)
            return KnownBlob(digest, size, ResponseSource.MISS)

    # ---- stored blobs

    def stored_size(self, resolved: ResolvedRepository, digest: Digest) -> int | None:
        """Return the size in bytes of a stored blob that this repository links; do not open it.

        Return None for any other blob, for a blob whose size differs from the verified size, and if
        the storage does not respond.
        """
        try:
            if not self.store.repositories.links_blob(resolved.repository, digest):
                return None
            return self.store.blobs.intact_size(digest)
        except DatastoreError:
            return None

    def _stored(self, resolved: ResolvedRepository, digest: Digest) -> StoredBlob | None:
        """Open a stored blob that this repository may serve.

        If the repository has no link to the blob, but the blob came from the same upstream, the
        worker asks the upstream to confirm the blob. The worker then links the blob to this
        repository.
        """
        if self._is_absent(resolved, digest):
            return None
        if self.store.repositories.links_blob(resolved.repository, digest):
            return self._opened(digest, ResponseSource.HIT)
        if resolved.upstream is None or not self.store.has_blob(digest):
            return None
        if not self._may_share(resolved, digest):
            # No record shows that this upstream has ever sent the blob, so its confirmation proves
            # nothing.
            return None
        if self._is_being_linked(resolved, resolved.upstream, digest):
            return self._opened(digest, ResponseSource.CONFIRMED)
        with self._negative_cached(resolved, digest):
            resolved.upstream.upstream.blob_size(resolved.remote, digest)
        self.store.link_blob(resolved.repository, digest, resolved.host)
        return self._opened(digest, ResponseSource.CONFIRMED)

    def open_again(
        self, resolved: ResolvedRepository, digest: Digest, size: int
    ) -> BinaryIO | None:
        """Open a blob of *size* bytes that was sent to a client earlier.

        Return None if the link or the file is absent or has changed, or if the name of a hosted
        repository may now belong to an upstream.
        """
        repositories, name = self.store.repositories, resolved.repository
        try:
            if resolved.upstream is None and repositories.origin(name) is not None:
                return None
            if repositories.links_blob(name, digest):
                return self.store.blobs.open_verified(digest, size)
        except DatastoreError:
            log.debug("stored blob not opened again", extra={"digest": digest})
        return None

    def _opened(self, digest: Digest, source: ResponseSource) -> StoredBlob | None:
        opened = self.store.open_blob(digest)
        return StoredBlob(digest, opened[1], opened[0], source) if opened else None

    def _is_absent(self, resolved: ResolvedRepository, digest: Digest) -> bool:
        """Return True if, according to the index, a remote storage does not have the blob.

        PERF: this look-up in the index saves a request to the storage. If the index lacks the row
        of a stored blob, the worker downloads the blob again. This is impossible while the upstream
        does not respond, so the worker then asks the storage.
        """
        if not self.is_remote or resolved.upstream is None:
            return False
        return resolved.upstream.upstream.is_healthy and self.store.is_absent(digest)

    def _is_being_linked(
        self, resolved: ResolvedRepository, registered: Registered, digest: Digest
    ) -> bool:
        """Return True if the writer of a blob that was just committed is linking the blob now.

        Linking a blob in a remote storage takes a moment. Meanwhile, a client that already has
        the whole blob may request the blob again.
        """
        if not self.downloads.is_remote:
            return False
        if self.shown.is_recent(self._task(resolved, registered, digest, size=None)):
            return True
        # The writer may have linked the blob after this request looked for the link.
        return self.store.repositories.links_blob(resolved.repository, digest)

    def _may_share(self, resolved: ResolvedRepository, digest: Digest) -> bool:
        """Return True if a confirmation of the upstream suffices to serve stored content."""
        return resolved.is_open or self.store.proofs.has(digest, resolved.host)

    # ---- downloads

    def _downloading(
        self, resolved: ResolvedRepository, registered: Registered, digest: Digest
    ) -> BlobAnswer:
        size = self.store.announced_size(resolved.repository, digest)
        task = self._task(resolved, registered, digest, size=size)
        try:
            reader = self.downloads.join(task)
            size = reader.size()
        except (StorageFull, StorageBroken) as error:
            log.warning("blob not stored", extra={"digest": digest, "error": error})
            return self._passed_through(resolved, registered, task)
        expected = task.size
        # If the running download was begun for another repository, the upstream must confirm that
        # this repository has the blob too.
        if not (reader.is_confirmed or self._was_shown(resolved, task)):
            announced = registered.upstream.blob_size(resolved.remote, digest)
            expected = announced if expected is None else expected
        if reader.collapsed and None not in (size, expected) and size != expected:
            # The other repository's download has another length, so its bytes may be wrong.
            reader.close()
            return self._passed_through(resolved, registered, task)
        return self._following(resolved, registered, reader, task, size=size)

    def _was_shown(self, resolved: ResolvedRepository, task: Task) -> bool:
        if self.shown.is_recent(task):
            return True
        return self.store.repositories.links_blob(resolved.repository, task.digest)

    def _following(
        self,
        resolved: ResolvedRepository,
        registered: Registered,
        reader: Reader,
        task: Task,
        *,
        size: int | None,
    ) -> BlobAnswer:
        early = is_early(registered.config.ranges, size)
        reader.on_stored = lambda: self._link_stored(resolved, task.digest)

        def begun() -> None:
            if not reader.collapsed:
                self.prefetch.follow(self._prefetch_request(resolved, registered, task.digest))

        def read(start: int, stop: int | None) -> Iterator[Piece]:
            return after_first(read_now(start, stop), begun)

        def read_now(start: int, stop: int | None) -> Iterator[Piece]:
            if stop is not None and start > reader.received() + _NEAR:
                reader.close()
                body = registered.upstream.blob(resolved.remote, task.digest, start, stop)
                passed = passed_through(body, start, stop)
                if early:
                    return passed
                return compared(passed, in_bytes(reader.read(start, stop)), resolved.host)
            return reader.read(start, stop, early=early)

        source = ResponseSource.COLLAPSED if reader.collapsed else ResponseSource.MISS
        return ArrivingBlob(task.digest, size, read, source, early=early)

    def _passed_through(
        self, resolved: ResolvedRepository, registered: Registered, task: Task
    ) -> BlobAnswer:
        """Return a blob that cannot be stored: its bytes go only to the client."""
        size = registered.upstream.blob_size(resolved.remote, task.digest)
        early = is_early(registered.config.ranges, size)

        def read(start: int, stop: int | None) -> Iterator[Piece]:
            is_range = start > 0 or stop not in (None, size)
            sources = task.sources()
            return unstored_blob(sources, task.digest, start, stop, early=early and is_range)

        return ArrivingBlob(task.digest, size, read, ResponseSource.PASSED, early=early)

    def _prefetch_request(
        self, resolved: ResolvedRepository, registered: Registered, digest: Digest
    ) -> PrefetchRequest:
        return PrefetchRequest(
            resolved.repository,
            digest,
            resolved.host,
            lambda other: self._task(
                resolved,
                registered,
                other,
                size=self.store.announced_size(resolved.repository, other),
            ),
        )

    def _link_stored(self, resolved: ResolvedRepository, digest: Digest) -> None:
        """Link a blob that was just verified, before its last byte is sent to any client.

        A client that has all parts of an image may request the image's manifest at once. During an
        outage of the upstream, the worker serves a manifest only if each of its parts is linked.
        """
        # If the link cannot be written now, the next request for the blob writes it.
        with suppress(StorageFull, StorageBroken):
            is_new = not self.store.repositories.links_blob(resolved.repository, digest)
            if is_new and self._may_share(resolved, digest):
                self.store.link_blob(resolved.repository, digest, resolved.host)

    def _task(
        self,
        resolved: ResolvedRepository,
        registered: Registered,
        digest: Digest,
        *,
        size: int | None,
    ) -> Task:
        """Return the task that downloads a blob; repositories of one upstream share the download.

        Repositories of different upstreams share no download. The digest is compared only after the
        last byte, so in a shared download, wrong bytes of one upstream would make pulls from the
        other upstream fail.
        """
        asked = threading.Event()
        key = layout.spool_key(digest, resolved.host)

        def shown() -> None:
            asked.set()
            self.shown.note(task)

        def verified() -> None:
            if not resolved.is_open:
                self.store.proofs.keep(digest, resolved.host)

        def landed() -> None:
            if asked.is_set():
                self.store.link_blob(resolved.repository, digest, resolved.host)
                self.shown.forget(task)

        task = Task(
            digest,
            registered.upstream.blob_sources(resolved.remote, digest, size),
            resolved.host,
            str(resolved.repository),
            size,
            shown=shown,
            verified=verified,
            landed=landed,
            key=key,
            is_proven=lambda: self._may_share(resolved, digest),
            limits=Limits(
                silence=registered.config.read_timeout, min_rate=registered.config.min_rate
            ),
        )
        return task

    @contextmanager
    def _negative_cached(self, resolved: ResolvedRepository, digest: Digest) -> Iterator[None]:
        """Remember a 404 of the upstream; raise BlobUnknown for a new or remembered 404."""
        try:
            self.negative.check(resolved, digest)
            yield
        except Absent as error:
            self.negative.remember(resolved, digest)
            raise BlobUnknown(str(error)) from error


def _registered(resolved: ResolvedRepository, digest: Digest) -> Registered:
    if resolved.upstream is None:
        raise BlobUnknown(f"{resolved.repository} has no {digest}")
    return resolved.upstream


def after_first(pieces: Iterator[Piece], act: Callable[[], None]) -> Iterator[Piece]:
    """Yield *pieces*; call *act* after the first piece, so that *act* does not delay that piece."""
    for number, piece in enumerate(pieces):
        yield piece
        if not number:
            act()
