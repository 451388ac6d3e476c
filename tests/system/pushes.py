"""Pushes over plain HTTP as a client does: blobs, then the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from entrepot.datastore.refs import Digest
from tests import images
from tests.images import Family, Image
from tests.system.door import Answer, Door
from tests.system.pulls import manifest_path

ALLOWED = {"storage": {"delete": {"enabled": True}}}
"""Settings that allow clients to delete."""


def uploads_path(name: str) -> str:
    """Return the path for new uploads."""
    return f"/v2/{name}/blobs/uploads/"


def begin(door: Door, name: str) -> str:
    """Begin an upload, and return its location."""
    begun = door.ask("POST", uploads_path(name))
    assert begun.status == 202, begun
    return begun.headers["location"]


def push_blob(door: Door, name: str, content: bytes) -> Answer:
    """Push a blob by POST and PUT."""
    where = begin(door, name)
    return door.ask("PUT", f"{where}?digest={Digest.of(content)}", body=content)


def put_manifest(door: Door, name: str, reference: object, body: bytes, media_type: str) -> Answer:
    """Push a manifest whose parts are stored."""
    headers = {"Content-Type": media_type}
    return door.ask("PUT", manifest_path(name, reference), body=body, headers=headers)


def push(door: Door, name: str, reference: object, image: Image) -> bool:
    """Push an image with all its parts; return True if all of them were accepted."""
    for blob in image.blobs:
        if push_blob(door, name, blob).status != 201:
            return False
    done = put_manifest(door, name, reference, image.manifest, image.media_type)
    return done.status == 201


def push_index(
    door: Door, name: str, tag: str, children: Sequence[Image], family: Family = "oci"
) -> Digest:
    """Push an index with its images."""
    assert all(push(door, name, child.digest, child) for child in children)
    body, media_type = images.index(children, family)
    assert put_manifest(door, name, tag, body, media_type).status == 201
    return Digest.of(body)


def tags(door: Door, name: str) -> list[str]:
    """Return the tags of a repository; [] if it does not exist."""
    answer = door.get(f"/v2/{name}/tags/list")
    return list(json.loads(answer.body)["tags"]) if answer.status == 200 else []


def as_folder(image: Image, folder: Path) -> str:
    """Write an image in the layout of skopeo's `dir:`, and return its name for skopeo."""
    folder.mkdir(parents=True)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(image.manifest)
    for blob in image.blobs:
        (folder / Digest.of(blob).hex).write_bytes(blob)
    return f"dir:{folder}"


def stream(door: Door, method: str, path: str, pieces: Iterable[bytes]) -> Answer:
    """Send a body with chunked transfer coding, without a Content-Length."""
    return door.ask(method, path, body=iter(pieces))


def repeated(piece: bytes, times: int) -> Digest:
    """Return the digest of *piece* repeated *times* times."""
    hasher = hashlib.sha256()
    for _ in range(times):
        hasher.update(piece)
    return Digest("sha256", hasher.hexdigest())
