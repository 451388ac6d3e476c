"""Pushes over plain HTTP: the blobs first, then the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from entrepot.datastore.refs import Digest
from tests import images
from tests.images import Family, Image
from tests.system.http_client import HttpClient, Response
from tests.system.pulls import manifest_path
from tests.system.waiting import eventually

ALLOWED = {"storage": {"delete": {"enabled": True}}}
"""With these settings clients may delete content."""


def uploads_path(name: str) -> str:
    """Return the path at which an upload to *name* begins."""
    return f"/v2/{name}/blobs/uploads/"


def begin(http: HttpClient, name: str) -> str:
    """Begin an upload of a blob, and return the upload's location."""
    begun = http.request("POST", uploads_path(name))
    assert begun.status == 202, begun
    return begun.headers["location"]


def push_blob(http: HttpClient, name: str, content: bytes) -> Response:
    """Push *content* as a blob with a POST and a PUT, and return the response to the PUT."""
    where = begin(http, name)
    return http.request("PUT", f"{where}?digest={Digest.of(content)}", body=content)


def put_manifest(
    http: HttpClient, name: str, reference: object, body: bytes, media_type: str
) -> Response:
    """Push a manifest whose parts the registry already has, and return the response."""
    headers = {"Content-Type": media_type}
    return http.request("PUT", manifest_path(name, reference), body=body, headers=headers)


def push(http: HttpClient, name: str, reference: object, image: Image) -> bool:
    """Push an image with all its parts; return True if all of them were accepted."""
    for blob in image.blobs:
        if push_blob(http, name, blob).status != 201:
            return False
    done = put_manifest(http, name, reference, image.manifest, image.media_type)
    return done.status == 201


def push_soon(http: HttpClient, name: str, reference: object, image: Image) -> None:
    """Push an image; repeat the push while the registry has no space or its storage fails.

    Docker, podman and containerd repeat a request that gets 503.
    """
    what = f"the push of {name}:{reference}"
    eventually(lambda: push(http, name, reference, image), what=what, within=30)


def push_index(
    http: HttpClient, name: str, tag: str, children: Sequence[Image], family: Family = "oci"
) -> Digest:
    """Push the images of an index and then the index, and return the index's digest."""
    assert all(push(http, name, child.digest, child) for child in children)
    body, media_type = images.index(children, family)
    assert put_manifest(http, name, tag, body, media_type).status == 201
    return Digest.of(body)


def tags(http: HttpClient, name: str) -> list[str]:
    """Return the tags of a repository; [] if it does not exist."""
    response = http.get(f"/v2/{name}/tags/list")
    return list(json.loads(response.body)["tags"]) if response.status == 200 else []


def as_folder(image: Image, folder: Path) -> str:
    """Write an image in the layout of skopeo's `dir:`, and return skopeo's name for it."""
    folder.mkdir(parents=True)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(image.manifest)
    for blob in image.blobs:
        (folder / Digest.of(blob).hex).write_bytes(blob)
    return f"dir:{folder}"


def stream(http: HttpClient, method: str, path: str, pieces: Iterable[bytes]) -> Response:
    """Send a request whose body comes in chunks, without a Content-Length."""
    return http.request(method, path, body=iter(pieces))


def repeated(piece: bytes, times: int) -> Digest:
    """Return the digest of *piece* repeated *times* times."""
    hasher = hashlib.sha256()
    for _ in range(times):
        hasher.update(piece)
    return Digest("sha256", hasher.hexdigest())
