"""The tags of a repository (OCI distribution-spec 1.1, end-8)."""

from __future__ import annotations

from urllib.parse import urlencode

import falcon

from registry.api.door import KIND, Door
from registry.errors import MalformedRequest
from registry.pullthrough.lists import Lists


class TagsResource:
    """`/v2/<name>/tags/list`."""

    def __init__(self, door: Door, lists: Lists) -> None:
        self._door = door
        self._lists = lists

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """List tags: `n` of them at most, behind `last`, with a Link to the next page."""
        place = self._door.enter(req, resp, name)
        resp.set_header(KIND, "tags")
        limit = page_size(req)
        found = [] if limit == 0 else self._lists.tags(place, req.get_param("last"), limit)
        resp.media = {"name": name, "tags": found}
        if limit and len(found) >= limit:
            resp.set_header("Link", next_page(req, found[limit - 1]))


def page_size(req: falcon.Request) -> int | None:
    """Read `n`. Raises: MalformedRequest when it is no count."""
    text = req.get_param("n")
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):  # noqa: PLR2004
        raise MalformedRequest(f"n is not a count: {text[:32]!r}")
    return int(text)


def next_page(req: falcon.Request, last: str) -> str:
    """Return the Link (RFC 8288) to what follows *last*."""
    query = {"n": req.get_param("n") or "", "last": last}
    if ns := req.get_param("ns"):
        query["ns"] = ns
    return f'<{req.path}?{urlencode(query)}>; rel="next"'
