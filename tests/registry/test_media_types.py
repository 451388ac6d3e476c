"""A manifest's media type is in the manifest itself or is stored separately for each repository.

Neither a push to one repository nor an upstream's response for that repository changes the type in
another repository.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from falcon.testing import Result

from entrepot.datastore import layout
from entrepot.datastore.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest
from entrepot.runtime.hostnames import fold
from tests.disk_storage import disk_storage
from tests.images import Image, image
from tests.registry.pulling import NAME, pulling
from tests.registry.push.pushing import NAME as MINE
from tests.registry.push.pushing import Pushing, pushing
from tests.upstream import FakeUpstream

STATED = image([b"a layer"], "oci")
OTHERS = "others/app"


def _bare(made: Image) -> bytes:
    """Return the manifest of an image without `mediaType`, which is optional in the OCI spec."""
    fields = json.loads(made.manifest)
    del fields["mediaType"]
    return json.dumps(fields).encode()


BARE = _bare(STATED)


def _push(p: Pushing, name: str, body: bytes, media_type: str) -> Result:
    for blob in STATED.blobs:
        p.blob(blob, name=name)
    return p.manifest(body, media_type, "v1", name=name)


def _type(p: Pushing, name: str) -> str:
    got = p.client.simulate_get(f"/v2/{name}/manifests/v1")
    return str(got.headers["content-type"])


def test_a_push_to_another_repository_changes_no_media_type(tmp_path: Path) -> None:
    """A manifest without `mediaType` can have a different media type in each repository.

    Each repository serves the manifest with the type with which it was pushed there.
    """
    p = pushing(tmp_path)
    assert _push(p, MINE, BARE, OCI_MANIFEST).status_code == 201
    assert _push(p, OTHERS, BARE, DOCKER_MANIFEST).status_code == 201

    assert _type(p, MINE) == OCI_MANIFEST
    assert _type(p, OTHERS) == DOCKER_MANIFEST


def test_a_repeated_push_repairs_the_media_type(tmp_path: Path) -> None:
    """If a wrong media type is stored for a manifest, another push corrects it.

    Version 0.1.0 stored one media type for all repositories, and this type could be wrong.
    """
    p = pushing(tmp_path)
    _push(p, MINE, BARE, OCI_MANIFEST)
    for wrong in (DOCKER_MANIFEST, OCI_INDEX, "text/html"):
        disk_storage(tmp_path).write(layout.shared_media_type(Digest.of(BARE)), wrong.encode())
        assert _type(p, MINE) == OCI_MANIFEST

    _push(p, MINE, BARE, DOCKER_MANIFEST)
    assert _type(p, MINE) == DOCKER_MANIFEST
    _push(p, MINE, BARE, OCI_MANIFEST)
    assert _type(p, MINE) == OCI_MANIFEST


@pytest.mark.parametrize(
    ("kept", "shown"),
    [(DOCKER_MANIFEST, DOCKER_MANIFEST), (OCI_INDEX, OCI_MANIFEST), ("text/html", OCI_MANIFEST)],
)
def test_a_media_type_stored_by_0_1_0_is_used_if_plausible(
    tmp_path: Path, kept: str, shown: str
) -> None:
    """A media type that version 0.1.0 stored is used if it is consistent with the manifest."""
    p = pushing(tmp_path)
    _push(p, MINE, BARE, OCI_MANIFEST)
    storage = disk_storage(tmp_path)
    storage.delete(f"{layout.MEDIA_TYPES}/{MINE}/_types/sha256/{Digest.of(BARE).hex}")
    storage.write(layout.shared_media_type(Digest.of(BARE)), kept.encode())

    assert _type(p, MINE) == shown


@pytest.mark.parametrize(
    ("body", "own"), [(STATED.manifest, OCI_MANIFEST), (BARE, None)], ids=["stated", "bare"]
)
def test_an_upstream_changes_no_media_type_of_other_repositories(
    tmp_path: Path, body: bytes, own: str | None
) -> None:
    """The media type in an upstream's response is valid only for repositories of that upstream."""
    with FakeUpstream() as honest, FakeUpstream() as hostile:
        for upstream, media_type in ((honest, OCI_MANIFEST), (hostile, DOCKER_MANIFEST)):
            upstream.put_image(NAME, "other", STATED)
            upstream.add_manifest(NAME, "v1", body, media_type)
        p = pulling(honest, tmp_path, hostile)
        theirs = f"/v2/{fold(hostile.host)}/{NAME}/manifests/v1"

        types = []
        for _ in range(2):
            types.append(p.get("manifests/v1").headers["content-type"])
            types.append(p.ask("GET", theirs).headers["content-type"])

    assert types == [OCI_MANIFEST, own or DOCKER_MANIFEST] * 2


def test_a_document_that_is_both_image_and_index_is_refused(tmp_path: Path) -> None:
    """If an upstream's manifest has the fields of an image and of an index, the pull gets 502.

    Different clients would interpret the manifest as two different images (CVE-2021-41190).
    """
    fields = json.loads(STATED.manifest) | {"manifests": []}
    with FakeUpstream() as upstream:
        upstream.put_image(NAME, "other", STATED)
        upstream.add_manifest(NAME, "v1", json.dumps(fields).encode(), OCI_MANIFEST)

        assert pulling(upstream, tmp_path).get("manifests/v1").status_code == 502
