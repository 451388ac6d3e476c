"""Tests that `parse` of Digest, Tag and Repository accepts only valid texts."""

from __future__ import annotations

import pytest
from hypothesis import given

from entrepot.datastore.errors import InvalidDigest, InvalidRepository, InvalidTag
from entrepot.datastore.refs import Digest, Reference, Repository, Tag, parse_reference
from tests.datastore import names

# These are NIST's examples for the message "abc" (FIPS 180-4).
SHA256_ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
SHA512_ABC = (
    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)


@pytest.mark.parametrize("text", [SHA256_ABC, SHA512_ABC], ids=["sha256", "sha512"])
def test_a_digest_matches_known_hashes(text: str) -> None:
    """For both algorithms, the digest of NIST's example text is the digest that NIST published."""
    digest = Digest.parse(text)

    assert Digest.of(b"abc", digest.algorithm) == digest
    hasher = digest.hasher()
    hasher.update(b"a")
    hasher.update(b"bc")
    assert hasher.hexdigest() == digest.hex


@given(names.digests)
def test_str_and_parse_of_a_digest_are_inverse(digest: Digest) -> None:
    """`parse` accepts the text that `str` returns for a digest, and returns the same digest."""
    assert Digest.parse(str(digest)) == digest


@given(names.tags)
def test_str_and_parse_of_a_tag_are_inverse(tag: Tag) -> None:
    """`parse` accepts the text that `str` returns for a tag, and returns the same tag."""
    assert Tag.parse(str(tag)) == tag


@given(names.repositories)
def test_str_and_parse_of_a_repository_are_inverse(name: Repository) -> None:
    """`parse` accepts the text that `str` returns for a repository, and returns the same one."""
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
def test_an_invalid_digest_is_rejected(text: str) -> None:
    """A text that is not a digest is rejected, because a digest becomes a part of a path."""
    with pytest.raises(InvalidDigest) as refusal:
        Digest.parse(text)

    assert refusal.value.given == text[:128]


@pytest.mark.parametrize(
    "text", ["", ".", "..", "-x", ".x", "a/b", "a:b", "a b", "a\n", "\u00e4", "x" * 129, "a~b"]
)
def test_an_invalid_tag_is_rejected(text: str) -> None:
    """An invalid tag is rejected, because a tag becomes the name of a folder."""
    with pytest.raises(InvalidTag):
        Tag.parse(text)


@pytest.mark.parametrize("text", ["latest", "v1..2", "_", "0", "x" * 128, "sha256-" + "a" * 64])
def test_unusual_valid_tags_are_accepted(text: str) -> None:
    """Unusual tags that are valid by OCI distribution-spec 1.1 are accepted."""
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
def test_an_invalid_repository_name_is_rejected(text: str) -> None:
    """An invalid repository name is rejected, because the name becomes a path."""
    with pytest.raises(InvalidRepository):
        Repository.parse(text)


@pytest.mark.parametrize(
    "text", ["a", "library/alpine", "localhost_5000/x", "a.b/c__d/e---f", "x" * 255]
)
def test_unusual_valid_names_are_accepted(text: str) -> None:
    """Unusual names that are valid by OCI distribution-spec 1.1 are accepted."""
    assert Repository.parse(text) == Repository(text)


def test_a_rejected_text_is_shortened_in_the_error() -> None:
    """The error for a rejected text has only its first 128 characters."""
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
    """A reference with a colon is parsed as a digest, and any other as a tag."""
    assert parse_reference(text) == expected


def test_an_invalid_reference_with_a_colon_is_an_invalid_digest() -> None:
    """An invalid reference with a colon raises InvalidDigest, not InvalidTag."""
    with pytest.raises(InvalidDigest):
        parse_reference("v1:2")
