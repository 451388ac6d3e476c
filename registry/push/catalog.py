"""The repositories that are here: those that were pushed, then those that were pulled through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from datastore import catalog
from datastore.refs import Repository
from datastore.repositories import Repositories
from datastore.storage import Storage
from registry.routing import Upstreams


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every repository that a name leads to."""

    storage: Storage
    repositories: Repositories
    upstreams: Upstreams

    def names(self, after: str) -> Iterator[Repository]:
        """Yield them from *after* on; each kind in the order of its names.

        What came from an upstream that is none any more is left out: it is served to nobody.
        """
        if not self._is_proxied(after):
            yield from self._hosted(after)
            after = ""
        yield from self._cached(after)

    def _hosted(self, after: str) -> Iterator[Repository]:
        found = catalog.names(self.storage, after, enters=lambda first: not self._is_proxied(first))
        return (name for name in found if self.repositories.origin(name) is None)

    def _cached(self, after: str) -> Iterator[Repository]:
        found = catalog.names(self.storage, after, enters=self._is_proxied)
        return (name for name in found if self.repositories.origin(name) is not None)

    def _is_proxied(self, name: str) -> bool:
        """Whether a name, or its first component with a slash, leads to an upstream."""
        head, slash, _ = name.partition("/")
        return bool(slash) and self.upstreams.find(head) is not None
