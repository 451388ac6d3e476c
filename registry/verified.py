"""Bytes from an upstream that are verified before the last of them leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datastore.errors import DigestMismatch
from datastore.refs import Digest
from registry.download.resume import resumed, until
from registry.download.sources import Sources


def verified(
    chunks: Iterator[bytes], digest: Digest, prefix: Iterable[bytes] = ()
) -> Iterator[bytes]:
    """Pass *chunks* on, one byte late, so that the last is held until *digest* is proven.

    *prefix* is what went out before them. Raises: DigestMismatch, in place of the last byte.
    """
    hasher = digest.hasher()
    for chunk in prefix:
        hasher.update(chunk)
    held = b""
    for chunk in chunks:
        hasher.update(chunk)
        yield held + chunk[:-1]
        held = chunk[-1:]
    actual = Digest(digest.algorithm, hasher.hexdigest())
    if actual != digest:
        raise DigestMismatch(digest, actual)
    yield held


def alone(sources: Sources, digest: Digest, start: int, stop: int | None) -> Iterator[bytes]:
    """Yield a blob that nothing is written of; a range of it cannot be proven here."""
    rest = resumed(sources, start)
    return until(rest if start else verified(rest, digest), stop and stop - start)
