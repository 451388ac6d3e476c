"""Combine the blobs, links and index of one appliance into one store for pulls and pushes."""

from __future__ import annotations

import contextlib
import logging
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
from entrepot.datastore.index import REBUILT, ContentKind, Index
from entrepot.datastore.manifest import Manifest, parse
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Parse, Repositories
from entrepot.datastore.reservations import Reservations
from entrepot.runtime.rare_lines import RareLines

log = logging.getLogger(__name__)

_EVERY_S = 10.0
_MOST_READ = 64
_LONGEST_READ = 16 * 1024
"""At most 64 manifests of at most 16 KiB each stay in memory, in parsed form: 5 MB in total."""


def _caching_parse() -> Parse:
    """Return `parse` with a cache of results, so that the same bytes are not parsed again."""
    return lru_cache(_MOST_READ)(parse)


class DiskErrorLog:
    """A `DiskErrorLog` logs errors of the disk that cause content to be passed through.

    If the disk is broken, every read causes an error. Therefore at most one error in ten seconds is
    logged. `timer` returns monotonic time in seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._lines = RareLines(_EVERY_S, timer)

    def log(self, error: Exception) -> None:
        """Log *error*, if no other error was logged in the last ten seconds."""
        suppressed = self._lines.due(DiskErrorLog)
        if suppressed is None:
            return
        fields = {"error": error, "before": suppressed}
        log.warning(
            "the disk is not readable: content is passed through from the upstream", extra=fields
        )


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A `StoredManifest` is a manifest with its bytes, exactly as they were received."""

    digest: Digest
    body: bytes
    manifest: Manifest

    @property
    def media_type(self) -> str:
        """Return the media type that the bytes state; else the type that was received with them."""
        return self.manifest.media_type

    @property
    def type_by_header(self) -> str | None:
        """Return the media type that was received with the bytes; None if the bytes state one."""
        return None if self.manifest.states_type else self.manifest.media_type


