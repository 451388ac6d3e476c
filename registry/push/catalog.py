"""List hosted repositories first, then proxied repositories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from entrepot.datastore import catalog, layout
from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage
from entrepot.registry.routing.resolve import Upstreams


@dataclass(frozen=True, slots=True)
class Catalog:
    """A `Catalog` lists all repositories from which clients can pull."""

    storage: Storage
    repositories: Repositories
    upstreams: Upstreams

    def names(self, after: str) -> Iterator[Repository]:
        """Yield the repository names after *after*, first the hosted, then the proxied ones.

        The catalog omits repositories that were mirrored from an upstream that is no longer
        configured, because no request can reach them.
        """
        proxied = sorted(f"{first}/" for first in self._origins() if self.upstreams.find(first))
        if not after.startswith(tuple(proxied)):
            yield from self._hosted(after, proxied)
            after = ""
        for first in proxied:
            yield from self._cached(first.removesuffix("/"), after)

    def _origins(self) -> Iterator[str]:
        """Yield the first component of the name of each repository that was ever proxied."""
        return self.storage.list(layout.ORIGINS)

    def _hosted(self, after: str, proxied: list[str]) -> Iterator[Repository]:
        found = catalog.names(self.storage, after, without=proxied)
        return (name for name in found if not self.repositories.origin(name))

    def _cached(self, first: str, after: str) -> Iterator[Repository]:
        found = catalog.names_below(self.storage, first, after)
        return (name for name in found if self.repositories.origin(name))
