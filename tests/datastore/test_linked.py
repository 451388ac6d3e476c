"""Keys back to what they are about: what the cleaner reads off links, answers and origins."""

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
def test_a_link_tells_what_it_is_about(key: str) -> None:
    """The inverse of what made the key."""
    assert layout.linked(key) == _DIGEST


@pytest.mark.parametrize("tag", ["sha256", "link", "v1"])
def test_what_a_tag_means_now_is_not_told_by_its_key(tag: str) -> None:
    """Its digest stands in the value."""
    assert layout.linked(layout.tag_current(_NAME, Tag(tag))) is None


def test_an_origin_tells_its_repository() -> None:
    """However many slashes the name has."""
    assert layout.origin_of(layout.origin(_NAME)) == _NAME


def test_a_key_that_is_no_origin_tells_no_repository() -> None:
    """A file that somebody put there names nothing."""
    assert layout.origin_of(f"{layout.ORIGINS}/What is this") is None


def test_a_download_and_its_length_lie_side_by_side() -> None:
    """The length is no spool file itself."""
    assert layout.spool_size(_DIGEST) == f"{layout.spool(_DIGEST)}.size"
    assert layout.spool_of(layout.spool_size(_DIGEST)) is None


def test_a_repository_lists_the_blobs_that_it_links() -> None:
    """And not its manifests."""
    repositories = Repositories(MemoryStorage())
    repositories.link_blob(_NAME, _DIGEST)
    repositories.link_manifest(_NAME, Digest.of(b"a manifest"))

    assert list(repositories.blobs(_NAME)) == [_DIGEST]


def test_a_repository_lists_what_was_pushed_about_a_manifest() -> None:
    """Each with the descriptor that was kept of it, until it is forgotten."""
    repositories = Repositories(MemoryStorage())
    subject, other = Digest.of(b"subject"), Digest.of(b"another")
    repositories.keep_referrer(_NAME, subject, _DIGEST, b"{}")
    repositories.keep_referrer(_NAME, other, Digest.of(b"unrelated"), b"{}")

    assert list(repositories.referrers(_NAME, subject)) == [_DIGEST]
    assert repositories.referrer(_NAME, subject, _DIGEST) == b"{}"
    assert repositories.forget_referrer(_NAME, subject, _DIGEST)
    assert list(repositories.referrers(_NAME, subject)) == []


def test_an_upload_is_told_from_one_of_the_same_number_elsewhere() -> None:
    """Who knows its number must name its repository too."""
    here, there = (layout.upload(Repository(name), "1") for name in ("a", "b"))

    assert here != there
    assert layout.upload_promise(here) != layout.upload_promise(there)
