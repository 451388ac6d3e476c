"""Serve the tags of a repository (OCI distribution-spec 1.1, end-8)."""

from __future__ import annotations

import falcon

from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.api.pagination import next_page, page_size
from entrepot.registry.pullthrough.lists import Lists


class TagsResource:
    """`/v2/<name>/tags/list` sends all tags, or a page of at most *most* tags if `n` is given."""

    def __init__(self, authorization: Authorization, lists: Lists, most: int) -> None:
        self._authorization = authorization
        self._lists = lists
        self._most = most

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """List at most `n` tags after the tag `last`, with a Link to the next page."""
        resolved = self._authorization.authorize(req, resp, name)
        resp.set_header(KIND, "tags")
        requested = page_size(req)
        limit = None if requested is None else min(requested, self._most)
        after = req.get_param("last")
        # The resource looks for one tag more than `limit`. If that tag exists, the list has another
        # page.
        sought = None if limit is None else limit + 1
        found = [] if limit == 0 else self._lists.tags(resolved, after, sought)
        resp.media = {"name": name, "tags": found[:limit]}
        if limit and len(found) > limit:
            resp.set_header("Link", next_page(req, found[limit - 1]))
