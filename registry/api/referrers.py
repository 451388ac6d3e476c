"""What refers to a manifest (OCI distribution-spec 1.1, end-12)."""

from __future__ import annotations

import json

import falcon

from datastore.manifest import OCI_INDEX
from datastore.refs import Digest
from registry.api.door import KIND, Door
from registry.pullthrough.lists import Lists


class ReferrersResource:
    """`/v2/<name>/referrers/<digest>`."""

    def __init__(self, door: Door, lists: Lists) -> None:
        self._door = door
        self._lists = lists

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, digest: str) -> None:
        """Send the index of referrers, filtered by `artifactType`."""
        place = self._door.enter(req, resp, name)
        resp.set_header(KIND, "referrers")
        body = self._lists.referrers(place, Digest.parse(digest))
        resp.content_type = OCI_INDEX
        wanted = req.get_param("artifactType")
        if wanted:
            resp.set_header("OCI-Filters-Applied", "artifactType")
            body = _filtered(body, wanted)
        resp.data = body


def _filtered(body: bytes, artifact_type: str) -> bytes:
    index = json.loads(body)
    index["manifests"] = [
        each for each in index.get("manifests", ()) if each.get("artifactType") == artifact_type
    ]
    return json.dumps(index).encode()
