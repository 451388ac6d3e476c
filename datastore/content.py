"""What is here: the blobs, the links and the index, as pulls and pushes see them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.errors import (
    DatastoreError,
    IndexUnavailable,
    InvalidManifest,
    NotFound,
    StorageBroken,
)
from entrepot.datastore.index import AccessIndex, ContentKind
from entrepot.datastore.manifest import Manifest, parse
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Parse, Repositories
from entrepot.datastore.reservations import Reservations

log = logging.getLogger(__name__)

_EVERY_S = 10.0
_MOST_READ = 64
_LONGEST_READ = 16 * 1024
"""How many manifests are kept as they were read, and the bytes of the longest: 5 MB at worst."""


def _remembering() -> Parse:
    """Return `parse`, which reads the same bytes once: what they mean never changes."""
    return lru_cache(_MOST_READ)(parse)


class DiskErrorLog:
    """Logs such errors, one line in ten seconds: a broken disk fails every request.

    `timer` gives s of a clock that never goes back.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._lock = threading.Lock()
        self._silent_until = float("-inf")
        self._unsaid = 0

    def log(self, error: Exception) -> None:
        """Log that a request was passed through because of *error*, unless that was just done."""
        with self._lock:
            now = self._timer()
            if now < self._silent_until:
                self._unsaid += 1
                return
            self._silent_until = now + _EVERY_S
            unsaid, self._unsaid = self._unsaid, 0
        names = {"error": error, "before": unsaid}
        log.warning("disk not readable: passed through from the upstream", extra=names)


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest that may be shown: byte for byte as it was received."""

    digest: Digest
    body: bytes
    manifest: Manifest

    @property
    def media_type(self) -> str:
        """The media type that it states or, without that, that came with it."""
        return self.manifest.media_type

    @property
    def type_by_header(self) -> str | None:
        """The media type that came with it, where it states none."""
        return None if self.manifest.states_type else self.manifest.media_type


@dataclass(frozen=True, slots=True)
class ContentStore:
    """The datastore of one appliance; `clock` gives s, UTC epoch."""

    blobs: BlobStore
    repositories: Repositories
    index: AccessIndex
    reservations: Reservations
    proofs: Proofs
    clock: Callable[[], float] = time.time
    read: Parse = field(default_factory=_remembering)
    disk_errors: DiskErrorLog = field(default_factory=DiskErrorLog)

    # ---- blobs

    def has_blob(self, digest: Digest) -> bool:
        """Whether the content is here, whoever may see it."""
        return self.blobs.stat(digest) is not None

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int] | None:
        """Open content, and return its length in bytes; None when it is not here."""
        try:
            return self.blobs.open_sized(digest)
        except NotFound:
            return None

    def link_blob(self, name: Repository, digest: Digest, origin: str) -> None:
        """Permit a blob under a proxied name; a full disk forgoes that, not the pull.

        Only after proof (docs/permissions.md): a link outlives whatever was said of it.
        """
        self._kept(name, origin, lambda: self.repositories.link_blob(name, digest))

    # ---- manifests

    def manifest(self, name: Repository, digest: Digest) -> StoredManifest | None:
        """Return a manifest that may be shown under this name, if it is here."""
        if self.repositories.linked_manifest(name, digest) is None:
            return None
        return self.content(digest, name)

    def content(self, digest: Digest, name: Repository | None = None) -> StoredManifest | None:
        """Return a manifest as *name* has it, whoever may see it; a layer is read no further."""
        try:
            body = self.blobs.read(digest)
            read = self.read if len(body) <= _LONGEST_READ else parse
            return StoredManifest(
                digest, body, self.repositories.read_manifest(name, digest, body, read)
            )
        except (NotFound, InvalidManifest):
            return None

    def has_identical(self, held: StoredManifest) -> bool:
        """Whether a manifest is stored, byte for byte."""
        try:
            return self.blobs.read(held.digest) == held.body
        except NotFound:
            return False

    def manifest_listing(self, name: Repository, digest: Digest) -> StoredManifest | None:
        """Return the image, of those that this repository shows, that names a blob."""
        with contextlib.suppress(IndexUnavailable):
            for parent in self.index.parents(digest):
                held = self.manifest(name, parent)
                if held and held.manifest.kind is ContentKind.MANIFEST:
                    return held
        return None

    def announced_size(self, name: Repository, digest: Digest) -> int | None:
        """Return how long a manifest says that a blob is, in bytes."""
        held = self.manifest_listing(name, digest)
        named = held.manifest.names if held else ()
        return next((each.size for each in named if each.digest == digest), None)

    def store_manifest(self, held: StoredManifest) -> bool:
        """Store a manifest's content, if there is room for it."""
        if not self.reservations.reserve(held.digest, len(held.body)):
            return False
        try:
            self.blobs.write(held.digest, held.body)
            self.index.record(
                held.digest,
                len(held.body),
                held.manifest.kind,
                self.clock(),
                names=held.manifest.parts(),
            )
        except IndexUnavailable as error:  # the next start finds it without its row
            log.warning("manifest not recorded", extra={"digest": held.digest, "error": error})
        except DatastoreError as error:
            self.reservations.release(held.digest)
            log.warning("manifest not stored", extra={"digest": held.digest, "error": error})
            return False
        return True

    def record_proof(self, digest: Digest, upstream: str) -> None:
        """Note that an upstream has sent this content; without it, it is asked once more."""
        try:
            self.proofs.keep(digest, upstream)
        except DatastoreError as error:
            log.warning("proof not written", extra={"digest": digest, "error": error})

    def link_manifest(self, name: Repository, held: StoredManifest, origin: str) -> None:
        """Permit a manifest under a proxied name, or confirm that it still may be shown."""
        link = self.repositories.link_manifest
        self._kept(name, origin, lambda: link(name, held.digest, held.type_by_header))

    def set_tag(self, name: Repository, tag: Tag, digest: Digest, origin: str) -> None:
        """Move a proxied tag, or confirm where it stands."""
        self._kept(name, origin, lambda: self.repositories.set_tag(name, tag, digest))

    def is_complete(self, name: Repository, held: StoredManifest) -> bool:
        """Return True if every part is stored locally (for an index: at least one child).

        A part that the disk does not return is not stored: the caller may have it elsewhere.
        """
        try:
            return self._has_parts(name, held)
        except StorageBroken as error:
            self.disk_errors.log(error)
            return False

    def _has_parts(self, name: Repository, held: StoredManifest) -> bool:
        parts = held.manifest.parts()
        if held.manifest.kind is ContentKind.INDEX:
            return not parts or any(self._has_child(name, digest) for digest in parts)
        return all(
            self.repositories.links_blob(name, digest) and self.has_blob(digest) for digest in parts
        )

    def _has_child(self, name: Repository, digest: Digest) -> bool:
        child = self.manifest(name, digest)
        return child is not None and self._has_parts(name, child)

    def _kept(self, name: Repository, origin: str, write: Callable[[], None]) -> None:
        """Write below a proxied name, once its origin is kept."""
        try:
            if not self.repositories.origin(name):  # none, or one that is not known
                self.repositories.keep_origin(name, origin)
            write()
        except DatastoreError as error:
            log.warning("link not written", extra={"repository": name, "error": error})
