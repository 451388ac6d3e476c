"""Which image the doctor pulls."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.appliance.doctor import images
from entrepot.appliance.doctor.images import ImageName
from entrepot.config.errors import Unreadable
from entrepot.datastore import layout
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories
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
def test_a_name_is_read_as_podman_and_docker_do(text: str, name: ImageName) -> None:
    """Without a host it is Docker Hub's; a digest goes before a tag."""
    assert images.parse(text) == name


@pytest.mark.parametrize("text", ["", "UPPER", "quay.io/a b", "quay.io/a:-", "quay.io/", "a@sha"])
def test_what_is_no_name_is_refused(text: str) -> None:
    """With one that is."""
    with pytest.raises(Unreadable) as caught:
        images.parse(text)

    assert caught.value.remedy


def test_a_name_is_written_as_it_is_pulled() -> None:
    """For the report."""
    assert str(ImageName("quay.io", "a", "v1")) == "quay.io/a:v1"
    assert str(ImageName("quay.io", "a", DIGEST)) == f"quay.io/a@{DIGEST}"


def test_where_nothing_is_here_a_well_known_one_is_taken() -> None:
    """Of an upstream that the appliance has."""
    assert str(images.well_known(["quay.io"])).startswith("quay.io/")
    assert images.well_known(["corp.test"]) is None


def test_the_smallest_that_is_whole_here_is_taken(tmp_path: Path) -> None:
    """Small, so that a look costs little; whole, so that it tells of us and not of an upstream."""
    keep(tmp_path, "quay.io/large", image([b"x" * 1000]))
    keep(tmp_path, "reg.test_5000/small", image([b"x" * 10]))
    torn = image([b"y"])
    keep(tmp_path, "quay.io/torn", torn)
    Filesystem(tmp_path).delete(layout.blob(Digest.of(b"y")))

    assert images.smallest(tmp_path) == ImageName("reg.test:5000", "small", "v1")


def test_of_an_index_one_child_that_is_here_is_enough(tmp_path: Path) -> None:
    """A client pulls one platform."""
    here, elsewhere = image([b"here"]), image([b"elsewhere"], architecture="arm64")
    keep(tmp_path, "quay.io/many", here)
    body, _ = index([elsewhere, here])
    repositories, name = Repositories(Filesystem(tmp_path)), Repository.parse("quay.io/many")
    _write(tmp_path, body)
    repositories.set_tag(name, Tag("v1"), Digest.of(body))

    assert images.smallest(tmp_path) == ImageName("quay.io", "many", "v1")


def test_what_was_pushed_is_left_alone(tmp_path: Path) -> None:
    """It has but one route, and no upstream to fall back from."""
    keep(tmp_path, "own/app", image([b"x"]), origin=None)

    assert images.smallest(tmp_path) is None
    assert images.smallest(tmp_path / "nothing") is None


def keep(root: Path, name: str, made: Image, origin: str | None = "somewhere") -> None:
    """Keep an image as the appliance does, tagged v1."""
    repositories, repository = Repositories(Filesystem(root)), Repository.parse(name)
    for content in (made.manifest, *made.blobs):
        _write(root, content)
    if origin:
        repositories.keep_origin(repository, origin)
    repositories.link_manifest(repository, made.digest)
    repositories.set_tag(repository, Tag("v1"), made.digest)


def _write(root: Path, content: bytes) -> None:
    Filesystem(root).write(layout.blob(Digest.of(content)), content)
