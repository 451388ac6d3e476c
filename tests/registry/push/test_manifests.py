"""Clients push manifests by tag, by digest, and with `tag` parameters (OCI spec 1.1, end-7)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrepot.datastore.content import StoredManifest
from entrepot.datastore.manifest import OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest, Repository
from entrepot.registry.push.manifests import ManifestPushes
from tests import images
from tests.images import Family, Image, filler, image
from tests.registry.push.pushing import NAME, Pushing, code, document, pushing

_FAMILIES = pytest.mark.parametrize("family", ["oci", "docker"])
_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def _image(seed: int = 1, family: Family = "oci") -> Image:
    return image([filler(1000, seed)], family)


def _in_sha512(made: Image) -> Image:
    """Return an image whose manifest refers to its parts by sha512 digests."""

    def named(content: bytes, said: dict[str, Any]) -> dict[str, Any]:
        return said | {"digest": str(Digest.of(content, "sha512"))}

    fields = json.loads(made.manifest)
    fields["config"] = named(made.config, fields["config"])
    fields["layers"] = [named(*each) for each in zip(made.layers, fields["layers"], strict=True)]
    body = json.dumps(fields).encode()
    return Image(body, made.media_type, made.config, made.layers, made.architecture)


# ---- tests of pushes by tag and by digest


@_FAMILIES
def test_an_image_is_pushed_by_tag(p: Pushing, family: Family) -> None:
    """A push of an image by tag gets 201 with the Location and the digest of its manifest.

    A pull of the tag or the digest returns the manifest byte for byte.
    """
    made = _image(family=family)
    for blob in made.blobs:
        p.blob(blob)

    done = p.manifest(made.manifest, made.media_type, "v1")

    assert done.status_code == 201
    assert done.headers["location"] == f"/v2/{NAME}/manifests/{made.digest}"
    assert done.headers["docker-content-digest"] == str(made.digest)
    for reference in ("v1", made.digest):
        got = p.ask("GET", f"manifests/{reference}")
        assert got.content == made.manifest
        assert got.headers["content-type"] == made.media_type
        assert got.headers["docker-content-digest"] == str(made.digest)


@_FAMILIES
def test_media_types_are_case_insensitive(p: Pushing, family: Family) -> None:
    """The case of media types is ignored, in headers and in manifests (RFC 9110, 8.3.1).

    The header Content-Type can also have parameters.
    """
    made = _image(family=family)
    body = made.manifest.replace(made.media_type.encode(), made.media_type.upper().encode())
    for blob in made.blobs:
        p.blob(blob)

    for said in (made.media_type.upper(), f" {made.media_type.title()} ; charset=UTF-8"):
        assert p.manifest(body, said, "v1").status_code == 201
        got = p.ask("GET", "manifests/v1")
        assert (made.media_type, body) == (got.headers["content-type"], got.content)


def test_a_missing_child_is_reported_whatever_the_case_of_its_type(p: Pushing) -> None:
    """If an OCI index lists a manifest that is not stored, a push of the index gets 404.

    This holds even if the manifest's media type is in upper case.
    """
    child = _image()
    for blob in (*child.blobs, child.manifest):
        p.blob(blob)
    body, media_type = images.index([child])
    body = body.replace(child.media_type.encode(), child.media_type.upper().encode())

    assert p.manifest(body, media_type, "many").status_code == 404


def test_an_image_pushed_by_digest_has_no_tag(p: Pushing) -> None:
    """If a client pushes an image by digest, the image gets no tag."""
    made = _image()

    p.image(made, made.digest)

    assert p.ask("GET", f"manifests/{made.digest}").content == made.manifest
    assert p.tags() == []


def test_an_image_can_be_pushed_by_sha512(p: Pushing) -> None:
    """A client can push an image by its sha512 digest.

    The manifest is stored under that digest, and its tags refer to that digest.
    """
    made = _in_sha512(_image())
    for blob in made.blobs:
        p.blob(blob, algorithm="sha512")
    digest = Digest.of(made.manifest, "sha512")

    done = p.manifest(made.manifest, made.media_type, f"{digest}?tag=v5")

    assert done.status_code == 201
    assert done.headers["docker-content-digest"] == str(digest)
    for reference in (digest, "v5"):
        got = p.ask("GET", f"manifests/{reference}")
        assert got.content == made.manifest
        assert got.headers["docker-content-digest"] == str(digest)


def test_tag_parameters_set_tags_of_a_push_by_digest(p: Pushing) -> None:
    """A push by digest sets the tags in its `tag` parameters; OCI-Tag in the response lists them.

    The next version of the OCI spec permits several `tag` parameters.
    """
    made = _image()
    p.image(made, made.digest)
    tags = [f"v{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in [*tags, "v0"])

    done = p.manifest(made.manifest, made.media_type, f"{made.digest}?{query}")

    assert done.status_code == 201
    assert done.headers["oci-tag"].split(", ") == tags
    assert p.tags() == sorted(tags)


def test_tag_parameters_are_ignored_in_a_push_by_tag(p: Pushing) -> None:
    """A push by tag ignores `tag` parameters, which the OCI spec defines only for digests."""
    made = _image()
    p.image(made, "v1?tag=v2")

    assert p.tags() == ["v1"]


def test_a_moved_tag_is_seen_at_once(p: Pushing) -> None:
    """After a push has moved a tag, every worker serves the new manifest at once.

    The previous manifest can still be pulled by digest.
    """
    first, second = _image(1), _image(2)
    p.image(first)
    p.image(second)

    seen = pushing(p.root, index=p.index).ask("GET", "manifests/v1")

    assert seen.headers["docker-content-digest"] == str(second.digest)
    assert p.ask("GET", f"manifests/{first.digest}").status_code == 200


def test_a_manifest_can_be_pushed_repeatedly(p: Pushing) -> None:
    """A client can push the same manifest several times, under one tag or several."""
    made = _image()
    for tag in ("v1", "v1", "v2"):
        p.image(made, tag)

    assert p.tags() == ["v1", "v2"]
    assert p.index.count() == 3


@pytest.mark.parametrize("tag", [".v1", "v 1", "v" * 129, "v%2B1"])
def test_an_invalid_tag_is_400(p: Pushing, tag: str) -> None:
    """A push with an invalid tag, as the reference or as a `tag` parameter, gets 400."""
    made = _image()
    p.image(made, made.digest)

    assert p.manifest(made.manifest, made.media_type, tag).status_code == 400
    beside = p.manifest(made.manifest, made.media_type, f"{made.digest}?tag={tag}")
    assert beside.status_code == 400
    assert p.tags() == []


# ---- indexes


@_FAMILIES
def test_an_index_is_pushed_after_its_images(p: Pushing, family: Family) -> None:
    """A client can push an OCI index after its images, and then another index that lists it."""
    children = [_image(1, family), _image(2, family)]
    for child in children:
        p.image(child, child.digest)
    body, media_type = images.index(children, family)

    done = p.manifest(body, media_type, "many")

    assert done.status_code == 201
    assert done.headers["x-entrepot-kind"] == "index"
    assert p.ask("GET", "manifests/many").content == body
    nested = {"manifests": [images.descriptor(body, media_type)]}
    outer = json.dumps({"schemaVersion": 2, "mediaType": media_type, **nested}).encode()
    assert p.manifest(outer, media_type, "outer").status_code == 201


def test_an_empty_index_can_be_pushed(p: Pushing) -> None:
    """A client can push an OCI index without images, to which tools add images later."""
    body, media_type = images.index([])

    assert p.manifest(body, media_type, "none").status_code == 201


def test_an_index_may_list_manifests_of_its_repository_only(p: Pushing) -> None:
    """A push of an OCI index gets 404 if it lists a manifest that only another repository has."""
    child = _image()
    p.image(child, child.digest, name="team/other")
    body, media_type = images.index([child])

    refused = p.manifest(body, media_type, "many")

    assert (refused.status_code, code(refused)) == (404, "MANIFEST_BLOB_UNKNOWN")


def test_an_index_may_list_blobs(p: Pushing) -> None:
    """An OCI index may list blobs, as the indexes of BuildKit's caches do.

    A manifest that was pushed as a blob does not satisfy an index that lists it as a manifest.
    """
    layer, child = filler(500, 3), _image()
    p.blob(layer)
    p.blob(child.manifest)
    cache = {"manifests": [images.descriptor(layer, "application/vnd.oci.image.layer.v1.tar")]}
    body = document(images.index([])[0], **cache)

    assert p.manifest(body, OCI_INDEX, "cache").status_code == 201
    listed, media_type = images.index([child])
    assert p.manifest(listed, media_type, "many").status_code == 404


# ---- other manifests


def test_an_artifact_with_the_empty_config_can_be_pushed(p: Pushing) -> None:
    """A client can push an artifact with the empty config, as oras does, even without layers."""
    made = _image()
    artifact = images.artifact(made, b"a signature", "application/vnd.example.signature")
    bare = document(artifact.manifest, layers=[])

    p.image(artifact, "signature")

    assert p.ask("GET", "manifests/signature").content == artifact.manifest
    assert p.manifest(bare, OCI_MANIFEST, "bare").status_code == 201
    assert p.manifest(document(bare, layers=None), OCI_MANIFEST, "barer").status_code == 201


@pytest.mark.parametrize(
    "elsewhere",
    [{"mediaType": _FOREIGN}, {"urls": ["https://elsewhere.test/layer"]}],
    ids=["by its type", "by its urls"],
)
def test_foreign_layers_need_not_be_stored(p: Pushing, elsewhere: dict[str, object]) -> None:
    """An image can be pushed without its foreign layers, such as the base layers of Windows.

    The licences of these layers forbid distribution.
    """
    made = _image()
    layer = images.descriptor(b"not ours to give", "application/vnd.oci.image.layer.v1.tar")
    p.blob(made.config)

    body = document(made.manifest, layers=[layer | elsewhere])

    assert p.manifest(body, OCI_MANIFEST, "v1").status_code == 201


def test_unknown_fields_and_inline_data_are_kept(p: Pushing) -> None:
    """A manifest with unknown fields and inline data is stored and served byte for byte."""
    made = _image()
    for blob in made.blobs:
        p.blob(blob)
    config = json.loads(made.manifest)["config"] | {"data": "e30=", "newField": [1]}
    body = document(made.manifest, config=config, **{"org.example": {"more": None}})

    assert p.manifest(body, OCI_MANIFEST, "v1").status_code == 201
    assert p.ask("GET", "manifests/v1").content == body


def test_the_media_type_may_be_in_the_header_only(p: Pushing) -> None:
    """If a manifest has no field `mediaType`, the media type in the Content-Type header is used.

    The field is optional since OCI 1.0. Parameters in Content-Type are ignored.
    """
    made = _image()
    for blob in made.blobs:
        p.blob(blob)
    body = document(made.manifest, mediaType=None)

    done = p.manifest(body, f"{OCI_MANIFEST}; charset=utf-8", "v1")

    assert done.status_code == 201
    assert p.ask("GET", "manifests/v1").headers["content-type"] == OCI_MANIFEST


# ---- tests of pushes with concurrent deletions


@pytest.mark.parametrize("what", ["blob", "child"])
def test_a_part_that_is_unlinked_during_the_push_is_reported(
    p: Pushing, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """If a client deletes a part of a manifest while the manifest is pushed, the push gets 404."""
    child = _image()
    p.image(child, child.digest)
    body, media_type = images.index([child])
    if what == "blob":
        body, media_type = document(child.manifest, annotations={"a": "b"}), child.media_type
    store = ManifestPushes._store

    def unlinked(self: ManifestPushes, held: StoredManifest) -> None:
        store(self, held)
        if what == "blob":
            self.store.repositories.unlink_blob(Repository(NAME), Digest.of(child.layers[0]))
        else:
            self.store.repositories.unlink_manifest(Repository(NAME), child.digest)

    monkeypatch.setattr(ManifestPushes, "_store", unlinked)
    done = p.manifest(body, media_type, "v1")

    assert (done.status_code, code(done)) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert p.ask("GET", "manifests/v1").status_code == 404
