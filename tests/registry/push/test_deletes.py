"""Clients delete tags, manifests and blobs (OCI distribution-spec 1.1, end-9 and end-10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository
from tests import images
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, code, pushing

_MADE = image([filler(1000, 1)])
_LAYER = Digest.of(_MADE.layers[0])


def test_a_tag_is_deleted_and_its_manifest_stays(p: Pushing) -> None:
    """DELETE of a tag returns 202 and removes only that tag.

    The manifest and its other tags remain.
    """
    p.image(_MADE, "v1")
    p.image(_MADE, "v2")

    assert p.ask("DELETE", "manifests/v1").status_code == 202

    assert p.ask("GET", "manifests/v1").status_code == 404
    assert p.tags() == ["v2"]
    assert p.ask("GET", f"manifests/{_MADE.digest}").status_code == 200


def test_a_manifest_is_deleted_with_its_tags(p: Pushing) -> None:
    """DELETE of a manifest also removes its tags, so a GET of any of these tags gets 404.

    Other manifests keep their tags. The manifest's bytes remain stored until the cleaner deletes
    them.
    """
    other = image([filler(1000, 2)])
    for tag in ("v1", "v2"):
        p.image(_MADE, tag)
    p.image(other, "v3")

    assert p.ask("DELETE", f"manifests/{_MADE.digest}").status_code == 202

    for reference in ("v1", "v2", _MADE.digest):
        assert p.ask("GET", f"manifests/{reference}").status_code == 404
    assert p.tags() == ["v3"]
    assert p.content(_MADE.digest) == _MADE.manifest


def test_a_blob_is_deleted_from_one_repository_only(p: Pushing) -> None:
    """DELETE of a blob removes its link from one repository; other repositories still serve it."""
    for name in (NAME, "team/other"):
        p.image(_MADE, name=name)

    assert p.ask("DELETE", f"blobs/{_LAYER}").status_code == 202

    assert p.ask("HEAD", f"blobs/{_LAYER}").status_code == 404
    kept = p.send("GET", f"/v2/team/other/blobs/{_LAYER}")
    assert kept.content == _MADE.layers[0]


def test_deleting_missing_content_is_404(p: Pushing) -> None:
    """DELETE of a tag, manifest or blob that does not exist gets 404."""
    p.image(_MADE)
    absent = Digest.of(b"absent")

    for name in (NAME, "team/none"):
        for path, expected in [
            ("manifests/v9", "MANIFEST_UNKNOWN"),
            (f"manifests/{absent}", "MANIFEST_UNKNOWN"),
            (f"blobs/{absent}", "BLOB_UNKNOWN"),
        ]:
            refused = p.send("DELETE", f"/v2/{name}/{path}")
            assert (refused.status_code, code(refused)) == (404, expected)


def test_deleted_content_can_be_pushed_again(p: Pushing) -> None:
    """After a DELETE of a manifest and a blob, a client can push and pull the image again."""
    p.image(_MADE)
    p.ask("DELETE", f"manifests/{_MADE.digest}")
    p.ask("DELETE", f"blobs/{_LAYER}")

    assert p.manifest(_MADE.manifest, _MADE.media_type, "v1").status_code == 404
    p.image(_MADE)

    assert p.ask("GET", f"blobs/{_LAYER}").content == _MADE.layers[0]


def test_a_manifest_can_be_deleted_after_its_blobs(p: Pushing) -> None:
    """A manifest can be deleted even if its blobs were deleted first.

    Clients delete manifests and blobs in either order.
    """
    p.image(_MADE)
    for blob in _MADE.blobs:
        assert p.ask("DELETE", f"blobs/{Digest.of(blob)}").status_code == 202

    assert p.ask("DELETE", f"manifests/{_MADE.digest}").status_code == 202


@pytest.mark.parametrize("path", ["manifests/v1", f"manifests/{_MADE.digest}", f"blobs/{_LAYER}"])
def test_deletes_are_405_unless_enabled(tmp_path: Path, path: str) -> None:
    """With REGISTRY_STORAGE_DELETE_ENABLED=false (the default), a DELETE of content gets 405."""
    p = pushing(tmp_path, delete_enabled=False)
    p.image(_MADE)

    refused = p.ask("DELETE", path)

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert "DELETE" not in refused.headers["allow"]
    assert p.ask("GET", path).status_code == 200


def test_a_partly_removed_tag_is_not_listed(p: Pushing) -> None:
    """If the link file of a tag is missing, the tag is not listed and a DELETE of it gets 404."""
    p.image(_MADE, "v1")
    p.image(_MADE, "v2")
    (p.root / layout.tags(Repository(NAME)) / "v1" / "current" / "link").unlink()

    assert p.tags() == ["v2"]
    assert p.ask("DELETE", "manifests/v1").status_code == 404


def test_a_deleted_index_keeps_its_images(p: Pushing) -> None:
    """After a DELETE of an OCI index, the images that it lists can still be pulled."""
    p.image(_MADE, _MADE.digest)
    body, media_type = images.index([_MADE])
    p.manifest(body, media_type, "many")

    assert p.ask("DELETE", f"manifests/{Digest.of(body)}").status_code == 202

    assert p.ask("GET", f"manifests/{_MADE.digest}").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_put_to_a_blob_is_405(p: Pushing, method: str) -> None:
    """PUT, POST and PATCH of a blob get 405, and `Allow` lists the permitted methods."""
    refused = p.ask(method, f"blobs/{_LAYER}", b"x")

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert refused.headers["allow"] == "GET, HEAD, DELETE"
