"""Pushes over plain HTTP the way a client does: blobs, then manifest, every answer looked at."""

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
"""Settings with which a client may delete."""


def uploads_path(name: str) -> str:
    """Return the path at which an upload begins."""
    return f"/v2/{name}/blobs/uploads/"


def begin(door: Door, name: str) -> str:
    """Begin an upload and return where it goes on."""
    begun = door.ask("POST", uploads_path(name))
    assert begun.status == 202, begun
    return begun.headers["location"]


def push_blob(door: Door, name: str, content: bytes) -> Answer:
    """Push a blob by POST and PUT."""
    where = begin(door, name)
    return door.ask("PUT", f"{where}?digest={Digest.of(content)}", body=content)


def put_manifest(door: Door, name: str, reference: object, body: bytes, media_type: str) -> Answer:
    """Push a manifest whose parts are there."""
    headers = {"Content-Type": media_type}
    return door.ask("PUT", manifest_path(name, reference), body=body, headers=headers)


def push(door: Door, name: str, reference: object, image: Image) -> bool:
    """Push an image with all its parts; True when its manifest was answered 201."""
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
    """Return the tags of a repository; none where there is none."""
    answer = door.get(f"/v2/{name}/tags/list")
    return list(json.loads(answer.body)["tags"]) if answer.status == 200 else []


def as_folder(image: Image, folder: Path) -> str:
    """Lay an image out as skopeo's `dir:` has it, and return how skopeo names that."""
    folder.mkdir(parents=True)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(image.manifest)
    for blob in image.blobs:
        (folder / Digest.of(blob).hex).write_bytes(blob)
    return f"dir:{folder}"


def stream(door: Door, method: str, path: str, pieces: Iterable[bytes]) -> Answer:
    """Send a body in chunks of HTTP, without its length."""
    return door.ask(method, path, body=iter(pieces))


def repeated(piece: bytes, times: int) -> Digest:
    """Address a content that is one piece, over and over."""
    hasher = hashlib.sha256()
    for _ in range(times):
        hasher.update(piece)
    return Digest("sha256", hasher.hexdigest())
