"""Links, tags and origins, on a disk, where folders tell what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories, TagState
from entrepot.datastore.storage import Storage
from tests.images import image

NAME, OTHER = Repository("quay.io/app"), Repository("docker.io/app")
A, B = Digest.of(b"a"), Digest.of(b"b")
V1, V2 = Tag("v1"), Tag("v2")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Return an empty data directory."""
    return Filesystem(tmp_path)


@pytest.fixture
def repositories(storage: Storage) -> Repositories:
    """Return its repositories."""
    return Repositories(storage)


# ---- a link is permission


def test_a_blob_is_linked_under_one_name_only(repositories: Repositories) -> None:
    """Nobody reads a private layer by knowing its digest."""
    repositories.link_blob(NAME, A)

    assert repositories.links_blob(NAME, A) is True
    assert repositories.links_blob(OTHER, A) is False
    assert repositories.links_blob(NAME, B) is False


def test_a_manifest_is_linked_under_one_name_only(repositories: Repositories) -> None:
    """A blob's link is none for a manifest."""
    repositories.link_manifest(NAME, A)
    repositories.link_blob(NAME, B)

    assert repositories.linked_manifest(NAME, A) is not None
    assert repositories.linked_manifest(OTHER, A) is None
    assert repositories.linked_manifest(NAME, B) is None


def test_a_link_holds_the_digest(repositories: Repositories, storage: Storage) -> None:
    """Docker distribution reads the file, and not its path."""
    repositories.link_blob(NAME, A)
    repositories.link_manifest(NAME, A)

    for key in (layout.layer_link(NAME, A), layout.revision_link(NAME, A)):
        assert storage.read(key) == str(A).encode()


def test_a_link_that_was_taken_back_is_gone(repositories: Repositories) -> None:
    """Taking back what was never given is fine."""
    repositories.link_blob(NAME, A)
    repositories.link_manifest(NAME, A)

    assert (repositories.unlink_blob(NAME, A), repositories.unlink_blob(NAME, A)) == (True, False)
    assert repositories.unlink_manifest(NAME, A) is True
    assert repositories.unlink_manifest(NAME, A) is False
    assert repositories.links_blob(NAME, A) is False
    assert repositories.exists(NAME) is False


def test_a_link_tells_when_it_was_last_confirmed(
    repositories: Repositories, storage: Storage
) -> None:
    """Linked again, its time is now."""
    repositories.link_manifest(NAME, A)
    storage.stamp(layout.revision_link(NAME, A), 1000.0)
    assert repositories.linked_manifest(NAME, A) == 1000.0

    repositories.link_manifest(NAME, A)

    confirmed = repositories.linked_manifest(NAME, A)
    assert confirmed is not None
    assert confirmed > 1000.0


def test_manifests_and_blobs_are_listed_apart(repositories: Repositories, storage: Storage) -> None:
    """Files that others have put there are passed over."""
    sha512 = Digest.of(b"a", "sha512")
    for digest in (A, sha512):
        repositories.link_manifest(NAME, digest)
    repositories.link_blob(NAME, B)
    storage.write(f"{layout.revisions(NAME)}/sha256/README", b"hello")
    storage.write(f"{layout.revisions(NAME)}/md5/{'0' * 32}/link", b"hello")

    assert list(repositories.manifests(NAME)) == [A, sha512]
    assert list(repositories.blobs(NAME)) == [B]


# ---- tags


def test_a_tag_means_what_it_was_set_to_last(repositories: Repositories, storage: Storage) -> None:
    """What it has meant is kept beside, as docker distribution does."""
    repositories.set_tag(NAME, V1, A)
    repositories.set_tag(NAME, V1, B)
    storage.stamp(layout.tag_current(NAME, V1), 1000.0)

    assert repositories.tag(NAME, V1) == TagState(B, 1000.0)
    assert storage.stat(layout.tag_past(NAME, V1, A)) is not None
    assert repositories.tag(OTHER, V1) is None


@pytest.mark.parametrize("content", [b"", b"sha256:short", b"\xff\xfe"])
def test_a_tag_whose_link_is_unreadable_means_nothing(
    repositories: Repositories, storage: Storage, content: bytes
) -> None:
    """It is asked for again, and so heals."""
    storage.write(layout.tag_current(NAME, V1), content)

    assert repositories.tag(NAME, V1) is None


