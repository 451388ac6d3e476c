"""Begin, append, finish and cancel uploads of blobs, and mount blobs across repositories."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from entrepot.datastore import catalog
from entrepot.datastore.content import ContentStore
from entrepot.datastore.errors import ContentDamaged, DigestMismatch, IndexUnavailable
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.storage import Storage
from entrepot.registry.errors import BodyBroken, ChunkMisplaced
from entrepot.registry.push.pins import pinned, record_use
from entrepot.registry.push.upload_sessions import Body, Session, Sessions

log = logging.getLogger(__name__)

MayRead = Callable[[Repository], bool]

_MAX_MOUNT_SOURCES = 1000
"""A mount without `from` searches at most this many repositories for a link to the blob."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A `Mounted` holds the source repository of a mounted blob and the blob's size in bytes."""

    source: Repository
    size: int


@dataclass(frozen=True, slots=True)
class BlobUploads:
    """A `BlobUploads` manages all uploads; *state* is the state directory.

    Every method may raise UploadUnknown, IndexUnavailable, OutOfSpace, Overloaded or StorageBroken.
    """

    store: ContentStore
    sessions: Sessions
    storage: Storage
    state: Path

    def begin(self, name: Repository, algorithm: str, owner: str) -> str:
        """Begin an upload for an owner and return the upload's ID. Raises: TooManyUploads."""
        return self.sessions.begin(name, algorithm, owner=owner)

    def offset(self, name: Repository, number: str) -> int:
        """Return how many bytes of an upload have arrived."""
        return self.sessions.offset(name, number)

    def append(self, name: Repository, number: str, body: Body, start: int | None) -> int:
        """Append a chunk to an upload and return the upload's new length in bytes.

        *start* is the offset that the client stated, or None.

        Raises: ChunkMisplaced, BodyBroken.
        """
        with self.sessions.open(name, number) as session:
            _check(session, start)
            session.fill(body)
            return session.offset

    def finish(
        self, name: Repository, number: str, body: Body, *, start: int | None, digest: Digest
    ) -> int:
        """Append the last chunk and commit the upload as the blob *digest*, durably.

        Return the size of the blob in bytes.

        Raises: ChunkMisplaced, BodyBroken; DigestMismatch, after which the upload no longer exists.
        """
        with self.sessions.open(name, number) as session:
            _check(session, start)
            # The pin that protects the blob from eviction is set before the worker reads the body.
            # So if the pin cannot be set, the upload is unchanged, and the client can repeat the
            # request.
            with pinned(self.store, self.state, [digest]):
                self._send_meanwhile(session, body, digest)
                session.fill(body)
                return self._commit(name, session, digest)

    def upload_monolithic(
        self, name: Repository, body: Body, digest: Digest, owner: str = ""
    ) -> int:
        """Store a request body as the blob *digest*, durably, and return its size in bytes.

        Raises: BodyBroken, DigestMismatch. OCI distribution-spec 1.1, end-4b.
        """
        number = self.sessions.begin(name, digest.algorithm, owner=owner)
        with self.sessions.open(name, number) as session:
            try:
                self._send_meanwhile(session, body, digest)
                session.fill(body)
            except BodyBroken:
                session.discard()
                raise
            return self._commit(name, session, digest)

    def cancel(self, name: Repository, number: str) -> None:
        """Remove an upload and its file."""
        with self.sessions.open(name, number) as session:
            session.discard()

    # ---- mounts

    def mount(self, name: Repository, source: Repository, digest: Digest) -> Mounted | None:
        """Link a blob of *source* to the repository *name*; return None if *source* lacks it."""
        if not self.store.repositories.links_blob(source, digest):
            return None
        with pinned(self.store, self.state, [digest]):
            stat = self.store.blobs.stat(digest)
            if stat is None:
                return None
            record_use(self.store, digest, stat.size)
            self.store.repositories.link_blob(name, digest)
        return Mounted(source, stat.size)

    def mount_any(
        self, name: Repository, digest: Digest, may_read: MayRead, *, reads_all: bool
    ) -> Mounted | None:
        """Link a blob from any repository that the client may read.

        *reads_all* is True if the client may read all repositories. Return None if no repository
        that the client may read links the blob. If the client may not read all repositories, the
        search continues even if the blob is not stored. Otherwise the response time would reveal
        whether a repository that the client may not read has the blob.
        """
        if reads_all and not self.store.has_blob(digest):
            return None
        mounts = (
            self.mount(name, source, digest)
            for source in self._sources(name)
            if may_read(source) and self.store.repositories.links_blob(source, digest)
        )
        return next(filter(None, mounts), None)

    def _sources(self, name: Repository) -> Iterator[Repository]:
        """Yield the repositories to search: the target repository, then those of the catalog."""
        yield name
        yield from islice(catalog.names(self.storage), _MAX_MOUNT_SOURCES)

    # ---- commit

    def _send_meanwhile(self, session: Session, body: Body, digest: Digest) -> None:
        """Let a remote storage receive the blob while its last bytes arrive.

        The blob's key in the storage contains the digest, which only the last request of an upload
        names. So nothing can be sent before this request. If this request has no body, the commit
        sends the whole blob.
        """
        if body.length != 0:
            size = None if body.length is None else session.offset + body.length
            session.send_to(self.store.blobs.sending(session.path, digest, size))

    def _commit(self, name: Repository, session: Session, digest: Digest) -> int:
        actual = session.digest(digest.algorithm)
        if actual != digest:
            session.discard()
            raise DigestMismatch(digest, actual)
        # The blob is pinned again, because the pin of `finish` may have expired during a long
        # upload.
        with pinned(self.store, self.state, [digest]):
            self._store(session, digest)
            self.store.repositories.link_blob(name, digest)
        size = session.offset
        session.discard()
        return size

    def _store(self, session: Session, digest: Digest) -> None:
        """Commit the upload's verified file as the blob, even if the blob is already stored.

        The upload's reservation becomes the blob's reservation.
        """
        self.store.reservations.settle(digest, session.offset)
        self.store.reservations.release(session.promise)
        try:
            self.store.blobs.commit_file(
                session.path,
                digest,
                verified=digest,
                size=session.offset,
                sending=session.sending,
            )
        except ContentDamaged:
            self.store.reservations.release(digest)
            session.discard()
            raise
        # If the index is unavailable, the next start of the cleaner adds the blob's row.
        with contextlib.suppress(IndexUnavailable):
            record_use(self.store, digest, session.offset)


def _check(session: Session, start: int | None) -> None:
    if start is not None and start != session.offset:
        message = f"the upload has {session.offset} bytes, but the chunk starts at {start}"
        raise ChunkMisplaced(message, session.offset)
