"""Tests how `entrepot doctor` chooses the image that it pulls."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.appliance.doctor import images
from entrepot.appliance.doctor.images import ImageName
from entrepot.config.errors import Unreadable
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories
from tests.disk_storage import disk_storage
from tests.images import Image, image, index

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alpine", ImageName("docker.io", "library/alpine", "latest")),
        ("alpine:3", ImageName("docker.io", "library/alpine", "3")),
        ("bitnami/redis", ImageName("docker.io", "bitnami/redis", "latest")),
        ("index.docker.io/alpine", ImageName("docker.io", "library/alpine", "latest")),
        ("quay.io/a/b:v1", ImageName("quay.io", "a/b", "v1")),
        ("localhost:5000/a", ImageName("localhost:5000", "a", "latest")),
        (f"quay.io/a/b@{DIGEST}", ImageName("quay.io", "a/b", DIGEST)),
        (f"quay.io/a/b:v1@{DIGEST}", ImageName("quay.io", "a/b", DIGEST)),
    ],
)
def test_a_name_is_parsed_as_podman_and_docker_do(text: str, name: ImageName) -> None:
    """`doctor` parses a name without a host as an image of Docker Hub, as podman does.

    If an image's name has a tag and a digest, `doctor` uses the digest.
    """
    assert images.parse(text) == name


@pytest.mark.parametrize("text", ["", "UPPER", "quay.io/a b", "quay.io/a:-", "quay.io/", "a@sha"])
def test_an_invalid_name_is_refused(text: str) -> None:
    """The error about an invalid image name has an example of a valid name."""
    with pytest.raises(Unreadable) as caught:
        images.parse(text)

    assert caught.value.remedy


def test_a_name_is_formatted_as_clients_write_it() -> None:
    """A report formats an image's name as clients write it."""
    assert str(ImageName("quay.io", "a", "v1")) == "quay.io/a:v1"
    assert str(ImageName("quay.io", "a", DIGEST)) == f"quay.io/a@{DIGEST}"


def test_without_stored_images_a_well_known_one_is_chosen() -> None:
    """Without stored images `doctor` pulls a well-known image of a configured upstream."""
    assert str(images.well_known(["quay.io"])).startswith("quay.io/")
    assert images.well_known(["corp.test"]) is None


def test_the_smallest_complete_image_is_chosen(tmp_path: Path) -> None:
    """`doctor` chooses the smallest complete image, because its pull costs the least."""
    keep(tmp_path, "quay.io/large", image([b"x" * 1000]))
    keep(tmp_path, "reg.test_5000/small", image([b"x" * 10]))
    torn = image([b"y"])
    keep(tmp_path, "quay.io/torn", torn)
    disk_storage(tmp_path).delete(layout.blob(Digest.of(b"y")))

    assert images.smallest(disk_storage(tmp_path)) == ImageName("reg.test:5000", "small", "v1")


def test_an_index_with_one_complete_child_is_enough(tmp_path: Path) -> None:
    """An index with one complete child is a candidate, because a client pulls one platform."""
    here, elsewhere = image([b"here"]), image([b"elsewhere"], architecture="arm64")
    keep(tmp_path, "quay.io/many", here)
    body, _ = index([elsewhere, here])
    repositories, name = (
        Repositories(disk_storage(tmp_path)),
        Repository.parse("quay.io/many"),
    )
    _write(tmp_path, body)
    repositories.set_tag(name, Tag("v1"), Digest.of(body))

    assert images.smallest(disk_storage(tmp_path)) == ImageName("quay.io", "many", "v1")


def test_pushed_images_are_not_chosen(tmp_path: Path) -> None:
    """`doctor` chooses no pushed image, because such an image has no upstream to check."""
    keep(tmp_path, "own/app", image([b"x"]), origin=None)

    assert images.smallest(disk_storage(tmp_path)) is None
    assert images.smallest(disk_storage(tmp_path / "nothing")) is None


def keep(root: Path, name: str, made: Image, origin: str | None = "somewhere") -> None:
    """Store an image with the tag v1, as pulled from the upstream *origin*.

    If *origin* is None, the image counts as pushed.
    """
    repositories, repository = Repositories(disk_storage(root)), Repository.parse(name)
    for content in (made.manifest, *made.blobs):
        _write(root, content)
    if origin:
        repositories.set_origin(repository, origin)
    repositories.link_manifest(repository, made.digest)
    repositories.set_tag(repository, Tag("v1"), made.digest)


def _write(root: Path, content: bytes) -> None:
    disk_storage(root).write(layout.blob(Digest.of(content)), content)
