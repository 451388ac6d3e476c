"""Tests how `layout` reads digests and names from keys, and how `Repositories` lists links."""

from __future__ import annotations

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories

_NAME = Repository("quay.io/podman/hello")
_DIGEST = Digest.of(b"a blob")


@pytest.mark.parametrize(
    "key",
    [
        layout.layer_link(_NAME, _DIGEST),
        layout.revision_link(_NAME, _DIGEST),
        layout.tag_past(_NAME, Tag("v1"), _DIGEST),
        layout.referrers(_NAME, _DIGEST),
        layout.referrer(_NAME, Digest.of(b"its subject"), _DIGEST),
    ],
)
def test_linked_returns_the_digest_of_a_key(key: str) -> None:
    """`linked_digest` returns the digest at the end of the key of a link or a referrer."""
    assert layout.linked_digest(key) == _DIGEST


@pytest.mark.parametrize("tag", ["sha256", "link", "v1"])
def test_the_key_of_a_current_tag_has_no_digest(tag: str) -> None:
    """The key of a current tag has no digest, because the digest is in the value."""
    assert layout.linked_digest(layout.tag_current(_NAME, Tag(tag))) is None


def test_origin_of_returns_the_repository() -> None:
    """`origin_of` returns the repository whose origin has the given key."""
    assert layout.origin_of(layout.origin(_NAME)) == _NAME


def test_origin_of_returns_none_for_any_other_key() -> None:
    """`origin_of` returns None for the file of another program in the folder of origins."""
    assert layout.origin_of(f"{layout.ORIGINS}/What is this") is None


def test_the_length_of_a_download_is_a_file_beside_it() -> None:
    """The file with the length of a download is beside its spool file, but is not a spool file."""
    assert layout.spool_size(_DIGEST) == f"{layout.spool(_DIGEST)}.size"
    assert layout.spool_of(layout.spool_size(_DIGEST)) is None


def test_a_repository_lists_the_blobs_that_it_links() -> None:
    """The blobs of a repository are those that it links; its manifests are not among them."""
    repositories = Repositories(MemoryStorage())
    repositories.link_blob(_NAME, _DIGEST)
    repositories.link_manifest(_NAME, Digest.of(b"a manifest"))

    assert list(repositories.blobs(_NAME)) == [_DIGEST]


def test_a_repository_lists_the_pushed_referrers_of_a_manifest() -> None:
    """A repository lists the pushed referrers of a manifest until they are removed.

    `referrer` returns the descriptor that `add_referrer` has stored.
    """
    repositories = Repositories(MemoryStorage())
    subject, other = Digest.of(b"subject"), Digest.of(b"another")
    repositories.add_referrer(_NAME, subject, _DIGEST, b"{}")
    repositories.add_referrer(_NAME, other, Digest.of(b"unrelated"), b"{}")

    assert list(repositories.referrers(_NAME, subject)) == [_DIGEST]
    assert repositories.referrer(_NAME, subject, _DIGEST) == b"{}"
    assert repositories.remove_referrer(_NAME, subject, _DIGEST)
    assert list(repositories.referrers(_NAME, subject)) == []


def test_uploads_with_one_id_in_two_repositories_are_distinct() -> None:
    """Uploads with the same ID to two repositories have different files and reservations."""
    here, there = (layout.upload(Repository(name), "1") for name in ("a", "b"))

    assert here != there
    assert layout.upload_reservation(here) != layout.upload_reservation(there)
