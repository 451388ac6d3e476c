"""Tests that `Repositories` stores links, tags and origins on a disk, and finds them there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import UNKNOWN_ORIGIN, Repositories, TagState
from entrepot.datastore.storage import Storage, set_time
from tests.disk_storage import disk_storage
from tests.images import image

NAME, OTHER = Repository("quay.io/app"), Repository("docker.io/app")
A, B = Digest.of(b"a"), Digest.of(b"b")
V1, V2 = Tag("v1"), Tag("v2")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Return an empty data directory."""
    return disk_storage(tmp_path)


@pytest.fixture
def repositories(storage: Storage) -> Repositories:
    """Return the repositories of the storage."""
    return Repositories(storage)


# ---- links of a repository


def test_a_blob_link_is_valid_in_one_repository(repositories: Repositories) -> None:
    """A link permits one repository to serve a blob, and no other repository."""
    repositories.link_blob(NAME, A)

    assert repositories.links_blob(NAME, A) is True
    assert repositories.links_blob(OTHER, A) is False
    assert repositories.links_blob(NAME, B) is False


def test_a_manifest_link_is_valid_in_one_repository(repositories: Repositories) -> None:
    """A link permits one repository to serve a manifest, and no other repository.

    A link to a blob does not count as a link to a manifest.
    """
    repositories.link_manifest(NAME, A)
    repositories.link_blob(NAME, B)

    assert repositories.linked_manifest(NAME, A) is not None
    assert repositories.linked_manifest(OTHER, A) is None
    assert repositories.linked_manifest(NAME, B) is None


def test_a_link_file_has_the_digest(repositories: Repositories, storage: Storage) -> None:
    """The file of a link contains the digest, as docker distribution expects."""
    repositories.link_blob(NAME, A)
    repositories.link_manifest(NAME, A)

    for key in (layout.layer_link(NAME, A), layout.revision_link(NAME, A)):
        assert storage.read(key) == str(A).encode()


def test_a_removed_link_is_gone(repositories: Repositories) -> None:
    """After a link was removed, the repository does not have it; a second removal returns False."""
    repositories.link_blob(NAME, A)
    repositories.link_manifest(NAME, A)

    assert (repositories.unlink_blob(NAME, A), repositories.unlink_blob(NAME, A)) == (True, False)
    assert repositories.unlink_manifest(NAME, A) is True
    assert repositories.unlink_manifest(NAME, A) is False
    assert repositories.links_blob(NAME, A) is False
    assert repositories.exists(NAME) is False


def test_linking_again_updates_the_time_of_confirmation(
    repositories: Repositories, storage: Storage
) -> None:
    """If a manifest is linked again, the time of the link's confirmation is updated."""
    repositories.link_manifest(NAME, A)
    set_time(storage, layout.revision_link(NAME, A), 1000.0)
    assert repositories.linked_manifest(NAME, A) == 1000.0

    repositories.link_manifest(NAME, A)

    confirmed = repositories.linked_manifest(NAME, A)
    assert confirmed is not None
    assert confirmed > 1000.0


def test_manifests_and_blobs_are_listed_separately(
    repositories: Repositories, storage: Storage
) -> None:
    """The manifests and the blobs of a repository are listed separately.

    Files of other programs are not listed.
    """
    sha512 = Digest.of(b"a", "sha512")
    for digest in (A, sha512):
        repositories.link_manifest(NAME, digest)
    repositories.link_blob(NAME, B)
    storage.write(f"{layout.revisions(NAME)}/sha256/README", b"hello")
    storage.write(f"{layout.revisions(NAME)}/md5/{'0' * 32}/link", b"hello")

    assert list(repositories.manifests(NAME)) == [A, sha512]
    assert list(repositories.blobs(NAME)) == [B]


# ---- tags of a repository


def test_a_tag_has_the_digest_that_was_set_last(
    repositories: Repositories, storage: Storage
) -> None:
    """A tag has the digest that was set last; its history has the earlier digest too."""
    repositories.set_tag(NAME, V1, A)
    repositories.set_tag(NAME, V1, B)
    set_time(storage, layout.tag_current(NAME, V1), 1000.0)

    assert repositories.tag(NAME, V1) == TagState(B, 1000.0)
    assert storage.stat(layout.tag_past(NAME, V1, A)) is not None
    assert repositories.tag(OTHER, V1) is None


@pytest.mark.parametrize("content", [b"", b"sha256:short", b"\xff\xfe"])
def test_a_tag_with_an_unreadable_link_is_absent(
    repositories: Repositories, storage: Storage, content: bytes
) -> None:
    """If the file of a tag does not contain a digest, the tag counts as absent."""
    storage.write(layout.tag_current(NAME, V1), content)

    assert repositories.tag(NAME, V1) is None


