"""A client gets a range of a blob before the blob is verified, sometimes without the last byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from falcon.testing import Result

from entrepot.datastore.errors import DigestMismatch
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import SpaceLimits
from entrepot.registry.download import verify
from entrepot.registry.errors import Unavailable
from entrepot.registry.upstream.upstream_config import Ranges
from tests import images
from tests.registry.benches import CONTENT, Bench, read, task
from tests.registry.pulling import NAME, pulling
from tests.registry.remotes import FakeRemote
from tests.upstream import FakeUpstream

BLOB = images.filler(120_000, 11)
BLOB_DIGEST = Digest.of(BLOB)
WRONG = CONTENT[:-1] + b"!"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty data directory."""
    return Bench(tmp_path)


@pytest.mark.parametrize("same", [True, False], ids=["same worker", "another worker"])
def test_a_range_is_sent_at_once_up_to_its_last_byte(bench: Bench, same: bool) -> None:  # noqa: FBT001
    """Before the blob is verified, a client gets all bytes of a range except the last byte."""
    remote = FakeRemote(CONTENT, until=5000)
    worker = bench.worker()
    worker.join(task(remote))
    reader = (worker if same else bench.worker()).join(task(remote))
    body = read(reader, 0, 2000)

    first = next(body)
    while len(first) < 1999:
        first += next(body)
    assert first == CONTENT[:1999]
    remote.let(None)

    assert first + b"".join(body) == CONTENT[:2000]


def test_a_range_of_a_wrong_blob_breaks_off_before_its_last_byte(bench: Bench) -> None:
    """If a blob has a wrong digest, a response with a range breaks off before its last byte."""
    remote = FakeRemote(WRONG, until=5000)
    reader = bench.worker().join(task(remote))
    body = read(reader, 1000, 3000)
    got = next(body)
    remote.let(None)

    with pytest.raises(DigestMismatch):
        got += b"".join(body)

    assert len(got) < 2000


def test_an_early_range_completes_before_verification(bench: Bench) -> None:
    """With `early=True` a reader gets a whole range before the upstream has sent the whole blob."""
    remote = FakeRemote(WRONG, until=5000)
    reader = bench.worker().join(task(remote))

    got = b"".join(
        p if isinstance(p, bytes) else b"".join(p.chunks())
        for p in reader.read(1000, 3000, early=True)
    )
    remote.let(None)

    assert got == CONTENT[1000:3000]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(5000, len(CONTENT)), (5000, 7000), (0, 10), (len(CONTENT) - 1, len(CONTENT))],
)
def test_a_range_without_space_is_verified(tmp_path: Path, start: int, stop: int) -> None:
    """Without disk space, a worker hashes the whole blob to serve a range.

    If the digest is wrong, the response breaks off.
    """
    bench = Bench(tmp_path, reservations=1000)
    right, wrong = FakeRemote(CONTENT), FakeRemote(WRONG)

    assert b"".join(read(bench.worker().join(task(right)), start, stop)) == CONTENT[start:stop]
    with pytest.raises(DigestMismatch):
        list(read(bench.worker().join(task(wrong)), start, stop))


def test_a_separate_range_response_is_compared_with_the_verified_blob() -> None:
    """A range from a separate upstream response is compared with the verified blob's bytes.

    A server can send a wrong range although it sends the whole blob correctly.
    """
    right = [CONTENT[:500], CONTENT[500:1000]]

    assert b"".join(verify.compared(right, [CONTENT[:1000]], "fake")) == CONTENT[:1000]
    got: list[bytes] = []
    with pytest.raises(Unavailable):
        got.extend(verify.compared([CONTENT[:500], b"x" * 500], right, "fake"))
    assert len(b"".join(got)) < 1000


@pytest.mark.parametrize(
    ("ranges", "size", "early"),
    [
        ("auto", None, False),
        ("auto", verify.VERIFIED_RANGES_MAX, False),
        ("auto", verify.VERIFIED_RANGES_MAX + 1, True),
        ("verified", 2**40, False),
        ("early", 1, True),
    ],
)
def test_the_size_decides_unless_the_setting_does(
    ranges: str,
    size: int | None,
    early: bool,  # noqa: FBT001
) -> None:
    """With `ranges: auto`, only a range of a large blob is sent completely before verification."""
    assert verify.is_early(ranges, size) is early


# ---- tests of ranges that a client requests from the registry


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream with a blob."""
    with FakeUpstream() as upstream:
        upstream.add_blob(NAME, BLOB)
        yield upstream


def _range(
    u: FakeUpstream, root: Path, header: str, ranges: Ranges, reservations: int | None
) -> Result:
    return pulling(
        u,
        root,
        limits=SpaceLimits(max_used_bytes=reservations, largest=reservations),
        ranges=ranges,
    ).get(f"blobs/{BLOB_DIGEST}", Range=header)


@pytest.mark.parametrize("reservations", [None, 1000], ids=["stored", "no room"])
@pytest.mark.parametrize("header", ["bytes=0-99", "bytes=100-50000", "bytes=70000-"])
def test_a_waiting_range_breaks_off_and_an_early_one_warns(
    u: FakeUpstream, tmp_path: Path, header: str, reservations: int | None
) -> None:
    """With `ranges: verified`, a response with a range of a wrong blob breaks off.

    With `ranges: early` the client gets the whole range, and Cache-Status has `detail=unverified`.
    """
    u.misbehave("blobs", corrupt=True)
    with pytest.raises(ConnectionResetError):
        _range(u, tmp_path / "waits", header, "verified", reservations)

    # a range that includes the last byte of a blob always waits for the verification
    if header != "bytes=70000-":
        early = _range(u, tmp_path / "early", header, "early", reservations)
        assert early.status_code == 206
        assert early.headers["cache-status"].endswith("; detail=unverified")


def test_a_range_of_a_stored_blob_has_no_warning(u: FakeUpstream, tmp_path: Path) -> None:
    """A range of a stored blob has no `detail=unverified`, because the blob was verified."""
    p = pulling(u, tmp_path, ranges="early")
    p.get(f"blobs/{BLOB_DIGEST}")

    got = p.get(f"blobs/{BLOB_DIGEST}", Range="bytes=0-99")

    assert got.content == BLOB[:100]
    assert got.headers["cache-status"] == "entrepot; hit"


@pytest.mark.parametrize("reservations", [None, 1000], ids=["stored", "no room"])
def test_a_resumed_pull_gets_the_rest(
    u: FakeUpstream, tmp_path: Path, reservations: int | None
) -> None:
    """A client that resumes a pull with a range request gets the rest of the blob.

    This holds even without disk space for the blob.
    """
    got = _range(u, tmp_path, "bytes=70000-", "auto", reservations)

    assert (got.status_code, got.content) == (206, BLOB[70_000:])
