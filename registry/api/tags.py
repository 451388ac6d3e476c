"""Respond with the tags of a repository (OCI distribution-spec 1.1, end-8)."""

from __future__ import annotations

import falcon

from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.api.pagination import next_page, page_size
from entrepot.registry.pullthrough.lists import Lists


class TagsResource:
    """`/v2/<name>/tags/list`."""

    def __init__(self, authorization: Authorization, lists: Lists) -> None:
        self._authorization = authorization
        self._lists = lists

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """List at most `n` tags after `last`, with a Link to the next page."""
        resolved = self._authorization.authorize(req, resp, name)
        resp.set_header(KIND, "tags")
        limit = page_size(req)
        after = req.get_param("last")
        requested = (
            None if limit is None else limit + 1
        )  # one more tag than a page shows whether there is another page
        found = [] if limit == 0 else self._lists.tags(resolved, after, requested)
        resp.media = {"name": name, "tags": found[:limit]}
        if limit and len(found) > limit:
            resp.set_header("Link", next_page(req, found[limit - 1]))
