"""Tags and referrers: the upstream's own list, ours when it is away."""

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

_LARGEST_KEPT = 64 * 1024
"""Bytes of a list of referrers that is kept: no room is promised to it."""


@dataclass(frozen=True, slots=True)
class Lists:
    """What a repository lists. Raises, each verb: NameUnknown, Denied, Unavailable."""

    store: ContentStore
    storage: Storage

    def tags(self, resolved: ResolvedRepository, after: str | None, limit: int | None) -> list[str]:
        """List tags behind *after*, at most *limit*, in their order."""
        if resolved.upstream is None:
            if not self.store.repositories.exists(resolved.repository):
                raise NameUnknown(f"no repository {resolved.repository} here")
            return self._own_tags(resolved, after, limit)
        try:
            return resolved.upstream.upstream.tags(resolved.remote, after, limit)
        except Absent as error:
            raise NameUnknown(str(error)) from error
        except ListTooLong:
            raise
        except Unavailable:
            own = self._own_tags(resolved, after, limit)
            if not own and after is None:
                raise
            return own

    def referrers(self, resolved: ResolvedRepository, digest: Digest) -> bytes:
        """Return the index of what refers to a manifest: its bytes.

        An upstream without the referrers API is asked for the tag that stands for it. Raises also:
        ManifestUnknown when that is absent too; an empty index would hide signatures by tag, and
        clients read NameUnknown as a repository that does not exist.
        """
        if resolved.upstream is None:
            raise NameUnknown(f"no repository {resolved.repository} here")
        try:
            body = self._listed(resolved, resolved.upstream.upstream, digest)
        except ListTooLong:
            raise
        except Unavailable as error:
            with contextlib.suppress(DatastoreError):
                return self.storage.read(layout.referrers(resolved.repository, digest))
            raise error from None
        if len(body) <= _LARGEST_KEPT:
            self._keep(resolved, digest, body)
        return body

    def _listed(self, resolved: ResolvedRepository, upstream: Upstream, digest: Digest) -> bytes:
        """Return the upstream's index, by its API or else by tag.

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

    def _keep(self, resolved: ResolvedRepository, digest: Digest, body: bytes) -> None:
        """Keep an answer on a manifest that is here: with it, the cleaner removes it."""
        with contextlib.suppress(DatastoreError):  # a full disk forgoes the copy
            if self.store.repositories.linked_manifest(resolved.repository, digest) is not None:
                self.storage.write(layout.referrers(resolved.repository, digest), body)

    def _own_tags(
        self, resolved: ResolvedRepository, after: str | None, limit: int | None
    ) -> list[str]:
        names = self.store.repositories.tags_after(resolved.repository, after or "")
        return list(islice(names, limit))


def _tagged(resolved: ResolvedRepository, upstream: Upstream, digest: Digest) -> bytes | None:
    """Return the index under the tag `<algorithm>-<hex>`, None where there is none.

    OCI distribution-spec 1.1, "Referrers Tag Schema". Some registries answer with the manifest of
    that digest itself, which is no list of referrers.
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
