"""Push a manifest: check its parts, then store the manifest, its links and its tags.

Each step of a manifest's push is durable before the next step begins. Therefore a tag never points
to missing content, even if the worker dies between two steps.
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
from entrepot.registry.push.pins import pinned
from entrepot.registry.push.push_rules import PushRules

_LOCK_WAIT_S = 30.0
_MAX_REPORTED = 100
"""An error response names at most this many missing parts."""


@contextmanager
def write_lock(state: Path, name: Repository) -> Iterator[None]:
    """Wait for the lock on the links and tags of a repository. Raises: Overloaded after 30 s."""
    with repository_lock(state, name, _LOCK_WAIT_S) as is_locked:
        if not is_locked:
            raise Overloaded(f"other requests are writing to {name}: try again later")
        yield


@dataclass(frozen=True, slots=True)
class ManifestPushes:
    """A `ManifestPushes` stores pushed manifests; *state* is the state directory.

    If *rules* is None, every manifest whose parts are stored may be pushed.
    """

    store: ContentStore
    state: Path
    rules: PushRules | None = None

    def put(self, name: Repository, pushed: StoredManifest, *, tags: tuple[Tag, ...] = ()) -> None:
        """Store a manifest in a repository durably, with a link by digest and with *tags*.

        Raises: PartsUnknown, OutOfSpace, SpaceAwaited, Overloaded, IndexUnavailable, StorageFull,
        StorageBroken; InvalidManifest and Forbidden if *rules* refuses the manifest.
        """
        parts = self._required(pushed)
        below = _closure(self.store.index, list(pushed.manifest.parts()))
        with pinned(self.store, self.state, [pushed.digest, *below]):
            self._check(name, pushed, parts)
            self._store(pushed)
            with write_lock(self.state, name):
                # The parts of the manifest are checked again, because another request may have
                # deleted a link before this request got the lock.
                self._check(name, pushed, parts)
                self._link(name, pushed, tags)

    def _required(self, pushed: StoredManifest) -> list[Descriptor]:
        """Return the parts of a manifest that must be stored.

        Raises: InvalidManifest, Forbidden.
        """
        if self.rules is None:
            return [named for named in pushed.manifest.descriptors if not named.is_elsewhere]
        self.rules.check(pushed)
        return self.rules.required(pushed)

    def _check(self, name: Repository, pushed: StoredManifest, parts: list[Descriptor]) -> None:
        """Check that the repository can serve all parts of a manifest. Raises: PartsUnknown."""
        missing = [named.digest for named in parts if not self._is_linked(name, pushed, named)]
        if missing:
            raise PartsUnknown(tuple(dict.fromkeys(missing))[:_MAX_REPORTED])

    def _is_linked(self, name: Repository, pushed: StoredManifest, named: Descriptor) -> bool:
        """Return True if the repository can serve a part: a manifest of an index, or else a blob.

        An index may list blobs too, as the caches of BuildKit do.
        """
        links = self.store.repositories
        if not self.store.has_blob(named.digest):
            return False
        if pushed.manifest.kind is ContentKind.INDEX:
            if links.links_manifest(name, named.digest):
                return True
            if essence(named.media_type) in ACCEPT:
                return False
        return links.links_blob(name, named.digest)

    def _store(self, pushed: StoredManifest) -> None:
        if not self.store.has_identical(pushed):
            self._write(pushed)
        self.store.index.record(
            pushed.digest,
            len(pushed.body),
            pushed.manifest.kind,
            self.store.clock(),
            children=pushed.manifest.parts(),
        )

    def _write(self, pushed: StoredManifest) -> None:
        if not self.store.reservations.reserve(pushed.digest, len(pushed.body)):
            raise self.store.reservations.error_for(len(pushed.body))
        try:
            self.store.blobs.write(pushed.digest, pushed.body)
        except DatastoreError:
            self.store.reservations.release(pushed.digest)
            raise

    def _link(self, name: Repository, pushed: StoredManifest, tags: tuple[Tag, ...]) -> None:
        links = self.store.repositories
        about = referrers.subject(pushed)
        if about:
            described = json.dumps(referrers.describe(pushed)).encode()
            links.add_referrer(name, about, pushed.digest, described)
        links.link_manifest(name, pushed.digest, pushed.type_by_header)
        for tag in tags:
            links.set_tag(name, tag, pushed.digest)


def read(body: bytes, media_type: str | None, expected: Digest | None) -> StoredManifest:
    """Parse a pushed manifest. Raises: DigestMismatch, InvalidManifest."""
    digest = Digest.of(body, expected.algorithm) if expected else Digest.of(body)
    if expected and digest != expected:
        raise DigestMismatch(expected, digest)
    manifest = parse(body, media_type)
    _refuse_two_types(json.loads(body), media_type, manifest)
    return StoredManifest(digest, body, manifest)


def _refuse_two_types(document: dict[str, Any], given: str | None, manifest: Manifest) -> None:
    """Refuse a manifest whose `mediaType` differs from the media type of the request.

    Raises: InvalidManifest.
    """
    pushed_as = essence(given or "") or manifest.media_type
    stated = document.get("mediaType")
    if stated and essence(str(stated)) != pushed_as:
        raise InvalidManifest(
            str(stated), f"the manifest was pushed as {pushed_as}, but states another type"
        )


def _closure(index: AccessIndex, digests: list[Digest]) -> set[Digest]:
    """Return *digests*, their parts, and the parts of these parts."""
    found: set[Digest] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting.extend(index.children(digest))
    return found
