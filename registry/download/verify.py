"""Verify the bytes of a blob before the last byte is sent to the client."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator

from entrepot.datastore.errors import DigestMismatch
from entrepot.datastore.refs import Digest
from entrepot.registry.download.resume import limited, resumed
from entrepot.registry.download.sources import Sources
from entrepot.registry.errors import Unavailable, Why

VERIFIED_RANGES_MAX = 64 * 1024 * 1024
"""For a blob of at most this size, a range's last byte is sent only after verification of the blob.

This limit applies if `proxy.ranges` is `auto`.
"""


def verified_range(
    chunks: Iterable[bytes], digest: Digest, start: int = 0, stop: int | None = None
) -> Iterator[bytes]:
    """Yield the bytes *start* to *stop* (exclusive) of a blob; *chunks* yields the whole blob.

    The function yields the last byte of the range only after *digest* is verified. Raises:
    DigestMismatch in place of the last byte.
    """
    hasher, offset, last = digest.hasher(), 0, b""
    end = math.inf if stop is None else stop
    for chunk in chunks:
        hasher.update(chunk)
        selected = chunk[max(start - offset, 0) : int(min(max(end - offset, 0), len(chunk)))]
        offset += len(chunk)
        if selected:
            yield last + selected[:-1]
            last = selected[-1:]
    actual = Digest(digest.algorithm, hasher.hexdigest())
    if actual != digest:
        raise DigestMismatch(digest, actual)
    yield last


def compared(chunks: Iterable[bytes], proven: Iterable[bytes], upstream: str) -> Iterator[bytes]:
    """Yield the *chunks* of a response; yield the last byte only if *proven* has the same bytes.

    *proven* yields the same range, and ends only after the whole blob was verified.

    Raises: Unavailable in place of the last byte, if the bytes differ.
    """
    sent, right, last = hashlib.sha256(), hashlib.sha256(), b""
    for chunk in chunks:
        sent.update(chunk)
        yield last + chunk[:-1]
        last = chunk[-1:]
    for chunk in proven:
        right.update(chunk)
    if sent.digest() != right.digest():
        raise Unavailable(upstream, "two responses for the same range differ", Why.NONSENSE)
    yield last


def unstored_blob(
    sources: Sources, digest: Digest, start: int, stop: int | None, *, early: bool
) -> Iterator[bytes]:
    """Yield a blob, or a range of a blob, without storing the blob.

    To verify a range, the function fetches the whole blob. If *early* is set, the function fetches
    only the range, and yields the range without verification.
    """
    if early:
        return limited(resumed(sources, start), stop and stop - start)
    return verified_range(resumed(sources, 0), digest, start, stop)


def is_early(ranges: str, size: int | None) -> bool:
    """Return True if a response with a range of a blob may complete before the blob is verified.

    *ranges* is the setting `proxy.ranges`: `verified`, `early`, or `auto`, which depends on *size*,
    the size of the blob in bytes.
    """
    if ranges == "auto":
        return size is not None and size > VERIFIED_RANGES_MAX
    return ranges == "early"
