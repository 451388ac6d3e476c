"""Tests that a `BlobStore` stores bytes only under their right digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.datastore.blobs import BlobStore, digest_of_file
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.errors import DigestMismatch, NotFound
from entrepot.datastore.refs import Digest

CONTENT = b"content" * 300_000  # Files are hashed in chunks; this content is longer than one chunk.
ALGORITHMS = ["sha256", "sha512"]


@pytest.fixture
def blobs() -> BlobStore:
    """Return an empty store."""
    return BlobStore(MemoryStorage())


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Return a local file with CONTENT."""
    path = tmp_path / "finished"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_written_blob_can_be_read(blobs: BlobStore, algorithm: str) -> None:
    """After a blob was written, it can be read as bytes and as a file, and `stat` has its size."""
    digest = Digest.of(b"content", algorithm)

    blobs.write(digest, b"content")

    stat = blobs.stat(digest)
    assert stat is not None
    assert (stat.size, blobs.read(digest)) == (7, b"content")
    with blobs.open(digest) as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_adopted_file_can_be_read(blobs: BlobStore, finished: Path, algorithm: str) -> None:
    """If a file is committed as a blob without a digest from its writer, the file is hashed."""
    digest = Digest.of(CONTENT, algorithm)

    blobs.commit_file(finished, digest)

    assert blobs.read(digest) == CONTENT
    assert not finished.exists()


def test_wrong_bytes_are_not_written(blobs: BlobStore) -> None:
    """Bytes that do not match a digest are not written under this digest.

    The error has the expected and the actual digest.
    """
    expected, actual = Digest.of(b"right"), Digest.of(b"wrong")

    with pytest.raises(DigestMismatch) as mismatch:
        blobs.write(expected, b"wrong")

    assert (mismatch.value.expected, mismatch.value.actual) == (expected, actual)
    assert blobs.stat(expected) is None


def test_a_wrong_file_is_not_adopted_and_stays(blobs: BlobStore, finished: Path) -> None:
    """A file whose bytes do not match the digest is not committed, and stays at its path."""
    wrong = Digest.of(b"something else")

    with pytest.raises(DigestMismatch):
        blobs.commit_file(finished, wrong)

    assert blobs.stat(wrong) is None
    assert finished.read_bytes() == CONTENT


def test_a_digest_computed_by_the_writer_is_compared(blobs: BlobStore, finished: Path) -> None:
    """If a writer has computed the digest of a file, the commit compares it with the right one."""
    right, wrong = Digest.of(CONTENT), Digest.of(b"what came")

    with pytest.raises(DigestMismatch):
        blobs.commit_file(finished, right, verified=wrong)
    blobs.commit_file(finished, right, verified=right)

    assert blobs.read(right) == CONTENT


def test_a_deleted_blob_is_not_found(blobs: BlobStore) -> None:
    """A deleted blob cannot be opened, and a second deletion returns False."""
    digest = Digest.of(b"content")
    blobs.write(digest, b"content")

    assert (blobs.delete(digest), blobs.delete(digest)) == (True, False)
    with pytest.raises(NotFound):
        blobs.open(digest)


@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["empty", "short", "long"])
def test_a_files_digest_is_that_of_its_content(tmp_path: Path, content: bytes) -> None:
    """The digest of a file is the digest of its content, even if it is read in several chunks."""
    (tmp_path / "file").write_bytes(content)

    assert digest_of_file(tmp_path / "file", "sha256") == Digest.of(content)
