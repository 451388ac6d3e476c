"""Tests that `layout` translates names to keys of the storage, and keys back to names."""

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
    """The keys of content, links and tags are those of docker distribution.

    So the image `registry:2` can use the same data directory.
    """
    assert key == expected


@given(names.digests)
def test_blob_of_is_the_inverse_of_blob(digest: Digest) -> None:
    """`blob_of` returns the digest of a key that `blob` has returned.

    A rebuild of the index finds the digests of stored blobs in this way.
    """
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
    """`blob_of` returns None for any key that is not the key of a blob."""
    assert layout.blob_of(key) is None


@given(st.text(max_size=40))
def test_a_key_with_a_digest_is_the_key_of_that_blob(text: str) -> None:
    """If `blob_of` returns a digest for a key, the key is that of the blob with this digest."""
    for key in (text, layout.blob(DIGEST) + text, layout.blob(DIGEST).replace(HEX, text)):
        digest = layout.blob_of(key)

        assert digest is None or layout.blob(digest) == key


@given(names.digests)
def test_spool_of_is_the_inverse_of_spool(digest: Digest) -> None:
    """`spool_of` returns the digest of a name that `spool` has returned.

    The cleaner needs this to find the reservation of a spool file.
    """
    assert layout.spool_of(layout.spool(digest)) == digest


@given(names.repositories, names.digests, names.tags)
def test_keys_are_distinct_and_none_lies_below_another(
    name: Repository, digest: Digest, tag: Tag
) -> None:
    """All keys are different, and none is below another, because a file cannot be a folder too."""
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
    """Two repositories never share a file, even if one name is the beginning of the other."""
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
