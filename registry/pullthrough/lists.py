"""Tags and referrers: the upstream's own list, ours when it is away."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice

from datastore import layout
from datastore.errors import DatastoreError
from datastore.refs import Digest
from datastore.storage import Storage
from registry.errors import Absent, ListTooLong, NameUnknown, Unavailable
from registry.routing import Place
from registry.shelf import Shelf

_LARGEST_KEPT = 64 * 1024
"""Bytes of a list of referrers that is kept: no room is promised to it."""


@dataclass(frozen=True, slots=True)
class Lists:
    """What a repository lists. Raises, each verb: NameUnknown, Denied, Unavailable."""

    shelf: Shelf
    storage: Storage

    def tags(self, place: Place, after: str | None, limit: int | None) -> list[str]:
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

    def referrers(self, place: Place, digest: Digest) -> bytes:
        """Return the index of what refers to a manifest: its bytes.

        Raises: Absent where the upstream has no such API: its clients then look for tags.
        """
        if place.upstream is None:
            raise NameUnknown(f"no repository {place.repository} here")
        try:
            body = place.upstream.upstream.referrers(place.remote, digest).body
        except ListTooLong:
            raise
        except Unavailable as error:
            with contextlib.suppress(DatastoreError):
                return self.storage.read(layout.referrers(place.repository, digest))
            raise error from None
        if len(body) <= _LARGEST_KEPT:
            self._keep(place, digest, body)
        return body

    def _keep(self, place: Place, digest: Digest, body: bytes) -> None:
        """Keep an answer on a manifest that is here: with it, the cleaner removes it."""
        with contextlib.suppress(DatastoreError):  # a full disk forgoes the copy
            if self.shelf.repositories.linked_manifest(place.repository, digest) is not None:
                self.storage.write(layout.referrers(place.repository, digest), body)

    def _own_tags(self, place: Place, after: str | None, limit: int | None) -> list[str]:
        names = self.shelf.repositories.tags_after(place.repository, after or "")
        return list(islice(names, limit))
