"""Names to keys and back."""

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
def test_the_shared_tree_is_docker_distributions(key: str, expected: str) -> None:
    """Written out here, for `registry:2` must find every one of these files."""
    assert key == expected


@given(names.digests)
def test_a_blobs_key_leads_back_to_its_digest(digest: Digest) -> None:
    """`blob_of` is the inverse of `blob`."""
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
def test_what_is_no_blobs_key_leads_nowhere(key: str) -> None:
    """A file that no digest leads to must get no row: nobody could evict it."""
    assert layout.blob_of(key) is None


@given(st.text(max_size=40))
def test_whatever_leads_to_a_digest_is_that_blobs_key(text: str) -> None:
    """The other direction of the inverse, for any text in any place of the key."""
    for key in (text, layout.blob(DIGEST) + text, layout.blob(DIGEST).replace(HEX, text)):
        digest = layout.blob_of(key)

        assert digest is None or layout.blob(digest) == key


@given(names.digests)
def test_a_spool_files_name_leads_back_to_its_digest(digest: Digest) -> None:
    """`spool_of` is the inverse of `spool`."""
    assert layout.spool_of(layout.spool(digest)) == digest


@given(names.repositories, names.digests, names.tags)
def test_no_two_things_have_one_key(name: Repository, digest: Digest, tag: Tag) -> None:
    """Nor does one lie below another, where a file would have to be a folder."""
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
def test_one_repository_never_lies_in_another_ones_files(
    one: Repository, other: Repository, digest: Digest, tag: Tag
) -> None:
    """A repository `a` and a repository `a/b` share a folder and no file."""
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
