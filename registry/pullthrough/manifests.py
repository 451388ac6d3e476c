"""Read manifests of proxied and hosted repositories.

A manifest by digest is read from the store first. A manifest by tag is revalidated at the upstream
as often as the operator configured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from entrepot.datastore.content import ContentStore, StoredManifest
from entrepot.datastore.errors import DatastoreError, InvalidManifest, StorageBroken, StorageFull
from entrepot.datastore.links import UNKNOWN
from entrepot.datastore.locks import holding
from entrepot.datastore.manifest import parse
from entrepot.datastore.refs import Digest, Reference, Tag
from entrepot.datastore.repositories import TagState
from entrepot.registry.errors import (
    Absent,
    Denied,
    ManifestUnknown,
    PartsMissing,
    Unavailable,
    UpstreamError,
    Why,
)
from entrepot.registry.pullthrough.recent_answers import NegativeCache
from entrepot.registry.pullthrough.responses import ManifestAnswer, ResponseSource
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.registry.upstream.protocol import HeadResult, RemoteManifest
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Registered

_JUST_NOW_S = 0.5
"""An upstream that responds confirms an incomplete manifest once in this many seconds at most."""


class KeyedLock:
    """A `KeyedLock` provides one lock for each key, which all workers share as a file in *folder*.

    A caller that has acquired the lock must first look for the result in the store, because an
    earlier holder of the lock may have stored it.
    """

    def __init__(self, folder: Path, patience: float = 35.0) -> None:
        self._folder = folder
        self._patience = patience

    @contextmanager
    def take(self, *question: object) -> Iterator[None]:
        """Wait for the lock of the key *question*, at most *patience* seconds.

        If the lock is not free after *patience* seconds, or on a disk error, the caller continues
        without the lock.
        """
        name = hashlib.sha256("\0".join(map(str, question)).encode()).hexdigest()
        with ExitStack() as lock:
            with suppress(DatastoreError):
                lock.enter_context(holding(self._folder / name, self._patience))
            yield


def is_fresh(state: TagState, source: UpstreamConfig, now: float) -> bool:
    """Return True if a tag was confirmed within `freshness`; *now* is in seconds (UTC epoch).

    A tag whose confirmation time is UNKNOWN is never treated as fresh.
    """
    age = now - state.confirmed
    return 0 <= age <= source.freshness and age < inf


def may_be_stale(state: TagState, source: UpstreamConfig, error: UpstreamError, now: float) -> bool:
    """Return True if the stored manifest may be served although the upstream did not confirm it.

    A tag whose confirmation time is UNKNOWN is treated as confirmed longer than `max_stale` ago.
    """
    if source.max_stale is not None and now - state.confirmed > source.max_stale:
        return False
    return not _is_gone(error) or source.on_gone == "serve"


_REASONS = {
    Why.REFUSED: "refused",
    Why.NONSENSE: "error",
    Why.TIMEOUT: "timeout",
    Why.RESTING: "resting",
    Why.LIMITED: "limited",
    Why.UNSUPPORTED: "unsupported",
}


def reason(error: UpstreamError) -> str:
    """Return the reason of a stale response as one word, for Cache-Status and the metrics."""
    if isinstance(error, Unavailable):
        return _REASONS[error.why]
    return "gone" if isinstance(error, Absent) else "denied"


def warning(error: UpstreamError) -> str:
    """Return the text of the `Warning` header of a stale response (OCI spec, "Warnings")."""
    if isinstance(error, Absent):
        reason = "no longer has this manifest"
    elif _is_gone(error):
        reason = "now refuses access"
    elif isinstance(error, Unavailable) and error.why is Why.UNSUPPORTED:
        reason = "now has a manifest of an unsupported type"
    else:
        reason = "is unavailable"
    return f"served stale: {error.upstream} {reason}"


def _is_gone(error: UpstreamError) -> bool:
    return isinstance(error, Absent | Denied)


@dataclass(frozen=True, slots=True)
class Manifests:
    """A `Manifests` finds manifests by repository and reference.

    Every method may raise ManifestUnknown, Denied, Unavailable or PartsMissing.
    """

    store: ContentStore
    locks: KeyedLock
    negative: NegativeCache

    def get(self, resolved: ResolvedRepository, reference: Reference) -> ManifestAnswer:
        """Find a manifest for a GET or HEAD request.

        Raises: StorageFull or StorageBroken, for hosted repositories only.
        """
        if resolved.upstream is None:
            return self._hosted(resolved, reference)
        try:
            return self._proxied(resolved, resolved.upstream, reference)
        except Absent as error:
            self.negative.remember(resolved, reference)
            raise ManifestUnknown(str(error)) from error

    def _proxied(
        self, resolved: ResolvedRepository, registered: Registered, reference: Reference
    ) -> ManifestAnswer:
        """Find a manifest in the store or at the upstream.

        On a disk error, fetch the manifest and do not store it.
        """
        try:
            if isinstance(reference, Digest):
                return self._by_digest(resolved, registered, reference)
            return self._by_tag(resolved, registered, reference)
        except (StorageFull, StorageBroken) as error:
            self.store.disk_errors.log(error)
        self.negative.check(resolved, reference)
        stored = _read(registered.upstream.manifest(resolved.remote, reference), resolved)
        return ManifestAnswer(stored, ResponseSource.PASSED, age=0.0)

    def cacheable_for(self, resolved: ResolvedRepository, answer: ManifestAnswer) -> float:
        """Return the time, in seconds, for which HAProxy may serve a manifest without a worker."""
        if resolved.upstream is None or answer.source in (
            ResponseSource.STALE,
            ResponseSource.PASSED,
        ):
            return 0.0
        if not (answer.is_complete or self.store.is_complete(resolved.repository, answer.stored)):
            return 0.0
        return inf if answer.age is None else resolved.upstream.config.freshness - answer.age

    def _hosted(self, resolved: ResolvedRepository, reference: Reference) -> ManifestAnswer:
        digest: Digest | None
        if isinstance(reference, Digest):
            digest = reference
        else:
            state = self.store.repositories.tag(resolved.repository, reference)
            digest = state.digest if state else None
        stored = self.store.manifest(resolved.repository, digest) if digest else None
        if stored is None:
            raise ManifestUnknown(f"{resolved.repository} has no {reference}")
        return ManifestAnswer(stored, ResponseSource.HIT)

    # ---- by digest

    def _by_digest(
        self, resolved: ResolvedRepository, registered: Registered, digest: Digest
    ) -> ManifestAnswer:
        stored = self.store.manifest(resolved.repository, digest)
        if stored:
            return self._usable(resolved, registered, stored)
        with self.locks.take(resolved.repository, digest):
            stored = self.store.manifest(resolved.repository, digest)
            if stored:
                return ManifestAnswer(stored, ResponseSource.COLLAPSED)
            return self._fetched_or_shared(resolved, registered, digest)

    def _fetched_or_shared(
        self, resolved: ResolvedRepository, registered: Registered, digest: Digest
    ) -> ManifestAnswer:
        """Fetch a manifest by digest.

        If the content is already stored, a HEAD request to the upstream is enough, unless the
        response has another digest.
        """
        self.negative.check(resolved, digest)
        stored = self._shared(resolved, digest)
        found = registered.upstream.head(resolved.remote, digest) if stored else None
        if stored and found and found.digest == digest:
            stored = _retyped(stored, found.media_type)
        else:
            stored = self._fetched(_got(registered, resolved, digest, found), resolved)
        self.store.link_manifest(resolved.repository, stored, resolved.host)
        return ManifestAnswer(stored, ResponseSource.MISS)

    def _shared(self, resolved: ResolvedRepository, digest: Digest) -> StoredManifest | None:
        """Return the stored manifest if a confirmation of the upstream suffices to serve it."""
        if self.store.repositories.links_manifest(resolved.repository, digest):
            return self.store.content(digest, resolved.repository)
        if resolved.is_open or self.store.proofs.has(digest, resolved.host):
            return self.store.content(digest, resolved.repository)
        return None

    def _usable(
        self, resolved: ResolvedRepository, registered: Registered, stored: StoredManifest
    ) -> ManifestAnswer:
        """Return a stored manifest whose parts a client can get.

        Raises: PartsMissing if a client could not get all parts.

        A manifest with parts that are not stored is served only while the upstream can deliver
        these parts. Otherwise the pull would fail: after podman has received a manifest from a
        mirror, it requests the parts from no other mirror.
        """
        is_complete = self.store.is_complete(resolved.repository, stored)
        if not is_complete:
            confirmed = self.store.repositories.linked_manifest(resolved.repository, stored.digest)
            age = self.store.clock() - (confirmed or 0)
            if not 0 <= age <= _JUST_NOW_S or not registered.upstream.is_healthy:
                self._confirm(resolved, registered, stored)
        return ManifestAnswer(stored, ResponseSource.HIT, is_complete=is_complete)

    def _confirm(
        self, resolved: ResolvedRepository, registered: Registered, stored: StoredManifest
    ) -> None:
        try:
            registered.upstream.head(resolved.remote, stored.digest)
        except Unavailable as error:
            raise PartsMissing(error) from error
        self.store.link_manifest(resolved.repository, stored, resolved.host)

    # ---- by tag

    def _by_tag(
        self, resolved: ResolvedRepository, registered: Registered, tag: Tag
    ) -> ManifestAnswer:
        answer = self._fresh(resolved, registered, tag)
        if answer:
            return answer
        with self.locks.take(resolved.repository, tag):
            answer = self._fresh(resolved, registered, tag)
            return answer or self._revalidated(resolved, registered, tag)

    def _fresh(
        self, resolved: ResolvedRepository, registered: Registered, tag: Tag
    ) -> ManifestAnswer | None:
        """Return the stored manifest of a tag if the upstream confirmed the tag recently enough."""
        now = self.store.clock()
        state = self.store.repositories.tag(resolved.repository, tag)
        if state is None or not is_fresh(state, registered.config, now):
            return None
        stored = self.store.manifest(resolved.repository, state.digest)
        if stored is None or not self._can_be_finished(resolved, registered, stored):
            return None
        return ManifestAnswer(stored, ResponseSource.HIT, age=now - state.confirmed)

    def _can_be_finished(
        self, resolved: ResolvedRepository, registered: Registered, stored: StoredManifest
    ) -> bool:
        """Return True if a client can get every part of a manifest, stored or from the upstream."""
        return registered.upstream.is_healthy or self.store.is_complete(resolved.repository, stored)

    def _revalidated(
        self, resolved: ResolvedRepository, registered: Registered, tag: Tag
    ) -> ManifestAnswer:
        state = self.store.repositories.tag(resolved.repository, tag)
        stored = self.store.manifest(resolved.repository, state.digest) if state else None
        try:
            self.negative.check(resolved, tag)
            return self._current(resolved, registered, tag, stored)
        except UpstreamError as error:
            if state is None or stored is None:
                raise
            if isinstance(error, Absent):
                self.negative.remember(resolved, tag)
            return self._stale(resolved, registered, state, stored, error)

    def _current(
        self,
        resolved: ResolvedRepository,
        registered: Registered,
        tag: Tag,
        stored: StoredManifest | None,
    ) -> ManifestAnswer:
        """Request the current manifest of a tag, with HEAD if a manifest is stored.

        Docker Hub counts GET requests against its limit, but not HEAD requests. The digest in a
        response to HEAD may be wrong. So if the content of that digest is not stored, the worker
        requests the manifest by its tag, not by that digest.
        """
        known: StoredManifest | None = None
        found: HeadResult | None = None
        if stored:
            found = registered.upstream.head(resolved.remote, tag)
            if found.digest == stored.digest:
                stored = _retyped(stored, found.media_type)
                self._keep(resolved, tag, stored)
                return ManifestAnswer(stored, ResponseSource.CONFIRMED, age=0.0)
            known = self._shared(resolved, found.digest) if found.digest else None
            known = _retyped(known, found.media_type) if known else None
        current = known or self._fetched(_got(registered, resolved, tag, found), resolved)
        self._keep(resolved, tag, current)
        return ManifestAnswer(current, ResponseSource.MISS, age=0.0)

    def _keep(self, resolved: ResolvedRepository, tag: Tag, stored: StoredManifest) -> None:
        self.store.link_manifest(resolved.repository, stored, resolved.host)
        self.store.set_tag(resolved.repository, tag, stored.digest, resolved.host)

    def _stale(
        self,
        resolved: ResolvedRepository,
        registered: Registered,
        state: TagState,
        stored: StoredManifest,
        error: UpstreamError,
    ) -> ManifestAnswer:
        """Return the stored manifest although the upstream did not confirm it, or raise *error*."""
        now = self.store.clock()
        if not may_be_stale(state, registered.config, error, now):
            raise error
        if not self.store.is_complete(resolved.repository, stored):
            raise PartsMissing(error) if isinstance(error, Unavailable) else error
        age = None if state.confirmed == UNKNOWN else max(now - state.confirmed, 0.0)
        return ManifestAnswer(
            stored, ResponseSource.STALE, age, warning=warning(error), reason=reason(error)
        )

    def _fetched(self, remote: RemoteManifest, resolved: ResolvedRepository) -> StoredManifest:
        """Store a fetched manifest byte for byte.

        If the disk has no space, the manifest is returned without being stored.
        """
        stored = _read(remote, resolved)
        if self.store.store_manifest(stored) and not resolved.is_open:
            self.store.record_proof(stored.digest, resolved.host)
        return stored


def _got(
    registered: Registered,
    resolved: ResolvedRepository,
    reference: Reference,
    found: HeadResult | None,
) -> RemoteManifest:
    """Fetch a manifest, unless the upstream already sent it in response to a HEAD request."""
    if found and found.manifest:
        return found.manifest
    return registered.upstream.manifest(resolved.remote, reference)


def _retyped(stored: StoredManifest, media_type: str) -> StoredManifest:
    """Return a manifest, with the upstream's media type if the document itself states no type."""
    if stored.type_by_header in (None, media_type) or not media_type:
        return stored
    try:
        return StoredManifest(stored.digest, stored.body, parse(stored.body, media_type))
    except InvalidManifest:
        return stored


def _read(remote: RemoteManifest, resolved: ResolvedRepository) -> StoredManifest:
    """Parse a manifest that the upstream sent.

    Raises: Unavailable if the manifest cannot be used.
    """
    try:
        return StoredManifest(remote.digest, remote.body, parse(remote.body, remote.media_type))
    except InvalidManifest as error:
        raise Unavailable(
            resolved.host, "the upstream's manifest cannot be used", Why.NONSENSE
        ) from error
