"""Manifests: by digest the cache first, always; by tag as fresh as the operator wants it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from entrepot.datastore.content import ContentStore, StoredManifest
from entrepot.datastore.errors import DatastoreError, InvalidManifest, StorageBroken, StorageFull
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


class KeyedLock:
    """A lock file a question, in *folder*; whoever had the turn before may have the answer."""

    def __init__(self, folder: Path, patience: float = 35.0) -> None:
        self._folder = folder
        self._patience = patience

    @contextmanager
    def take(self, *question: object) -> Iterator[None]:
        """Wait for the turn, at most the patience (s): then, or without a disk, go on without."""
        name = hashlib.sha256("\0".join(map(str, question)).encode()).hexdigest()
        with ExitStack() as turn:
            with suppress(DatastoreError):
                turn.enter_context(holding(self._folder / name, self._patience))
            yield


def is_fresh(state: TagState, source: UpstreamConfig, now: float) -> bool:
    """Whether a tag was confirmed recently enough not to ask again; *now* in s, UTC epoch."""
    return 0 <= now - state.confirmed <= source.freshness


def may_be_stale(state: TagState, source: UpstreamConfig, error: UpstreamError, now: float) -> bool:
    """Whether what we have may be shown although the upstream did not confirm it."""
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
    """Return the one word for it that Cache-Status shows and the metrics count by."""
    if isinstance(error, Unavailable):
        return _REASONS[error.why]
    return "gone" if isinstance(error, Absent) else "denied"


def warning(error: UpstreamError) -> str:
    """Return the text of the `Warning` that goes with a stale answer (OCI spec, "Warnings")."""
    if isinstance(error, Absent):
        reason = "no longer has it"
    elif _is_gone(error):
        reason = "refuses it"
    elif isinstance(error, Unavailable) and error.why is Why.UNSUPPORTED:
        reason = "now has a manifest of an unsupported type"
    else:
        reason = "is unavailable"
    return f"served stale: {error.upstream} {reason}"


def _is_gone(error: UpstreamError) -> bool:
    return isinstance(error, Absent | Denied)


log = logging.getLogger(__name__)

_JUST_NOW_S = 0.5
"""How long an upstream that showed a manifest is taken to be there for its parts."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """Every manifest. Raises, each verb: ManifestUnknown, Denied, Unavailable, PartsMissing."""

    store: ContentStore
    locks: KeyedLock
    negative: NegativeCache

    def get(self, resolved: ResolvedRepository, reference: Reference) -> ManifestAnswer:
        """Find a manifest; HEAD and GET share this.

        Raises: StorageFull, StorageBroken, for hosted content only.
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
        """Find a manifest here or there; what the disk refuses is fetched and passed through."""
        try:
            if isinstance(reference, Digest):
                return self._by_digest(resolved, registered, reference)
            return self._by_tag(resolved, registered, reference)
        except (StorageFull, StorageBroken) as error:
            self.store.disk_errors.log(error)
        self.negative.check(resolved, reference)
        held = _read(registered.upstream.manifest(resolved.remote, reference), resolved)
        return ManifestAnswer(held, ResponseSource.PASSED, age=0.0)

    def holds(self, resolved: ResolvedRepository, answer: ManifestAnswer) -> float:
        """Return how long [s] an answer holds without a question to anybody: memory may keep it."""
        if resolved.upstream is None or answer.source in (
            ResponseSource.STALE,
            ResponseSource.PASSED,
        ):
            return 0.0
        if not (answer.is_complete or self.store.is_complete(resolved.repository, answer.held)):
            return 0.0
        return inf if answer.age is None else resolved.upstream.config.freshness - answer.age

    def _hosted(self, resolved: ResolvedRepository, reference: Reference) -> ManifestAnswer:
        digest: Digest | None
        if isinstance(reference, Digest):
            digest = reference
        else:
            state = self.store.repositories.tag(resolved.repository, reference)
            digest = state.digest if state else None
        held = self.store.manifest(resolved.repository, digest) if digest else None
        if held is None:
            raise ManifestUnknown(f"{resolved.repository} has no {reference}")
        return ManifestAnswer(held, ResponseSource.HIT)

    # ---- by digest

    def _by_digest(
        self, resolved: ResolvedRepository, registered: Registered, digest: Digest
    ) -> ManifestAnswer:
        held = self.store.manifest(resolved.repository, digest)
        if held:
            return self._usable(resolved, registered, held)
        with self.locks.take(resolved.repository, digest):
            held = self.store.manifest(resolved.repository, digest)
            if held:
                return ManifestAnswer(held, ResponseSource.COLLAPSED)
            return self._asked_for(resolved, registered, digest)

    def _asked_for(
        self, resolved: ResolvedRepository, registered: Registered, digest: Digest
    ) -> ManifestAnswer:
        """Fetch a manifest, or only ask whether this name may see what is here already."""
        self.negative.check(resolved, digest)
        held = self._shared(resolved, digest)
        found = registered.upstream.head(resolved.remote, digest) if held else None
        if held and found and found.digest == digest:
            held = _retyped(held, found.media_type)
        else:
            held = self._fetched(_got(registered, resolved, digest, found), resolved)
        self.store.link_manifest(resolved.repository, held, resolved.host)
        return ManifestAnswer(held, ResponseSource.MISS)

    def _shared(self, resolved: ResolvedRepository, digest: Digest) -> StoredManifest | None:
        """Return content that is here if the upstream's word suffices to show it."""
        if self.store.repositories.linked_manifest(resolved.repository, digest) is not None:
            return self.store.content(digest, resolved.repository)
        if resolved.is_open or self.store.proofs.has(digest, resolved.host):
            return self.store.content(digest, resolved.repository)
        return None

    def _usable(
        self, resolved: ResolvedRepository, registered: Registered, held: StoredManifest
    ) -> ManifestAnswer:
        """Refuse what a client could not finish: podman asks nobody else once it has a manifest.

        What is not whole here is shown while the upstream is there for the rest.
        """
        is_complete = self.store.is_complete(resolved.repository, held)
        if not is_complete:
            confirmed = self.store.repositories.linked_manifest(resolved.repository, held.digest)
            age = self.store.clock() - (confirmed or 0)
            if not 0 <= age <= _JUST_NOW_S or not registered.upstream.is_healthy:
                self._confirm(resolved, registered, held)
        return ManifestAnswer(held, ResponseSource.HIT, is_complete=is_complete)

    def _confirm(
        self, resolved: ResolvedRepository, registered: Registered, held: StoredManifest
    ) -> None:
        try:
            registered.upstream.head(resolved.remote, held.digest)
        except Unavailable as error:
            raise PartsMissing(error) from error
        self.store.link_manifest(resolved.repository, held, resolved.host)

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
        """Return what needs no question within its freshness."""
        now = self.store.clock()
        state = self.store.repositories.tag(resolved.repository, tag)
        if state is None or not is_fresh(state, registered.config, now):
            return None
        held = self.store.manifest(resolved.repository, state.digest)
        if held is None or not self._can_be_finished(resolved, registered, held):
            return None
        return ManifestAnswer(held, ResponseSource.HIT, age=now - state.confirmed)

    def _can_be_finished(
        self, resolved: ResolvedRepository, registered: Registered, held: StoredManifest
    ) -> bool:
        """Whether a client will find what the manifest names, here or there."""
        return registered.upstream.is_healthy or self.store.is_complete(resolved.repository, held)

    def _revalidated(
        self, resolved: ResolvedRepository, registered: Registered, tag: Tag
    ) -> ManifestAnswer:
        state = self.store.repositories.tag(resolved.repository, tag)
        held = self.store.manifest(resolved.repository, state.digest) if state else None
        try:
            self.negative.check(resolved, tag)
            return self._current(resolved, registered, tag, held)
        except UpstreamError as error:
            if state is None or held is None:
                raise
            if isinstance(error, Absent):
                self.negative.remember(resolved, tag)
            return self._stale(resolved, registered, state, held, error)

    def _current(
        self,
        resolved: ResolvedRepository,
        registered: Registered,
        tag: Tag,
        held: StoredManifest | None,
    ) -> ManifestAnswer:
        """Ask what a tag means now: HEAD when we have something (Docker Hub counts GETs).

        HEAD's digest may be wrong: one that is not here is no reason to ask for it.
        """
        known: StoredManifest | None = None
        found: HeadResult | None = None
        if held:
            found = registered.upstream.head(resolved.remote, tag)
            if found.digest == held.digest:
                held = _retyped(held, found.media_type)
                self._keep(resolved, tag, held)
                return ManifestAnswer(held, ResponseSource.CONFIRMED, age=0.0)
            known = self._shared(resolved, found.digest) if found.digest else None
            known = _retyped(known, found.media_type) if known else None
        current = known or self._fetched(_got(registered, resolved, tag, found), resolved)
        self._keep(resolved, tag, current)
        return ManifestAnswer(current, ResponseSource.MISS, age=0.0)

    def _keep(self, resolved: ResolvedRepository, tag: Tag, held: StoredManifest) -> None:
        self.store.link_manifest(resolved.repository, held, resolved.host)
        self.store.set_tag(resolved.repository, tag, held.digest, resolved.host)

    def _stale(
        self,
        resolved: ResolvedRepository,
        registered: Registered,
        state: TagState,
        held: StoredManifest,
        error: UpstreamError,
    ) -> ManifestAnswer:
        """Show what we have although nobody confirmed it, or say why not."""
        now = self.store.clock()
        if not may_be_stale(state, registered.config, error, now):
            raise error
        if not self.store.is_complete(resolved.repository, held):
            raise PartsMissing(error) if isinstance(error, Unavailable) else error
        age = max(now - state.confirmed, 0.0)
        said = warning(error), reason(error)
        return ManifestAnswer(held, ResponseSource.STALE, age, *said)

    def _fetched(self, remote: RemoteManifest, resolved: ResolvedRepository) -> StoredManifest:
        """Store what came, byte for byte; without room it is shown all the same."""
        held = _read(remote, resolved)
        if self.store.store_manifest(held) and not resolved.is_open:
            self.store.record_proof(held.digest, resolved.host)
        return held


def _got(
    registered: Registered,
    resolved: ResolvedRepository,
    reference: Reference,
    found: HeadResult | None,
) -> RemoteManifest:
    """Fetch a manifest, unless it was read to describe it."""
    if found and found.manifest:
        return found.manifest
    return registered.upstream.manifest(resolved.remote, reference)


def _retyped(held: StoredManifest, media_type: str) -> StoredManifest:
    """Return a manifest as the upstream describes it, where it does not state its own type."""
    if held.type_by_header in (None, media_type) or not media_type:
        return held
    try:
        return StoredManifest(held.digest, held.body, parse(held.body, media_type))
    except InvalidManifest:
        return held


def _read(remote: RemoteManifest, resolved: ResolvedRepository) -> StoredManifest:
    """Read what came. Raises: Unavailable, when it is none that can be used."""
    try:
        return StoredManifest(remote.digest, remote.body, parse(remote.body, remote.media_type))
    except InvalidManifest as error:
        raise Unavailable(resolved.host, "its manifest cannot be used", Why.NONSENSE) from error
