"""A manifest that is pushed: all that it names is here, then it, then its links, then its tags.

Each step is durable before the next, so a tag never points at what is not there, whenever
we die.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.datastore.content import ContentStore, StoredManifest
from entrepot.datastore.errors import DatastoreError, DigestMismatch, InvalidManifest
from entrepot.datastore.index import AccessIndex, ContentKind
from entrepot.datastore.locks import repository_lock
from entrepot.datastore.manifest import ACCEPT, Descriptor, Manifest, essence, parse
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.registry.errors import Overloaded, PartsUnknown
from entrepot.registry.push import referrers
from entrepot.registry.push.pins import hold

_PATIENCE_S = 30.0
_MOST_TOLD = 100
"""How many missing parts a client is told of."""


@contextmanager
def turn(state: Path, name: Repository) -> Iterator[None]:
    """Wait for the turn to write links and tags of a repository. Raises: Overloaded."""
    with repository_lock(state, name, _PATIENCE_S) as mine:
        if not mine:
            raise Overloaded(f"{name} is being written to")
        yield


@dataclass(frozen=True, slots=True)
class ManifestPushes:
    """Takes manifests in; *state* is the state directory."""

    store: ContentStore
    state: Path

    def put(self, name: Repository, held: StoredManifest, *, tags: tuple[Tag, ...] = ()) -> None:
        """Keep a manifest under a name, by its digest and by *tags*, durably.

        Raises: PartsUnknown, NoRoom, RoomAwaited, Overloaded, IndexUnavailable, StorageFull,
        StorageBroken.
        """
        parts = [named for named in held.manifest.names if not named.is_elsewhere]
        below = _closure(self.store.index, [named.digest for named in parts])
        with hold(self.store, self.state, [held.digest, *below]):
            self._check(name, held, parts)
            self._store(held)
            with turn(self.state, name):
                self._check(name, held, parts)  # again: until now a link could go
                self._link(name, held, tags)

    def _check(self, name: Repository, held: StoredManifest, parts: list[Descriptor]) -> None:
        """See that all parts can be read under this name. Raises: PartsUnknown."""
        missing = [named.digest for named in parts if not self._is_here(name, held, named)]
        if missing:
            raise PartsUnknown(tuple(dict.fromkeys(missing))[:_MOST_TOLD])

    def _is_here(self, name: Repository, held: StoredManifest, named: Descriptor) -> bool:
        """Whether a part can be read under this name: an index's manifest, or else a blob.

        Some indexes list blobs: BuildKit's caches do.
        """
        links = self.store.repositories
        if not self.store.has_blob(named.digest):
            return False
        if held.manifest.kind is ContentKind.INDEX:
            if links.linked_manifest(name, named.digest) is not None:
                return True
            if essence(named.media_type) in ACCEPT:
                return False
        return links.links_blob(name, named.digest)

    def _store(self, held: StoredManifest) -> None:
        if not self.store.has_identical(held):
            self._write(held)
        self.store.index.record(
            held.digest,
            len(held.body),
            held.manifest.kind,
            self.store.clock(),
            names=held.manifest.parts(),
        )

    def _write(self, held: StoredManifest) -> None:
        if not self.store.reservations.reserve(held.digest, len(held.body)):
            raise self.store.reservations.error_for(len(held.body))
        try:
            self.store.blobs.write(held.digest, held.body)
        except DatastoreError:
            self.store.reservations.release(held.digest)
            raise

    def _link(self, name: Repository, held: StoredManifest, tags: tuple[Tag, ...]) -> None:
        links = self.store.repositories
        about = referrers.subject(held)
        if about:
            described = json.dumps(referrers.describe(held)).encode()
            links.add_referrer(name, about, held.digest, described)
        links.link_manifest(name, held.digest, held.type_by_header)
        for tag in tags:
            links.set_tag(name, tag, held.digest)


def read(body: bytes, media_type: str | None, expected: Digest | None) -> StoredManifest:
    """Read a manifest as it came. Raises: DigestMismatch, InvalidManifest."""
    digest = Digest.of(body, expected.algorithm) if expected else Digest.of(body)
    if expected and digest != expected:
        raise DigestMismatch(expected, digest)
    manifest = parse(body, media_type)
    _refuse_two_types(json.loads(body), media_type, manifest)
    return StoredManifest(digest, body, manifest)


def _refuse_two_types(document: dict[str, Any], given: str | None, manifest: Manifest) -> None:
    """Refuse what another client could read as something else than it was pushed as.

    Raises: InvalidManifest.
    """
    pushed_as = essence(given or "") or manifest.media_type
    stated = document.get("mediaType")
    if stated and essence(str(stated)) != pushed_as:
        raise InvalidManifest(str(stated), f"pushed as {pushed_as}, but states another type")


def _closure(index: AccessIndex, digests: list[Digest]) -> set[Digest]:
    """Return *digests*, what they name, and what those name."""
    found: set[Digest] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting.extend(index.children(digest))
    return found