def test_a_removed_tag_leaves_nothing_and_no_other(repositories: Repositories) -> None:
    """Its past goes with it; removing what is absent is fine."""
    repositories.set_tag(NAME, V1, A)
    repositories.set_tag(NAME, V1, B)
    repositories.set_tag(NAME, V2, B)

    assert (repositories.remove_tag(NAME, V1), repositories.remove_tag(NAME, V1)) == (True, False)
    assert (repositories.tags(NAME), repositories.tag(NAME, V1)) == (["v2"], None)


def test_tags_are_listed_in_order(repositories: Repositories) -> None:
    """OCI distribution-spec 1.1, "Listing Tags": lexical order."""
    for name in ("b", "a", "B", "10", "9", "a.b"):
        repositories.set_tag(NAME, Tag(name), A)

    assert repositories.tags(NAME) == ["10", "9", "B", "a", "a.b", "b"]
    assert repositories.tags(OTHER) == []


# ---- repositories


def test_a_repository_exists_once_anything_is_kept_in_it(repositories: Repositories) -> None:
    """A folder on the way to another repository is none."""
    repositories.link_blob(Repository("a/b/c"), A)

    assert repositories.exists(Repository("a/b/c")) is True
    assert repositories.exists(Repository("a/b")) is False
    assert repositories.exists(Repository("absent")) is False


def test_repositories_are_found_below_a_name(repositories: Repositories) -> None:
    """One may lie below another; a name that only starts alike is another's."""
    for name in ("a", "a/b", "a/b/c", "ab/c", "b"):
        repositories.link_blob(Repository(name), A)

    def below(prefix: str) -> list[str]:
        return [str(found) for found in repositories.below(prefix)]

    assert below("a") == ["a", "a/b", "a/b/c"]
    assert below("a/b") == ["a/b", "a/b/c"]
    assert below("") == ["a", "a/b", "a/b/c", "ab/c", "b"]
    assert below("absent") == []


def test_an_origin_is_kept_by_name(repositories: Repositories) -> None:
    """A repository without one is hosted."""
    repositories.keep_origin(NAME, "quay.io")

    assert repositories.origin(NAME) == "quay.io"
    assert repositories.origin(Repository("quay.io")) is None
    assert repositories.origin(OTHER) is None


def test_a_media_type_is_kept_for_each_repository(repositories: Repositories) -> None:
    """The layout of docker distribution has no place for it."""
    repositories.link_manifest(NAME, A, "application/x-type")
    repositories.link_manifest(OTHER, A, "application/x-other")
    repositories.link_manifest(NAME, A)

    assert repositories.media_type(NAME, A) == "application/x-type"
    assert repositories.media_type(OTHER, A) == "application/x-other"
    assert repositories.media_type(Repository("none"), A) is None


def test_what_0_1_0_kept_for_all_holds_where_nothing_else_is_kept(tmp_path: Path) -> None:
    """It is read, and never written."""
    storage = Filesystem(tmp_path)
    storage.write(layout.shared_media_type(A), b"application/x-old")
    repositories = Repositories(storage)
    repositories.link_manifest(OTHER, A, "application/x-new")

    assert repositories.media_type(NAME, A) == "application/x-old"
    assert repositories.media_type(OTHER, A) == "application/x-new"
    assert (repositories.forget_shared_media_type(A), repositories.media_type(NAME, A)) == (
        True,
        None,
    )


def test_the_type_that_the_bytes_state_wins(repositories: Repositories) -> None:
    """Over what came with them, under whatever name."""
    stated, bare = image([b"x"], "oci").manifest, _without_type(image([b"x"], "oci").manifest)
    for body in (stated, bare):
        repositories.link_manifest(NAME, Digest.of(body), DOCKER_MANIFEST)

    def read(name: Repository | None, body: bytes) -> str:
        return repositories.read_manifest(name, Digest.of(body), body).media_type

    assert read(NAME, stated) == OCI_MANIFEST
    assert read(NAME, bare) == DOCKER_MANIFEST
    assert read(OTHER, bare) == read(None, bare) == OCI_MANIFEST


def test_a_type_that_cannot_be_right_is_not_believed(repositories: Repositories) -> None:
    """Of the same bytes nobody makes an index, nor something unknown."""
    bare = _without_type(image([b"x"], "oci").manifest)
    for wrong in (OCI_INDEX, "application/x-unknown"):
        repositories.link_manifest(NAME, Digest.of(bare), wrong)

        found = repositories.read_manifest(NAME, Digest.of(bare), bare)
        assert found.media_type == OCI_MANIFEST


def _without_type(manifest: bytes) -> bytes:
    fields = json.loads(manifest)
    fields.pop("mediaType", None)
    return json.dumps(fields).encode()
