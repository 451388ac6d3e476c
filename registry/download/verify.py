"""Bytes that are verified before the last of them leaves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator

from entrepot.datastore.errors import DigestMismatch
from entrepot.datastore.refs import Digest
from entrepot.registry.download.resume import resumed, until
from entrepot.registry.download.sources import Sources
from entrepot.registry.errors import Unavailable, Why

PROVEN_RANGES = 64 * 1024 * 1024
"""Bytes of a blob up to which the last byte of each of its ranges waits for the whole blob."""


def window(
    chunks: Iterable[bytes], digest: Digest, start: int = 0, stop: int | None = None
) -> Iterator[bytes]:
    """Yield the bytes *start* to *stop* of a blob, of which *chunks* are all.

    One byte late, so that the last is held until *digest* is proven. Raises: DigestMismatch, in
    place of the last byte.
    """
    hasher, at, held = digest.hasher(), 0, b""
    end = math.inf if stop is None else stop
    for chunk in chunks:
        hasher.update(chunk)
        wanted = chunk[max(start - at, 0) : int(min(max(end - at, 0), len(chunk)))]
        at += len(chunk)
        if wanted:
            yield held + wanted[:-1]
            held = wanted[-1:]
    actual = Digest(digest.algorithm, hasher.hexdigest())
    if actual != digest:
        raise DigestMismatch(digest, actual)
    yield held


def confirmed(chunks: Iterable[bytes], proven: Iterable[bytes], upstream: str) -> Iterator[bytes]:
    """Yield *chunks* of one answer, the last byte only if *proven* are the same bytes.

    Raises: Unavailable, in place of the last byte.
    """
    sent, right, held = hashlib.sha256(), hashlib.sha256(), b""
    for chunk in chunks:
        sent.update(chunk)
        yield held + chunk[:-1]
        held = chunk[-1:]
    for chunk in proven:
        right.update(chunk)
    if sent.digest() != right.digest():
        raise Unavailable(upstream, "two answers for the same bytes differ", Why.NONSENSE)
    yield held


def alone(
    sources: Sources, digest: Digest, start: int, stop: int | None, *, early: bool
) -> Iterator[bytes]:
    """Yield a blob that nothing is stored of, or a range of it.

    To prove a range, all of the blob is fetched; a range that may be *early* is not proven.
    """
    if early:
        return until(resumed(sources, start), stop and stop - start)
    return window(resumed(sources, 0), digest, start, stop)


def is_early(ranges: str, size: int | None) -> bool:
    """Whether ranges of an unverified blob complete before it is verified.

    *ranges* is `verified`, `early`, or `auto`: it depends on the blob's *size* in bytes.
    """
    if ranges == "auto":
        return size is not None and size > PROVEN_RANGES
    return ranges == "early"
