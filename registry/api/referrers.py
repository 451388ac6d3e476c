"""Serve referrers: manifests whose `subject` is a given manifest (OCI spec 1.1, end-12)."""

from __future__ import annotations

import json

import falcon

from entrepot.datastore.manifest import OCI_INDEX
from entrepot.datastore.refs import Digest
from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.api.pagination import next_page, page_size
from entrepot.registry.pullthrough.lists import Lists
from entrepot.registry.push.referrers import Referrers, parse_after
from entrepot.registry.routing.resolve import ResolvedRepository


class ReferrersResource:
    """`/v2/<name>/referrers/<digest>` sends the referrers of a manifest."""

    def __init__(self, authorization: Authorization, lists: Lists, pushed: Referrers) -> None:
        self._authorization = authorization
        self._lists = lists
        self._pushed = pushed

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, digest: str) -> None:
        """Send the index of referrers, filtered by `artifactType` if the client requests it."""
        resolved = self._authorization.authorize(req, resp, name)
        resp.set_header(KIND, "referrers")
        # A media type contains no blank. A blank here means that the client sent a plus sign
        # without escaping it.
        artifact_type = (req.get_param("artifactType") or "").replace(" ", "+") or None
        subject = Digest.parse(digest)
        if resolved.upstream:
            body = self._lists.referrers(resolved, subject)
            resp.data = _filtered(body, artifact_type) if artifact_type else body
        else:
            resp.data = self._page(req, resp, resolved, subject, artifact_type)
        resp.content_type = OCI_INDEX
        if artifact_type:
            resp.set_header("OCI-Filters-Applied", "artifactType")

    def _page(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resolved: ResolvedRepository,
        subject: Digest,
        artifact_type: str | None,
    ) -> bytes:
        """Return a page of the referrers pushed to this appliance; set the Link header."""
        page = self._pushed.page(
            resolved.repository,
            subject,
            artifact_type=artifact_type,
            after=parse_after(req.get_param("last")),
            limit=page_size(req) or None,
        )
        if page.last:
            resp.set_header("Link", next_page(req, str(page.last), "artifactType"))
        return page.body


def _filtered(body: bytes, artifact_type: str) -> bytes:
    index = json.loads(body)
    index["manifests"] = [
        each for each in index.get("manifests", ()) if each.get("artifactType") == artifact_type
    ]
    return json.dumps(index).encode()
