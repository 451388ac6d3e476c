"""GET and HEAD of a manifest (OCI distribution-spec 1.1, end-3)."""

from __future__ import annotations

import falcon

from datastore.index import Kind
from datastore.refs import parse_reference
from registry.answers import ManifestAnswer, Source
from registry.api.cache_status import HIT, Forward, forwarded, hit
from registry.api.door import KIND, Door
from registry.api.etags import etag, none_match, not_modified
from registry.pullthrough.manifests import Manifests

_CACHE_STATUS = {
    Source.HIT: HIT,
    Source.CONFIRMED: forwarded(Forward.STALE, status=304),
    Source.MISS: forwarded(Forward.URI_MISS, stored=True),
    Source.COLLAPSED: forwarded(Forward.URI_MISS, stored=True, collapsed=True),
}


class ManifestResource:
    """`/v2/<name>/manifests/<reference>`."""

    def __init__(self, door: Door, manifests: Manifests) -> None:
        self._door = door
        self._manifests = manifests

    def on_head(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> None:
        """Describe a manifest."""
        answer = self._answer(req, resp, name, reference)
        if answer:
            resp.content_length = len(answer.held.body)

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, reference: str) -> None:
        """Send a manifest, byte for byte."""
        answer = self._answer(req, resp, name, reference)
        if answer:
            resp.data = answer.held.body

    def _answer(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> ManifestAnswer | None:
        """Find a manifest and describe it; None when the client has it already."""
        place = self._door.enter(req, resp, name)
        resp.set_header(KIND, "manifest")
        answer = self._manifests.get(place, parse_reference(reference))
        _describe(resp, answer)
        if none_match(req.get_header("If-None-Match"), answer.held.digest):
            return answer
        not_modified(resp)
        return None


def _describe(resp: falcon.Response, answer: ManifestAnswer) -> None:
    resp.content_type = answer.held.media_type
    resp.set_headers(
        (
            (KIND, "index" if answer.held.manifest.kind is Kind.INDEX else "manifest"),
            ("Docker-Content-Digest", str(answer.held.digest)),
            ("ETag", etag(answer.held.digest)),
            ("Cache-Status", _cache_status(answer)),
        )
    )
    if answer.age is not None:
        resp.set_header("Age", str(int(answer.age)))
    if answer.warning is not None:  # OCI distribution-spec 1.1, "Warnings"
        resp.set_header("Warning", f'299 - "{answer.warning}"')


def _cache_status(answer: ManifestAnswer) -> str:
    if answer.source is Source.STALE:
        return hit(ttl=-1, detail=answer.reason)
    return _CACHE_STATUS[answer.source]