def test_removing_a_tag_removes_its_history_and_no_other_tag(repositories: Repositories) -> None:
    """The removal of a tag removes its history but no other tag; a second removal returns False."""
    repositories.set_tag(NAME, V1, A)
    repositories.set_tag(NAME, V1, B)
    repositories.set_tag(NAME, V2, B)

    assert (repositories.remove_tag(NAME, V1), repositories.remove_tag(NAME, V1)) == (True, False)
    assert (repositories.tags(NAME), repositories.tag(NAME, V1)) == (["v2"], None)


def test_tags_are_listed_in_order(repositories: Repositories) -> None:
    """Tags are listed in lexical order (OCI distribution-spec 1.1, "Listing Tags")."""
    for name in ("b", "a", "B", "10", "9", "a.b"):
        repositories.set_tag(NAME, Tag(name), A)

    assert repositories.tags(NAME) == ["10", "9", "B", "a", "a.b", "b"]
    assert repositories.tags(OTHER) == []


# ---- names of repositories


def test_a_repository_exists_once_it_has_links(repositories: Repositories) -> None:
    """A repository exists if it has links; a folder above a repository is not a repository."""
    repositories.link_blob(Repository("a/b/c"), A)

    assert repositories.exists(Repository("a/b/c")) is True
    assert repositories.exists(Repository("a/b")) is False
    assert repositories.exists(Repository("absent")) is False


def test_repositories_are_found_below_a_name(repositories: Repositories) -> None:
    """The repositories below `a` are `a` and those whose names begin with `a/`."""
    for name in ("a", "a/b", "a/b/c", "ab/c", "b"):
        repositories.link_blob(Repository(name), A)

    def below(prefix: str) -> list[str]:
        return [str(found) for found in repositories.below(prefix)]

    assert below("a") == ["a", "a/b", "a/b/c"]
    assert below("a/b") == ["a/b", "a/b/c"]
    assert below("") == ["a", "a/b", "a/b/c", "ab/c", "b"]
    assert below("absent") == []


def test_an_origin_that_is_no_text_is_unknown(tmp_path: Path) -> None:
    """If the file of an origin is damaged, the repository has an unknown origin."""
    storage = disk_storage(tmp_path)
    storage.write(layout.origin(NAME), b"\xff\xfe")

    assert Repositories(storage).origin(NAME) == UNKNOWN_ORIGIN


def test_an_origin_is_stored_for_each_repository(repositories: Repositories) -> None:
    """After an origin was stored for a repository, other repositories still have none."""
    repositories.set_origin(NAME, "quay.io")

    assert repositories.origin(NAME) == "quay.io"
    assert repositories.origin(Repository("quay.io")) is None
    assert repositories.origin(OTHER) is None


def test_a_media_type_is_stored_for_each_repository(repositories: Repositories) -> None:
    """The media type of a manifest is stored separately for each repository."""
    repositories.link_manifest(NAME, A, "application/x-type")
    repositories.link_manifest(OTHER, A, "application/x-other")
    repositories.link_manifest(NAME, A)

    assert repositories.media_type(NAME, A) == "application/x-type"
    assert repositories.media_type(OTHER, A) == "application/x-other"
    assert repositories.media_type(Repository("none"), A) is None


def test_a_media_type_from_0_1_0_is_used_if_there_is_no_other(tmp_path: Path) -> None:
    """If a repository has no media type for a manifest, the type from version 0.1.0 is used."""
    storage = disk_storage(tmp_path)
    storage.write(layout.shared_media_type(A), b"application/x-old")
    repositories = Repositories(storage)
    repositories.link_manifest(OTHER, A, "application/x-new")

    assert repositories.media_type(NAME, A) == "application/x-old"
    assert repositories.media_type(OTHER, A) == "application/x-new"
    assert (repositories.remove_shared_media_type(A), repositories.media_type(NAME, A)) == (
        True,
        None,
    )


def test_the_media_type_in_the_bytes_wins(repositories: Repositories) -> None:
    """The media type in the bytes of a manifest has precedence over a received type."""
    stated, bare = image([b"x"], "oci").manifest, _without_type(image([b"x"], "oci").manifest)
    for body in (stated, bare):
        repositories.link_manifest(NAME, Digest.of(body), DOCKER_MANIFEST)

    def read(name: Repository | None, body: bytes) -> str:
        return repositories.read_manifest(name, Digest.of(body), body).media_type

    assert read(NAME, stated) == OCI_MANIFEST
    assert read(NAME, bare) == DOCKER_MANIFEST
    assert read(OTHER, bare) == read(None, bare) == OCI_MANIFEST


def test_an_impossible_stored_media_type_is_ignored(repositories: Repositories) -> None:
    """A stored media type that does not fit the bytes of the manifest is ignored."""
    bare = _without_type(image([b"x"], "oci").manifest)
    for wrong in (OCI_INDEX, "application/x-unknown"):
        repositories.link_manifest(NAME, Digest.of(bare), wrong)

        found = repositories.read_manifest(NAME, Digest.of(bare), bare)
        assert found.media_type == OCI_MANIFEST


def _without_type(manifest: bytes) -> bytes:
    fields = json.loads(manifest)
    fields.pop("mediaType", None)
    return json.dumps(fields).encode()
