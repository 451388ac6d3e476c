"""The content of one repository of a fake upstream, and its responses without faults."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from entrepot.datastore.manifest import OCI_INDEX
from tests import images
from tests.wire import Fault, Reply, Seen

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(slots=True)
class FakeRepository:
    """The content of one repository: blobs, manifests, and the digest of each tag."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def manifest(repository: FakeRepository, reference: str) -> Reply:
    """Return the response to a request for a manifest by tag or digest."""
    digest = reference if ":" in reference else repository.tags.get(reference, "")
    if digest not in repository.manifests:
        return error(404, "MANIFEST_UNKNOWN")
    body, media_type = repository.manifests[digest]
    return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)


def blob(seen: Seen, content: bytes | None, fault: Fault, digest: str) -> Reply:
    """Return the response to a request for a blob or for a range of it."""
    if content is None:
        return error(404, "BLOB_UNKNOWN")
    headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
    match = _RANGE.fullmatch(seen.headers.get("range", ""))
    if match is None or fault.ignore_range:
        return Reply(200, headers, content)
    start, stop = int(match[1]), min(int(match[2] or len(content)) + 1, len(content))
    if start >= len(content):
        return Reply(416, {"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Reply(206, headers, content[start:stop])


def tags(seen: Seen, repository: FakeRepository, page: int | None) -> Reply:
    """Return the response with one page of tags, and a Link to the next page."""
    last = seen.query.get("last", "")
    later = sorted(tag for tag in repository.tags if tag > last)
    bounds = [int(seen.query["n"])] if "n" in seen.query else []
    bound = min(bounds + ([page] if page else []), default=len(later))
    shown = later[:bound]
    link = {}
    if len(later) > bound and shown:
        query = urlencode({"n": bound, "last": shown[-1]})
        link = {"Link": f'<{seen.path}?{query}>; rel="next"'}
    name = seen.path.removeprefix("/v2/").removesuffix("/tags/list")
    return _json({"name": name, "tags": shown}, "application/json", link)


def referrers(seen: Seen, repository: FakeRepository, page: int | None) -> Reply:
    """Return the response with one page of a manifest's referrers, and a Link to the next page."""
    found = _referring(repository, seen.path.rpartition("/")[2])
    artifact_type = seen.query.get("artifactType")
    first = int(seen.query.get("page", 0))
    shown = [each for each in found if artifact_type in (None, each["artifactType"])]
    stop = first + (page or len(shown))
    headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
    if stop < len(shown):
        query = urlencode(seen.query | {"page": stop})
        headers["Link"] = f'<{seen.path}?{query}>; rel="next"'
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": shown[first:stop]}
    return _json(document, OCI_INDEX, headers)


def _referring(repository: FakeRepository, digest: str) -> list[dict[str, Any]]:
    """Return the descriptors of the manifests whose subject is *digest*."""
    found = []
    for body, media_type in repository.manifests.values():
        document = json.loads(body)
        if (document.get("subject") or {}).get("digest") == digest:
            kind = document.get("artifactType", "")
            found.append(images.descriptor(body, media_type) | {"artifactType": kind})
    return found


def _json(document: object, media_type: str, headers: dict[str, str]) -> Reply:
    return Reply(200, {"Content-Type": media_type, **headers}, json.dumps(document).encode())


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Reply:
    """Return a response with an error body as the OCI distribution specification defines it."""
    body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, body)
