"""Tests of which lines of the access log record a use of content, and at what time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entrepot.datastore.accesslog import AccessLine
from entrepot.datastore.refs import Digest
from entrepot.logger.accesses import note_uses, stamps

A = Digest.of(b"a")
B = Digest.of(b"b")
LINE = AccessLine(
    start=1_000_000,
    duration=500,
    method="GET",
    status=200,
    termination="--",
    bytes=10,
    digest=str(A),
    repository="quay.io/podman/hello",
    kind="blob",
    cache="entrepot; hit",
    user="",
    source="",
    uri="/",
)


def _used(*lines: AccessLine, before: dict[str, float] | None = None) -> dict[Digest, float]:
    latest = before or {}
    note_uses([(line, 1) for line in lines], latest)
    return stamps(latest)


@pytest.mark.parametrize(
    ("method", "kind", "status"),
    [
        ("GET", "blob", 200),
        ("GET", "blob", 206),
        ("GET", "blob", 304),
        ("GET", "manifest", 200),
        ("HEAD", "manifest", 200),
        ("HEAD", "index", 304),
        ("PUT", "manifest", 201),
        ("PUT", "blob", 201),
        ("POST", "blob", 201),
    ],
)
def test_a_pull_and_a_push_are_uses(method: str, kind: str, status: int) -> None:
    """A log line of a pull or push is treated as a use of the content.

    The time of the use is the time at which the response ended.
    """
    line = replace(LINE, method=method, kind=kind, status=status)

    assert _used(line) == {A: 1000.5}


@pytest.mark.parametrize(
    ("method", "kind", "status"),
    [
        ("HEAD", "blob", 200),
        ("GET", "blob", 404),
        ("GET", "blob", 416),
        ("GET", "blob", -1),
        ("GET", "tags", 200),
        ("GET", "referrers", 200),
        ("GET", "", 200),
        ("DELETE", "manifest", 202),
        ("PATCH", "blob", 202),
        ("POST", "blob", 202),
        ("GET", "manifest", 502),
    ],
)
def test_other_requests_are_no_uses(method: str, kind: str, status: int) -> None:
    """A request that neither pulls nor pushes a manifest or blob is not treated as a use.

    A HEAD of a blob only checks that the blob exists.
    """
    assert _used(replace(LINE, method=method, kind=kind, status=status)) == {}


def test_an_aborted_response_is_a_use() -> None:
    """An aborted response is also treated as a use, because the client will probably retry."""
    assert _used(replace(LINE, termination="CD")) == {A: 1000.5}


def test_the_latest_use_is_kept_in_any_order() -> None:
    """If several lines have the same digest, the latest use is kept, in any order of the lines.

    HAProxy writes a line when a response ends, so lines are not sorted by the start of requests.
    """
    late, early = replace(LINE, start=3_000_000), replace(LINE, start=2_000_000)
    other = replace(LINE, digest=str(B))

    assert _used(early, late, other, early) == {A: 3000.5, B: 1000.5}


def test_a_later_batch_moves_a_use_on_and_never_back() -> None:
    """A later batch of lines never sets a last use back to an earlier time."""
    assert _used(LINE, before={str(A): 7.0}) == {A: 1000.5}
    assert _used(LINE, before={str(A): 2000.0}) == {A: 2000.0}


@pytest.mark.parametrize("digest", ["", "-", "sha256:abc", "md5:" + "a" * 32])
def test_an_invalid_digest_is_ignored(digest: str) -> None:
    """A line with an invalid digest is ignored; responses without a digest have such lines."""
    assert _used(replace(LINE, digest=digest), replace(LINE, digest=str(B))) == {B: 1000.5}
