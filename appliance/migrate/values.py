"""Select the small values that a migration copies, with the time of each.

| values | below this key | the value of a key may change |
|---|---|---|
| media types, origins, lists of referrers | `entrepot/` | yes |
| proofs | `entrepot/proofs/` | no |
| links to blobs and manifests, earlier digests of tags | `repositories/` | no |
| current digests of tags | `repositories/` | yes |

A migration copies neither uploads in progress nor the quarantine nor the state of an appliance
(its claim on a bucket, its index, its logs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from entrepot.datastore import layout
from entrepot.datastore.errors import IndexUnavailable, Malformed
from entrepot.datastore.index import Index
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.storage import Stat, Storage, as_timed, time_of

TREES: Final = (
    layout.TYPES,
    layout.MEDIA_TYPES,
    layout.ORIGINS,
    layout.PROOFS,
    layout.REFERRERS,
    layout.REPOSITORIES,
)
"""A migration copies all values below these keys, except uploads in progress."""

_SINGLE: Final = (layout.FETCHED_LIST, layout.TAKEOVER)
_TAGS: Final = "/_manifests/tags/"
_REVISIONS: Final = "/_manifests/revisions/"
_LAYERS: Final = "/_layers/"
_UPLOADS: Final = "/_uploads/"
_CURRENT: Final = "/current/link"


@dataclass(frozen=True, slots=True)
class Value:
    """A `Value` is a small value of the source.

    `at` is the time of the value in seconds since the UTC epoch, or None if it is unknown.
    """

    key: str
    size: int
    at: float | None

    @property
    def is_fixed(self) -> bool:
        """Return whether the value under `key` never changes."""
        if self.key.startswith(f"{layout.PROOFS}/"):
            return True
        return self.key.startswith(f"{layout.REPOSITORIES}/") and not self.key.endswith(_CURRENT)

    @property
    def is_timed_link(self) -> bool:
        """Return whether the value links a blob, a manifest, or the current manifest of a tag.

        If the link is proxied, its time is the time at which the upstream last confirmed it
        (`datastore/links.py`).
        """
        key = self.key
        if not key.startswith(f"{layout.REPOSITORIES}/") or not key.endswith("/link"):
            return False
        return _LAYERS in key or _REVISIONS in key or (_TAGS in key and key.endswith(_CURRENT))

    @property
    def linked(self) -> tuple[Repository, Digest, bool] | None:
        """Return a link's repository, its digest, and whether the digest is that of a manifest.

        Return None if the value is not a link to a blob or manifest.
        """
        kind = next((each for each in (_REVISIONS, _LAYERS) if each in self.key), None)
        digest = layout.linked_digest(self.key)
        if kind is None or digest is None or not self.key.startswith(f"{layout.REPOSITORIES}/"):
            return None
        name = self.key.removeprefix(f"{layout.REPOSITORIES}/").partition(kind)[0]
        try:
            return Repository.parse(name), digest, kind == _REVISIONS
        except Malformed:
            return None


class ValuesToCopy:
    """A `ValuesToCopy` lists the small values of the source in the order in which to copy them."""

    def __init__(self, storage: Storage, index: Index | None) -> None:
        self._storage = storage
        self._index = None if as_timed(storage) else index

    def all(self) -> Iterator[Value]:
        """Yield each value; links come before tags. Raises: StorageFull, StorageBroken."""
        for tree in TREES:
            yield from self._below(tree, are_tags=False)
        yield from self._below(layout.REPOSITORIES, are_tags=True)
        for key in _SINGLE:
            if (stat := self._storage.stat(key)) is not None:
                yield self._value(stat)

    def _below(self, tree: str, *, are_tags: bool) -> Iterator[Value]:
        for stat in self._storage.walk(tree):
            if _UPLOADS not in stat.key and (_TAGS in stat.key) == are_tags:
                yield self._value(stat)

    def _value(self, stat: Stat) -> Value:
        value = Value(stat.key, stat.size, time_of(stat))
        if self._index is None or not value.is_timed_link:
            return value
        return Value(stat.key, stat.size, _confirmed(self._index, stat.key))


def _confirmed(index: Index, key: str) -> float | None:
    """Return the time of a link's last confirmation from the index; None if the index has none."""
    try:
        found = index.link_times.get(key)
    except IndexUnavailable:
        return None
    return found.at if found else None
