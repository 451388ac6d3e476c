"""Serve the list of repositories: docker distribution's `_catalog`, absent from the OCI spec."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import falcon

from entrepot.datastore.refs import Repository
from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.api.pagination import next_page, page_size
from entrepot.registry.auth.identity import Identity
from entrepot.registry.errors import InvalidPageSize
from entrepot.registry.push.catalog import Catalog

_DEFAULT_PAGE = 100


class CatalogResource:
    """`/v2/_catalog` lists repositories in pages of at most *most* entries.

    Without the parameter `n`, a page has at most 100 entries.
    """

    def __init__(self, authorization: Authorization, catalog: Catalog, most: int) -> None:
        self._authorization = authorization
        self._catalog = catalog
        self._most = most

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the repositories that the client may pull: hosted ones first, then proxied ones."""
        identity = self._authorization.authorize_registry(req, resp)
        identity.require_access()
        resp.set_header(KIND, "catalog")
        limit = self._page_size(req)
        found = self._page(identity, req.get_param("last") or "", limit + 1) if limit else []
        resp.media = {"repositories": found[:limit]}
        if len(found) > limit:
            resp.set_header("Link", next_page(req, found[limit - 1]))

    def _page_size(self, req: falcon.Request) -> int:
        """Return the number of entries of the requested page.

        Raises: InvalidPageSize.
        """
        requested = page_size(req)
        if requested is None:
            return min(_DEFAULT_PAGE, self._most)
        if requested > self._most:
            message = f"n is {requested}, but a page has at most {self._most} entries"
            raise InvalidPageSize(message)
        return requested

    def _page(self, identity: Identity, after: str, limit: int) -> list[str]:
        names = self._catalog.names(after)
        return [str(name) for name in islice(_allowed(identity, names), limit)]


def _allowed(identity: Identity, names: Iterator[Repository]) -> Iterator[Repository]:
    return (name for name in names if identity.may("pull", name))
