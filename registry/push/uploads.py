"""Uploads: begun, gone on with, ended as a blob, given up; and blobs mounted without one."""

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
from entrepot.registry.push.pins import hold, use
from entrepot.registry.push.upload_sessions import Body, Session, Sessions

log = logging.getLogger(__name__)

MayRead = Callable[[Repository], bool]

_MOST_LOOKED_AT = 1000
"""How many repositories an anonymous mount looks through for one that links the blob."""


@dataclass(frozen=True, slots=True)
class BlobUploads:
    """All uploads; *state* is the state directory.

    Raises, each verb: UploadUnknown, IndexUnavailable, NoRoom, Overloaded, StorageBroken.
    """

    store: ContentStore
    sessions: Sessions
    storage: Storage
    state: Path

    def begin(self, name: Repository, algorithm: str, owner: str) -> str:
        """Begin an upload of an owner and return its identity. Raises: TooManyUploads."""
        return self.sessions.begin(name, algorithm, owner=owner)

    def offset(self, name: Repository, number: str) -> int:
        """Return how many bytes of an upload have come in."""
        return self.sessions.offset(name, number)

    def go_on(self, name: Repository, number: str, body: Body, start: int | None) -> int:
        """Append a chunk, which begins at *start* if the client says so; return the new length.

        Raises: ChunkMisplaced, BodyBroken.
        """
        with self.sessions.open(name, number) as session:
            _check(session, start)
            session.fill(body)
            return session.offset

    def end(
        self, name: Repository, number: str, body: Body, *, start: int | None, digest: Digest
    ) -> None:
        """Append the last chunk and make it all the blob *digest*, durably.

        Raises: ChunkMisplaced, BodyBroken; DigestMismatch, and nothing of it stays.
        """
        with self.sessions.open(name, number) as session:
            _check(session, start)
            with hold(
                self.store, self.state, [digest]
            ):  # before a byte is taken: a failure may be repeated
                session.fill(body)
                self._land(name, session, digest)

    def whole(self, name: Repository, body: Body, digest: Digest, owner: str = "") -> None:
        """Make a body the blob *digest*, durably. Raises: BodyBroken, DigestMismatch."""
        number = self.sessions.begin(name, digest.algorithm, owner=owner)
        with self.sessions.open(name, number) as session:
            try:
                session.fill(body)
            except BodyBroken:
                session.discard()
                raise
            self._land(name, session, digest)

    def give_up(self, name: Repository, number: str) -> None:
        """Remove an upload."""
        with self.sessions.open(name, number) as session:
            session.discard()

    # ---- without an upload

    def mount(self, name: Repository, source: Repository, digest: Digest) -> bool:
        """Link a blob that *source* may show; False when it is not there."""
        if not self.store.repositories.links_blob(source, digest):
            return False
        with hold(self.store, self.state, [digest]):
            stat = self.store.blobs.stat(digest)
            if stat is None:
                return False
            use(self.store, digest, stat.size)
            self.store.repositories.link_blob(name, digest)
        return True

    def mount_any(self, name: Repository, digest: Digest, may_read: MayRead) -> bool:
        """Link a blob that any repository may show to whoever pushes; False when none is found."""
        if not self.store.has_blob(digest):
            return False
        return any(
            self.mount(name, source, digest)
            for source in self._sources(name)
            if self.store.repositories.links_blob(source, digest) and may_read(source)
        )

    def _sources(self, name: Repository) -> Iterator[Repository]:
        """Yield where a blob may be found: in the repository itself, or in one of the others."""
        yield name
        yield from islice(catalog.names(self.storage), _MOST_LOOKED_AT)

    # ---- the end

    def _land(self, name: Repository, session: Session, digest: Digest) -> None:
        actual = session.digest(digest.algorithm)
        if actual != digest:
            session.discard()
            raise DigestMismatch(digest, actual)
        with hold(self.store, self.state, [digest]):  # anew, for it may have taken long
            self._store(session, digest)
            self.store.repositories.link_blob(name, digest)
        session.discard()

    def _store(self, session: Session, digest: Digest) -> None:
        """Make the file the blob, whatever is stored: only this was just verified.

        Its room becomes the blob's.
        """
        self.store.reservations.settle(digest, session.offset)
        self.store.reservations.release(session.promise)
        try:
            self.store.blobs.commit_file(session.path, digest, verified=digest, size=session.offset)
        except ContentDamaged:
            self.store.reservations.release(digest)
            session.discard()
            raise
        with contextlib.suppress(IndexUnavailable):  # the next start finds it without its row
            use(self.store, digest, session.offset)


def _check(session: Session, start: int | None) -> None:
    if start is not None and start != session.offset:
        message = f"this upload stands at {session.offset}, the chunk begins at {start}"
        raise ChunkMisplaced(message, session.offset)
