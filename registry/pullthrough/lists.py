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

    shelf: ContentStore
    storage: Storage

    def tags(self, place: ResolvedRepository, after: str | None, limit: int | None) -> list[str]:
        """List tags behind *after*, at most *limit*, in their order."""
        if place.upstream is None:
            if not self.shelf.repositories.exists(place.repository):
                raise NameUnknown(f"no repository {place.repository} here")
            return self._own_tags(place, after, limit)
        try:
            return place.upstream.upstream.tags(place.remote, after, limit)
        except Absent as error:
            raise NameUnknown(str(error)) from error
        except ListTooLong:
            raise
        except Unavailable:
            own = self._own_tags(place, after, limit)
            if not own and after is None:
                raise
            return own

    def referrers(self, place: ResolvedRepository, digest: Digest) -> bytes:
        """Return the index of what refers to a manifest: its bytes.

        An upstream without the referrers API is asked for the tag that stands for it. Raises also:
        ManifestUnknown when that is absent too; an empty index would hide signatures by tag, and
        clients read NameUnknown as a repository that does not exist.
        """
        if place.upstream is None:
            raise NameUnknown(f"no repository {place.repository} here")
        try:
            body = self._listed(place, place.upstream.upstream, digest)
        except ListTooLong:
            raise
        except Unavailable as error:
            with contextlib.suppress(DatastoreError):
                return self.storage.read(layout.referrers(place.repository, digest))
            raise error from None
        if len(body) <= _LARGEST_KEPT:
            self._keep(place, digest, body)
        return body

    def _listed(self, place: ResolvedRepository, upstream: Upstream, digest: Digest) -> bytes:
        """Return the upstream's index, by its API or else by tag.

        Raises: ManifestUnknown, Denied, Unavailable.
        """
        try:
            return upstream.referrers(place.remote, digest).body
        except (Absent, Denied) as error:
            refusal = error
        tagged = _tagged(place, upstream, digest)
        if tagged is not None:
            return tagged
        if isinstance(refusal, Denied):
            raise refusal
        raise ManifestUnknown(f"{place.host} lists no referrers, by its API or by tag")

    def _keep(self, place: ResolvedRepository, digest: Digest, body: bytes) -> None:
        """Keep an answer on a manifest that is here: with it, the cleaner removes it."""
        with contextlib.suppress(DatastoreError):  # a full disk forgoes the copy
            if self.shelf.repositories.linked_manifest(place.repository, digest) is not None:
                self.storage.write(layout.referrers(place.repository, digest), body)

    def _own_tags(
        self, place: ResolvedRepository, after: str | None, limit: int | None
    ) -> list[str]:
        names = self.shelf.repositories.tags_after(place.repository, after or "")
        return list(islice(names, limit))


def _tagged(place: ResolvedRepository, upstream: Upstream, digest: Digest) -> bytes | None:
    """Return the index under the tag `<algorithm>-<hex>`, None where there is none.

    OCI distribution-spec 1.1, "Referrers Tag Schema". Some registries answer with the manifest of
    that digest itself, which is no list of referrers.
    """
    try:
        found = upstream.manifest(place.remote, Tag(f"{digest.algorithm}-{digest.hex[:64]}"))
    except (Absent, Denied):
        return None
    except Unavailable as error:
        if error.why is Why.UNSUPPORTED:
            return None
        raise
    is_list = found.media_type == OCI_INDEX and found.digest != digest
    return found.body if is_list else None
