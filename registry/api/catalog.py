"""The list of repositories: docker distribution's `_catalog`, which the OCI spec does not have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import falcon

from entrepot.datastore.refs import Repository
from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.api.pagination import next_page, page_size
from entrepot.registry.auth.identity import Identity
from entrepot.registry.push.catalog import Catalog

_DEFAULT_LIMIT = 1000
_LARGEST_LIMIT = 10_000


class CatalogResource:
    """`/v2/_catalog`."""

    def __init__(self, authorization: Authorization, catalog: Catalog) -> None:
        self._authorization = authorization
        self._catalog = catalog

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the repositories that the client may pull: hosted ones first, then proxied ones."""
        identity = self._authorization.authorize_registry(req, resp)
        identity.require_access()
        resp.set_header(KIND, "catalog")
        requested = page_size(req)
        limit = _DEFAULT_LIMIT if requested is None else min(requested, _LARGEST_LIMIT)
        found = self._page(identity, req.get_param("last") or "", limit + 1) if limit else []
        resp.media = {"repositories": found[:limit]}
        if len(found) > limit:
            resp.set_header("Link", next_page(req, found[limit - 1]))

    def _page(self, identity: Identity, after: str, limit: int) -> list[str]:
        names = self._catalog.names(after)
        return [str(name) for name in islice(_allowed(identity, names), limit)]


def _allowed(identity: Identity, names: Iterator[Repository]) -> Iterator[Repository]:
    return (name for name in names if identity.may("pull", name))
