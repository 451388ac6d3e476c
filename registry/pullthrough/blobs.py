"""Blobs: from disk, from a download that runs, or from their upstream."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from entrepot.datastore import layout
from entrepot.datastore.content import ContentStore
from entrepot.datastore.errors import StorageBroken, StorageFull
from entrepot.datastore.refs import Digest
from entrepot.registry.download.patience import Limits
from entrepot.registry.download.resume import passed_on
from entrepot.registry.download.singleflight import Reader, SingleFlight
from entrepot.registry.download.task import Task
from entrepot.registry.download.verify import alone, confirmed, is_early
from entrepot.registry.errors import Absent, BlobUnknown
from entrepot.registry.pullthrough.negative_cache import NegativeCache
from entrepot.registry.pullthrough.prefetch import Prefetch, PrefetchRequest
from entrepot.registry.pullthrough.recent_answers import RecentAnswers
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
"""How far ahead of what has come in a range may start, in bytes, and still wait for it."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """Every blob that a client may ask for. Raises, each verb: BlobUnknown, UpstreamError."""

    shelf: ContentStore
    inflight: SingleFlight
    negative: NegativeCache
    prefetch: Prefetch
    shown: RecentAnswers

    def get(self, place: ResolvedRepository, digest: Digest) -> BlobAnswer:
        """Find a blob that will be read.

        Raises: StorageFull, StorageBroken, for hosted content only.
        """
        try:
            return self._found(place, digest)
        except (StorageFull, StorageBroken) as error:
            if place.upstream is None:
                raise
            self.shelf.trouble.note(error)
        with self._remembered(place, digest):
            task = self._task(place, place.upstream, digest, size=None)
            return self._passing(place, place.upstream, task)

    def _found(self, place: ResolvedRepository, digest: Digest) -> BlobAnswer:
        stored = self._stored(place, digest)
        if stored:
            return stored
        registered = _registered(place, digest)
        with self._remembered(place, digest):
            return self._arriving(place, registered, digest)

    def head(self, place: ResolvedRepository, digest: Digest) -> BlobAnswer:
        """Find how long a blob is, without fetching it: by what is here, or the upstream's word.

        Raises: StorageFull, StorageBroken, for hosted content only.
        """
        try:
            stored = self._stored(place, digest)
        except (StorageFull, StorageBroken) as error:
            if place.upstream is None:
                raise
            self.shelf.trouble.note(error)
            stored = None
        if stored:
            stored.file.close()
            return KnownBlob(digest, stored.size, stored.source)
        registered = _registered(place, digest)
        with self._remembered(place, digest):
            size = registered.upstream.blob_size(place.remote, digest)
            if size is None:
                size = self.shelf.announced(place.repository, digest)
            return KnownBlob(digest, size, ResponseSource.MISS)

    # ---- here

    def _stored(self, place: ResolvedRepository, digest: Digest) -> StoredBlob | None:
        """Open a blob that is here and may be read under this name.

        One that is not linked yet is, if it came from the same upstream, and that confirms it.
        """
        if self.shelf.repositories.links_blob(place.repository, digest):
            return self._opened(digest, ResponseSource.HIT)
        if place.upstream is None or not self.shelf.has_blob(digest):
            return None
        if not self._may_share(place, digest):
            return None  # the upstream must send it: its word alone opens nothing
        with self._remembered(place, digest):
            place.upstream.upstream.blob_size(place.remote, digest)
        self.shelf.link_blob(place.repository, digest, place.host)
        return self._opened(digest, ResponseSource.CONFIRMED)

    def _opened(self, digest: Digest, source: ResponseSource) -> StoredBlob | None:
        opened = self.shelf.open_blob(digest)
        return StoredBlob(digest, opened[1], opened[0], source) if opened else None

    def _may_share(self, place: ResolvedRepository, digest: Digest) -> bool:
        """Return whether the upstream's word suffices to show content that is here."""
        return place.is_open or self.shelf.proofs.has(digest, place.host)

    # ---- on its way

    def _arriving(
        self, place: ResolvedRepository, registered: Registered, digest: Digest
    ) -> BlobAnswer:
        size = self.shelf.announced(place.repository, digest)
        task = self._task(place, registered, digest, size=size)
        try:
            reader = self.inflight.join(task)
            size = reader.size()
        except (StorageFull, StorageBroken) as error:
            log.warning("blob not stored", extra={"digest": digest, "error": error})
            return self._passing(place, registered, task)
        expected = task.size
        if not self._was_shown(place, task):  # it was begun under another name
            said = registered.upstream.blob_size(place.remote, digest)
            expected = said if expected is None else expected
        if reader.collapsed and None not in (size, expected) and size != expected:
            reader.close()  # what another upstream sends has another length: that is not ours
            return self._passing(place, registered, task)
        return self._joined(place, registered, reader, task, size=size)

    def _was_shown(self, place: ResolvedRepository, task: Task) -> bool:
        if self.shown.was_just_now(task):
            return True
        return self.shelf.repositories.links_blob(place.repository, task.digest)

    def _joined(
        self,
        place: ResolvedRepository,
        registered: Registered,
        reader: Reader,
        task: Task,
        *,
        size: int | None,
    ) -> BlobAnswer:
        if not reader.collapsed:
            self.prefetch.follow(self._wish(place, registered, task.digest))

        early = is_early(registered.source.ranges, size)

        def read(start: int, stop: int | None) -> Iterator[Piece]:
            if stop is not None and start > reader.ahead() + _NEAR:
                reader.close()
                body = registered.upstream.blob(place.remote, task.digest, start, stop)
                passed = passed_on(body, start, stop)
                if early:
                    return passed
                return confirmed(passed, in_bytes(reader.read(start, stop)), place.host)
            pieces = reader.read(start, stop, early=early)
            return self._linked(place, task.digest, pieces)

        source = ResponseSource.COLLAPSED if reader.collapsed else ResponseSource.MISS
        return ArrivingBlob(task.digest, size, read, source, early=early)

    def _passing(self, place: ResolvedRepository, registered: Registered, task: Task) -> BlobAnswer:
        """Pass a blob on that nothing can be written of."""
        size = registered.upstream.blob_size(place.remote, task.digest)
        early = is_early(registered.source.ranges, size)

        def read(start: int, stop: int | None) -> Iterator[Piece]:
            is_range = start > 0 or stop not in (None, size)
            sources = task.sources()
            return alone(sources, task.digest, start, stop, early=early and is_range)

        return ArrivingBlob(task.digest, size, read, ResponseSource.PASSED, early=early)

    def _wish(
        self, place: ResolvedRepository, registered: Registered, digest: Digest
    ) -> PrefetchRequest:
        return PrefetchRequest(
            place.repository,
            digest,
            place.host,
            lambda other: self._task(
                place, registered, other, size=self.shelf.announced(place.repository, other)
            ),
        )

    def _linked(
        self, place: ResolvedRepository, digest: Digest, pieces: Iterator[Piece]
    ) -> Iterator[Piece]:
        """Pass a body on, and link the blob if that was its end: its digest is proven then."""
        yield from pieces
        with suppress(StorageFull, StorageBroken):  # the body is whole; the next request links it
            is_new = not self.shelf.repositories.links_blob(place.repository, digest)
            if is_new and self.shelf.has_blob(digest) and self._may_share(place, digest):
                self.shelf.link_blob(place.repository, digest, place.host)

    def _task(
        self, place: ResolvedRepository, registered: Registered, digest: Digest, *, size: int | None
    ) -> Task:
        """Return how to download a blob; it is joined by whoever may read the same.

        Where rights differ, those are the names of one upstream: what it sends is its own.
        """
        asked = threading.Event()
        key = digest if place.is_open else layout.spool_key(digest, place.host)

        def shown() -> None:
            asked.set()
            self.shown.note(task)

        def verified() -> None:
            if not place.is_open:
                self.shelf.proofs.keep(digest, place.host)

        def landed() -> None:
            if asked.is_set():
                self.shelf.link_blob(place.repository, digest, place.host)
                self.shown.forget(task)

        task = Task(
            digest,
            registered.upstream.blob_sources(place.remote, digest, size),
            place.host,
            str(place.repository),
            size,
            shown=shown,
            verified=verified,
            landed=landed,
            key=key,
            is_proven=lambda: self._may_share(place, digest),
            limits=Limits(
                silence=registered.source.read_timeout, min_rate=registered.source.min_rate
            ),
        )
        return task

    @contextmanager
    def _remembered(self, place: ResolvedRepository, digest: Digest) -> Iterator[None]:
        """Answer a 404 that the upstream gave a moment ago; remember the one that it gives now."""
        try:
            self.negative.check(place, digest)
            yield
        except Absent as error:
            self.negative.remember(place, digest)
            raise BlobUnknown(str(error)) from error


def _registered(place: ResolvedRepository, digest: Digest) -> Registered:
    if place.upstream is None:
        raise BlobUnknown(f"{place.repository} has no {digest}")
    return place.upstream
