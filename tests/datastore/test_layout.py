"""How names become keys of the storage, and keys become names again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from tests.datastore import names

HEX = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
DIGEST = Digest("sha256", HEX)
NAME = Repository("quay.io/podman/hello")
OF_NAME = "docker/registry/v2/repositories/quay.io/podman/hello"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (layout.blob(DIGEST), f"docker/registry/v2/blobs/sha256/ba/{HEX}/data"),
        (layout.repository(NAME), OF_NAME),
        (layout.layer_link(NAME, DIGEST), f"{OF_NAME}/_layers/sha256/{HEX}/link"),
        (
            layout.revision_link(NAME, DIGEST),
            f"{OF_NAME}/_manifests/revisions/sha256/{HEX}/link",
        ),
        (layout.tag_current(NAME, Tag("v1")), f"{OF_NAME}/_manifests/tags/v1/current/link"),
        (
            layout.tag_past(NAME, Tag("v1"), DIGEST),
            f"{OF_NAME}/_manifests/tags/v1/index/sha256/{HEX}/link",
        ),
    ],
)
def test_the_keys_are_those_of_docker_distribution(key: str, expected: str) -> None:
    """The storage keys are those of docker distribution, so `registry:2` finds every file.

    The paths of this test are literal, because they are those of docker distribution.
    """
    assert key == expected


@given(names.digests)
def test_blob_of_is_the_inverse_of_blob(digest: Digest) -> None:
    """`blob_of` is the inverse of `blob`, on which the rebuild of the index depends."""
    assert layout.blob_of(layout.blob(digest)) == digest


@pytest.mark.parametrize(
    "key",
    [
        f"docker/registry/v2/blobs/sha256/ba/{HEX}",
        f"docker/registry/v2/blobs/sha256/ba/{HEX}/other",
        f"docker/registry/v2/blobs/sha256/ab/{HEX}/data",
        f"docker/registry/v2/blobs/sha256/ba/{HEX}/data/data",
        f"docker/registry/v2/blobs/md5/ba/{HEX}/data",
        f"docker/registry/v2/blobs/sha256/ba/{HEX[:-1]}/data",
        f"elsewhere/sha256/ba/{HEX}/data",
        f"sha256/ba/{HEX}/data",
        "data",
        "",
    ],
)
def test_blob_of_returns_none_for_any_other_key(key: str) -> None:
    """`blob_of` is None for a key without a digest: a row for it could not be evicted."""
    assert layout.blob_of(key) is None


@given(st.text(max_size=40))
def test_a_key_with_a_digest_is_the_key_of_that_blob(text: str) -> None:
    """A key from which `blob_of` reads a digest is the key of that blob.

    The digest may be at any place of the key.
    """
    for key in (text, layout.blob(DIGEST) + text, layout.blob(DIGEST).replace(HEX, text)):
        digest = layout.blob_of(key)

        assert digest is None or layout.blob(digest) == key


@given(names.digests)
def test_spool_of_is_the_inverse_of_spool(digest: Digest) -> None:
    """`spool_of` is the inverse of `spool`: the cleaner finds a digest by a spool file's name."""
    assert layout.spool_of(layout.spool(digest)) == digest


@given(names.repositories, names.digests, names.tags)
def test_keys_are_distinct_and_none_lies_below_another(
    name: Repository, digest: Digest, tag: Tag
) -> None:
    """Storage keys are distinct and none is below another: a file cannot be a folder as well."""
    keys = sorted(
        [
            layout.blob(digest),
            layout.layer_link(name, digest),
            layout.revision_link(name, digest),
            layout.tag_current(name, tag),
            layout.tag_past(name, tag, digest),
            layout.media_type(name, digest),
            layout.shared_media_type(digest),
            layout.origin(name),
            layout.referrers(name, digest),
        ]
    )

    for one in keys:
        assert [other for other in keys if f"{other}/".startswith(f"{one}/")] == [one]


@given(names.repositories, names.repositories, names.digests, names.tags)
def test_files_of_one_repository_never_belong_to_another(
    one: Repository, other: Repository, digest: Digest, tag: Tag
) -> None:
    """Repositories `a` and `a/b` share a folder, but no file."""
    for key in (
        layout.layer_link(one, digest),
        layout.tag_current(one, tag),
        layout.tag_past(one, tag, digest),
        layout.origin(one),
        layout.referrers(one, digest),
    ):
        mine = key.replace(str(one), str(other), 1)
        assert (mine == key) is (one == other)
        assert not f"{layout.repository(other)}/".startswith(f"{key}/")
