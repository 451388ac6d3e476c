"""What a fake upstream holds under one name, and its honest answers."""

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
class Shelf:
    """What one repository name holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def manifest(shelf: Shelf, reference: str) -> Reply:
    """Answer with a manifest by tag or digest."""
    digest = reference if ":" in reference else shelf.tags.get(reference, "")
    if digest not in shelf.manifests:
        return error(404, "MANIFEST_UNKNOWN")
    body, media_type = shelf.manifests[digest]
    return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)


def blob(seen: Seen, content: bytes | None, fault: Fault, digest: str) -> Reply:
    """Answer with a blob, or the range of it that was asked for."""
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


def tags(seen: Seen, shelf: Shelf, page: int | None) -> Reply:
    """List a page of tags, with the Link to the next."""
    last = seen.query.get("last", "")
    behind = sorted(tag for tag in shelf.tags if tag > last)
    bounds = [int(seen.query["n"])] if "n" in seen.query else []
    bound = min(bounds + ([page] if page else []), default=len(behind))
    shown = behind[:bound]
    link = {}
    if len(behind) > bound and shown:
        query = urlencode({"n": bound, "last": shown[-1]})
        link = {"Link": f'<{seen.path}?{query}>; rel="next"'}
    name = seen.path.removeprefix("/v2/").removesuffix("/tags/list")
    return _json({"name": name, "tags": shown}, "application/json", link)


def referrers(seen: Seen, shelf: Shelf, page: int | None) -> Reply:
    """List a page of the manifests that refer to one, with the Link to the next."""
    found = _referring(shelf, seen.path.rpartition("/")[2])
    wanted = seen.query.get("artifactType")
    first = int(seen.query.get("page", 0))
    shown = [each for each in found if wanted in (None, each["artifactType"])]
    stop = first + (page or len(shown))
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    if stop < len(shown):
        query = urlencode(seen.query | {"page": stop})
        headers["Link"] = f'<{seen.path}?{query}>; rel="next"'
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": shown[first:stop]}
    return _json(document, OCI_INDEX, headers)


def _referring(shelf: Shelf, digest: str) -> list[dict[str, Any]]:
    """Describe every manifest of the shelf whose subject is *digest*."""
    found = []
    for body, media_type in shelf.manifests.values():
        document = json.loads(body)
        if (document.get("subject") or {}).get("digest") == digest:
            kind = document.get("artifactType", "")
            found.append(images.descriptor(body, media_type) | {"artifactType": kind})
    return found


def _json(document: object, media_type: str, headers: dict[str, str]) -> Reply:
    return Reply(200, {"Content-Type": media_type, **headers}, json.dumps(document).encode())


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Reply:
    """Answer with the error envelope of the distribution spec."""
    body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, body)
