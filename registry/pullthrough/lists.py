"""Serve tags and referrers: the upstream's list, or the stored copy during an outage."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice

from entrepot.datastore import layout
from entrepot.datastore.content import ContentStore
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.manifest import OCI_INDEX
from entrepot.datastore.refs import Digest, Tag
from entrepot.datastore.storage import Storage
from entrepot.registry.errors import (
    Absent,
    Denied,
    ListTooLong,
    ManifestUnknown,
    NameUnknown,
    Unavailable,
    Why,
)
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.registry.upstream.protocol import Upstream

_LARGEST_STORED = 64 * 1024
"""A list of referrers with more bytes is not stored.

The worker stores a list without a reservation of disk space, so the list must be small.
"""


@dataclass(frozen=True, slots=True)
class Lists:
    """A `Lists` returns the tags and the referrers of a repository.

    Every method may raise NameUnknown, Denied or Unavailable.
    """

    store: ContentStore
    storage: Storage

    def tags(self, resolved: ResolvedRepository, after: str | None, limit: int | None) -> list[str]:
        """Return at most *limit* tags after the tag *after*, in order."""
        if resolved.upstream is None:
            if not self.store.repositories.exists(resolved.repository):
                raise NameUnknown(f"there is no repository {resolved.repository}")
            return self._stored_tags(resolved, after, limit)
        try:
            return resolved.upstream.upstream.tags(resolved.remote, after, limit)
        except Absent as error:
            raise NameUnknown(str(error)) from error
        except ListTooLong:
            raise
        except Unavailable:
            own = self._stored_tags(resolved, after, limit)
            if not own and after is None:
                raise
            return own

    def referrers(self, resolved: ResolvedRepository, digest: Digest) -> bytes:
        """Return the index of the manifests that refer to a manifest, as bytes.

        If the upstream has no referrers API, the list under the upstream's referrers tag is
        returned. Raises: ManifestUnknown if the referrers tag is absent too: after an empty index,
        a client would not look for signatures under other tags, and after NameUnknown, it would
        treat the repository as missing.
        """
        if resolved.upstream is None:
            raise NameUnknown(f"there is no repository {resolved.repository}")
        try:
            body = self._listed(resolved, resolved.upstream.upstream, digest)
        except ListTooLong:
            raise
        except Unavailable as error:
            with contextlib.suppress(DatastoreError):
                return self.storage.read(layout.referrers(resolved.repository, digest))
            raise error from None
        if len(body) <= _LARGEST_STORED:
            self._store(resolved, digest, body)
        return body

    def _listed(self, resolved: ResolvedRepository, upstream: Upstream, digest: Digest) -> bytes:
        """Return the upstream's referrers, from the referrers API or else from the referrers tag.

        Raises: ManifestUnknown, Denied, Unavailable.
        """
        try:
            return upstream.referrers(resolved.remote, digest).body
        except (Absent, Denied) as error:
            refusal = error
        tagged = _tagged(resolved, upstream, digest)
        if tagged is not None:
            return tagged
        if isinstance(refusal, Denied):
            raise refusal
        raise ManifestUnknown(f"{resolved.host} lists no referrers, by its API or by tag")

    def _store(self, resolved: ResolvedRepository, digest: Digest, body: bytes) -> None:
        """Store the list of referrers of a linked manifest.

        The cleaner removes the list some time after it has removed that manifest.
        """
        with contextlib.suppress(DatastoreError):  # If the disk is full, the list is not stored.
            if self.store.repositories.links_manifest(resolved.repository, digest):
                self.storage.write(layout.referrers(resolved.repository, digest), body)

    def _stored_tags(
        self, resolved: ResolvedRepository, after: str | None, limit: int | None
    ) -> list[str]:
        names = self.store.repositories.tags_after(resolved.repository, after or "")
        return list(islice(names, limit))


def _tagged(resolved: ResolvedRepository, upstream: Upstream, digest: Digest) -> bytes | None:
    """Return the index under the tag `<algorithm>-<hex>`, or None if there is no such index.

    OCI distribution-spec 1.1, "Referrers Tag Schema". For such a tag, some registries send the
    manifest with the digest *digest*, which is not a list of referrers.
    """
    try:
        found = upstream.manifest(resolved.remote, Tag(f"{digest.algorithm}-{digest.hex[:64]}"))
    except (Absent, Denied):
        return None
    except Unavailable as error:
        if error.why is Why.UNSUPPORTED:
            return None
        raise
    is_list = found.media_type == OCI_INDEX and found.digest != digest
    return found.body if is_list else None
