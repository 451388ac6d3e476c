"""Digest, Tag and Repository: what parses, what does not, and that it comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given

from entrepot.datastore.errors import InvalidDigest, InvalidRepository, InvalidTag
from entrepot.datastore.refs import Digest, Reference, Repository, Tag, parse_reference
from tests.datastore import names

# the examples of NIST, FIPS 180-4: the message "abc"
SHA256_ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
SHA512_ABC = (
    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)


@pytest.mark.parametrize("text", [SHA256_ABC, SHA512_ABC], ids=["sha256", "sha512"])
def test_a_digest_is_that_of_its_content(text: str) -> None:
    """Known answers of both algorithms."""
    digest = Digest.parse(text)

    assert Digest.of(b"abc", digest.algorithm) == digest
    hasher = digest.hasher()
    hasher.update(b"a")
    hasher.update(b"bc")
    assert hasher.hexdigest() == digest.hex


@given(names.digests)
def test_a_digest_survives_its_text(digest: Digest) -> None:
    """`str` and `parse` are inverses."""
    assert Digest.parse(str(digest)) == digest


@given(names.tags)
def test_a_tag_survives_its_text(tag: Tag) -> None:
    """`str` and `parse` are inverses."""
    assert Tag.parse(str(tag)) == tag


@given(names.repositories)
def test_a_repository_survives_its_text(name: Repository) -> None:
    """`str` and `parse` are inverses."""
    assert Repository.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 128,
        "sha512:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
        " sha256:" + "a" * 64,
        "sha256:" + "\uff11" * 64,
        "sha384:" + "a" * 96,
        "md5:" + "a" * 32,
        "sha256:../" + "a" * 61,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    """A digest becomes a path, so nothing else may pass for one."""
    with pytest.raises(InvalidDigest) as refusal:
        Digest.parse(text)

    assert refusal.value.given == text[:128]


@pytest.mark.parametrize(
    "text", ["", ".", "..", "-x", ".x", "a/b", "a:b", "a b", "a\n", "\u00e4", "x" * 129, "a~b"]
)
def test_what_is_no_tag_is_refused(text: str) -> None:
    """A tag becomes a folder's name."""
    with pytest.raises(InvalidTag):
        Tag.parse(text)


@pytest.mark.parametrize("text", ["latest", "v1..2", "_", "0", "x" * 128, "sha256-" + "a" * 64])
def test_odd_but_good_tags_parse(text: str) -> None:
    """OCI distribution-spec 1.1, "Pulling manifests"."""
    assert Tag.parse(text) == Tag(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "A",
        "a/B",
        "a..b",
        "a._b",
        "a___b",
        "-a",
        "a-",
        ".",
        "..",
        "a/../b",
        "_layers",
        "a/_manifests",
        "a:5000/b",
        "a\n",
        "a\x00b",
        "\u00e4",
        "x" * 256,
    ],
)
def test_what_is_no_repository_is_refused(text: str) -> None:
    """A name becomes a path, and can hold neither our marks nor a way up."""
    with pytest.raises(InvalidRepository):
        Repository.parse(text)


@pytest.mark.parametrize(
    "text", ["a", "library/alpine", "localhost_5000/x", "a.b/c__d/e---f", "x" * 255]
)
def test_odd_but_good_names_parse(text: str) -> None:
    """OCI distribution-spec 1.1, "Pulling manifests"."""
    assert Repository.parse(text) == Repository(text)


def test_what_is_refused_is_shown_shortened() -> None:
    """A client may send a megabyte; its answer and the log hold 128 characters of it."""
    with pytest.raises(InvalidRepository) as refusal:
        Repository.parse("X" * 1_000_000)

    assert refusal.value.given == "X" * 128
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [("v1", Tag("v1")), (SHA256_ABC, Digest.parse(SHA256_ABC))],
    ids=["tag", "digest"],
)
def test_a_reference_is_a_tag_or_a_digest(text: str, expected: Reference) -> None:
    """A tag cannot hold a colon, a digest always does."""
    assert parse_reference(text) == expected


def test_a_reference_with_a_colon_is_judged_as_a_digest() -> None:
    """The client learns which of the two it got wrong."""
    with pytest.raises(InvalidDigest):
        parse_reference("v1:2")