@dataclass(frozen=True, slots=True)
class ContentStore:
    """A `ContentStore` reads and writes the content of one appliance.

    `clock` returns the time in seconds since the UTC epoch.
    """

    blobs: BlobStore
    repositories: Repositories
    index: Index
    reservations: Reservations
    proofs: Proofs
    clock: Callable[[], float] = time.time
    read: Parse = field(default_factory=_caching_parse)
    disk_errors: DiskErrorLog = field(default_factory=DiskErrorLog)

    # ---- blobs

    def has_blob(self, digest: Digest) -> bool:
        """Return whether the content is stored, even if no repository links it."""
        return self.blobs.stat(digest) is not None

    def is_absent(self, digest: Digest) -> bool:
        """Return whether the index shows that content is not stored.

        PERF: a search in a remote storage costs a request, and a read of the index costs none.
        Content counts as absent only if the index was rebuilt, and has neither a row nor a
        reservation of *digest*. If a process died between storing content and writing its row, the
        content counts as absent until the cleaner adds the row. While the index is unavailable,
        return False.
        """
        try:
            if self.index.notes.get(REBUILT) is None:
                return False
            # A commit replaces a reservation with a row. If the row were read first, and the commit
            # happened before the reservations are read, this function would find neither.
            is_reserved = any(each.digest == digest for each in self.index.reservations.all())
            return not is_reserved and self.index.entry(digest) is None
        except IndexUnavailable:
            return False

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int] | None:
        """Open content, and return its length in bytes; None if the content is not stored."""
        try:
            return self.blobs.open_sized(digest)
        except NotFound:
            return None

    def link_blob(self, name: Repository, digest: Digest, origin: str) -> None:
        """Permit a proxied repository to serve a blob; an error is only logged.

        The permission is permanent. Therefore call this method only after the upstream has proven
        that it has the blob (docs/permissions.md).
        """
        self._write_proxied(name, origin, lambda: self.repositories.link_blob(name, digest))

    # ---- manifests

    def manifest(self, name: Repository, digest: Digest) -> StoredManifest | None:
        """Return a stored manifest that the repository *name* links.

        Return None if the manifest is not stored, or if the repository does not link it.
        """
        if not self.repositories.links_manifest(name, digest):
            return None
        return self.content(digest, name)

    def content(self, digest: Digest, name: Repository | None = None) -> StoredManifest | None:
        """Return a stored manifest, even if no repository links it.

        If the bytes state no media type, the type that was received in the repository *name* is
        used. Return None if the content is absent or is not a manifest.
        """
        try:
            body = self.blobs.read(digest)
            read = self.read if len(body) <= _LONGEST_READ else parse
            return StoredManifest(
                digest, body, self.repositories.read_manifest(name, digest, body, read)
            )
        except (NotFound, InvalidManifest):
            return None

    def has_identical(self, stored: StoredManifest) -> bool:
        """Return whether exactly the bytes of *stored* are stored under its digest."""
        try:
            return self.blobs.read(stored.digest) == stored.body
        except NotFound:
            return False

    def manifest_listing(self, name: Repository, digest: Digest) -> StoredManifest | None:
        """Return an image manifest of this repository that lists a blob; None if there is none."""
        with contextlib.suppress(IndexUnavailable):
            for parent in self.index.parents(digest):
                stored = self.manifest(name, parent)
                if stored and stored.manifest.kind is ContentKind.MANIFEST:
                    return stored
        return None

    def announced_size(self, name: Repository, digest: Digest) -> int | None:
        """Return the size in bytes that a manifest of the repository states for a blob.

        Return None if no manifest of the repository lists the blob.
        """
        stored = self.manifest_listing(name, digest)
        named = stored.manifest.descriptors if stored else ()
        return next((each.size for each in named if each.digest == digest), None)

    def store_manifest(self, stored: StoredManifest) -> bool:
        """Store the content of a manifest; return False if it could not be stored."""
        if not self.reservations.reserve(stored.digest, len(stored.body)):
            return False
        try:
            self.blobs.write(stored.digest, stored.body)
            self.index.record(
                stored.digest,
                len(stored.body),
                stored.manifest.kind,
                self.clock(),
                children=stored.manifest.parts(),
            )
        # If the index is unavailable, the cleaner adds the row when it starts or at its daily
        # rebuild.
        except IndexUnavailable as error:
            log.warning("manifest not recorded", extra={"digest": stored.digest, "error": error})
        except DatastoreError as error:
            self.reservations.release(stored.digest)
            log.warning("manifest not stored", extra={"digest": stored.digest, "error": error})
            return False
        return True

    def record_proof(self, digest: Digest, upstream: str) -> None:
        """Record that *upstream* has sent the content of *digest*; an error is only logged.

        Without this record, a later pull asks the upstream for the content again.
        """
        try:
            self.proofs.keep(digest, upstream)
        except DatastoreError as error:
            log.warning("proof not written", extra={"digest": digest, "error": error})

    def link_manifest(self, name: Repository, stored: StoredManifest, origin: str) -> None:
        """Permit a proxied repository to serve a manifest, or confirm an existing link to it."""
        link = self.repositories.link_manifest
        self._write_proxied(name, origin, lambda: link(name, stored.digest, stored.type_by_header))

    def set_tag(self, name: Repository, tag: Tag, digest: Digest, origin: str) -> None:
        """Set a tag of a proxied repository, or confirm that the tag still refers to *digest*."""
        self._write_proxied(name, origin, lambda: self.repositories.set_tag(name, tag, digest))

    def is_complete(self, name: Repository, stored: StoredManifest) -> bool:
        """Return whether every part of a manifest (for an index: of one child) is stored locally.

        A part that the disk cannot read counts as absent, so that the caller can fetch it from an
        upstream.
        """
        try:
            return self._has_parts(name, stored)
        except StorageBroken as error:
            self.disk_errors.log(error)
            return False

    def _has_parts(self, name: Repository, stored: StoredManifest) -> bool:
        parts = stored.manifest.parts()
        if stored.manifest.kind is ContentKind.INDEX:
            return not parts or any(self._has_child(name, digest) for digest in parts)
        return all(
            self.repositories.links_blob(name, digest) and self.has_blob(digest) for digest in parts
        )

    def _has_child(self, name: Repository, digest: Digest) -> bool:
        child = self.manifest(name, digest)
        return child is not None and self._has_parts(name, child)

    def _write_proxied(self, name: Repository, origin: str, write: Callable[[], None]) -> None:
        """Store the origin of a proxied repository if it has none, then call *write*."""
        try:
            if not self.repositories.origin(name):  # The origin is None or UNKNOWN_ORIGIN.
                self.repositories.set_origin(name, origin)
            write()
        except DatastoreError as error:
            log.warning("link not written", extra={"repository": name, "error": error})
