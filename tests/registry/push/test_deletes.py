"""What is taken back: tags, manifests, blobs (OCI distribution-spec 1.1, end-9 and end-10)."""

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


def test_a_tag_is_deleted_and_what_it_meant_stays(p: Pushing) -> None:
    """202, then 404; other tags of the same manifest stay too."""
    p.image(_MADE, "v1")
    p.image(_MADE, "v2")

    assert p.ask("DELETE", "manifests/v1").status_code == 202

    assert p.ask("GET", "manifests/v1").status_code == 404
    assert p.tags() == ["v2"]
    assert p.ask("GET", f"manifests/{_MADE.digest}").status_code == 200


def test_a_manifest_is_deleted_with_its_tags(p: Pushing) -> None:
    """A GET of any of them is 404; other manifests keep theirs; the content is the sweep's."""
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
    """Deleting it never takes it from another."""
    for name in (NAME, "team/other"):
        p.image(_MADE, name=name)

    assert p.ask("DELETE", f"blobs/{_LAYER}").status_code == 202

    assert p.ask("HEAD", f"blobs/{_LAYER}").status_code == 404
    kept = p.send("GET", f"/v2/team/other/blobs/{_LAYER}")
    assert kept.content == _MADE.layers[0]


def test_what_is_not_there_cannot_be_deleted(p: Pushing) -> None:
    """404, in a repository or in none."""
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


def test_what_was_deleted_may_be_pushed_again(p: Pushing) -> None:
    """And is all there again."""
    p.image(_MADE)
    p.ask("DELETE", f"manifests/{_MADE.digest}")
    p.ask("DELETE", f"blobs/{_LAYER}")

    assert p.manifest(_MADE.manifest, _MADE.media_type, "v1").status_code == 404
    p.image(_MADE)

    assert p.ask("GET", f"blobs/{_LAYER}").content == _MADE.layers[0]


def test_a_manifest_outlives_its_blobs_and_is_deleted_after_them(p: Pushing) -> None:
    """Clients tidy up in either order."""
    p.image(_MADE)
    for blob in _MADE.blobs:
        assert p.ask("DELETE", f"blobs/{Digest.of(blob)}").status_code == 202

    assert p.ask("DELETE", f"manifests/{_MADE.digest}").status_code == 202


@pytest.mark.parametrize("path", ["manifests/v1", f"manifests/{_MADE.digest}", f"blobs/{_LAYER}"])
def test_nothing_is_deleted_unless_the_operator_said_so(tmp_path: Path, path: str) -> None:
    """REGISTRY_STORAGE_DELETE_ENABLED is false by default: 405, whatever is asked for."""
    p = pushing(tmp_path, delete_enabled=False)
    p.image(_MADE)

    refused = p.ask("DELETE", path)

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert "DELETE" not in refused.headers["allow"]
    assert p.ask("GET", path).status_code == 200


def test_a_tag_whose_removal_was_cut_short_is_not_listed(p: Pushing) -> None:
    """What it has meant may still lie there."""
    p.image(_MADE, "v1")
    p.image(_MADE, "v2")
    (p.root / layout.tags(Repository(NAME)) / "v1" / "current" / "link").unlink()

    assert p.tags() == ["v2"]
    assert p.ask("DELETE", "manifests/v1").status_code == 404


def test_a_deleted_index_leaves_its_images(p: Pushing) -> None:
    """They were pushed on their own."""
    p.image(_MADE, _MADE.digest)
    body, media_type = images.index([_MADE])
    p.manifest(body, media_type, "many")

    assert p.ask("DELETE", f"manifests/{Digest.of(body)}").status_code == 202

    assert p.ask("GET", f"manifests/{_MADE.digest}").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_blob_is_not_written_under_its_digest(p: Pushing, method: str) -> None:
    """It comes by an upload; `Allow` says what is done here."""
    refused = p.ask(method, f"blobs/{_LAYER}", b"x")

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert refused.headers["allow"] == "GET, HEAD, DELETE"
