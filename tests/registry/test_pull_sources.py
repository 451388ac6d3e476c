"""A pull succeeds as long as one of its sources can send the blob."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from entrepot.runtime.hostnames import fold
from tests.images import filler
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

CONTENT = filler(400_000, 3)
DIGEST = Digest.of(CONTENT)
BLOB = f"blobs/{DIGEST}"


def _registry() -> FakeUpstream:
    upstream = FakeUpstream()
    upstream.add_blob(NAME, CONTENT)
    return upstream


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream that has the blob."""
    with _registry() as upstream:
        yield upstream


@pytest.fixture
def mirror() -> Iterator[FakeUpstream]:
    """Run a mirror that also has the blob."""
    with _registry() as upstream:
        yield upstream


@pytest.mark.parametrize(
    "knobs",
    [{"cut": 150_000}, {"status": 503}, {"status": 404}, {"drop": True}],
    ids=["cut", "503", "404", "reset"],
)
def test_a_mirror_that_breaks_off_is_replaced_by_the_upstream(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """If a mirror breaks off in the middle of a blob, the upstream sends only the missing bytes."""
    p = pulling(u, tmp_path, mirrors=(mirror.url,))
    mirror.misbehave("/blobs/", **knobs)

    assert p.get(BLOB).content == CONTENT
    assert u.bytes_sent <= len(CONTENT) - (150_000 if "cut" in knobs else 0) + 65536


def test_a_stalled_mirror_is_replaced_by_the_upstream(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path
) -> None:
    """If a mirror sends too slowly, the worker uses the upstream long before the read timeout."""
    p = pulling(u, tmp_path, mirrors=(mirror.url,), read_timeout=1.5)
    mirror.misbehave("/blobs/", rate=1.0)

    assert p.get(BLOB).content == CONTENT


@pytest.mark.slow
def test_a_mirror_that_never_answers_is_replaced_by_the_upstream(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path
) -> None:
    """If a mirror does not respond in time, the worker fetches the blob from the upstream."""
    p = pulling(u, tmp_path, mirrors=(mirror.url,), read_timeout=1.0)
    ended = threading.Event()
    mirror.misbehave("/blobs/", method="GET", hold=ended)
    try:
        assert p.get(BLOB).content == CONTENT
    finally:
        ended.set()


def test_a_mirror_with_wrong_bytes_fails_one_pull_at_most(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path
) -> None:
    """If a mirror sends wrong bytes, at most one pull fails; the next pull uses the upstream."""
    p = pulling(u, tmp_path, mirrors=(mirror.url,))
    mirror.misbehave("/blobs/", body=CONTENT[::-1])

    assert _received(p, BLOB) in (None, CONTENT)
    assert p.get(BLOB).content == CONTENT
    assert mirror.count("GET", "/blobs/") == 1


def test_a_distrusted_upstream_without_a_mirror_is_used_again(
    u: FakeUpstream, tmp_path: Path
) -> None:
    """If the only source of a blob has sent wrong bytes, the next pull still uses this source."""
    p = pulling(u, tmp_path)
    u.misbehave("/blobs/", times=1, body=CONTENT[::-1])

    assert _received(p, BLOB) in (None, CONTENT)
    assert p.get(BLOB).content == CONTENT


@pytest.mark.parametrize(
    "knobs",
    [{"cut": 150_000}, pytest.param({"status": 503}, marks=pytest.mark.slow)],
    ids=["cut", "503"],
)
def test_a_pull_is_independent_of_another_upstreams_failing_download(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """If one upstream fails to send a layer, a pull of the layer from another upstream succeeds.

    The pull does not wait for the failing download.
    """
    broken, healthy = u, mirror
    p = pulling(broken, tmp_path, healthy, read_timeout=4.0)
    broken.misbehave("/blobs/", method="GET", **knobs)
    path = f"/v2/{fold(healthy.host)}/{NAME}/{BLOB}"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_received, p, BLOB)
        while not broken.count("GET", "/blobs/"):
            pass

        assert p.ask("GET", path).content == CONTENT
        first.result()


@pytest.mark.parametrize(
    "sent", [CONTENT[:100], CONTENT[::-1], CONTENT], ids=["other length", "other bytes", "stalled"]
)
def test_a_download_from_another_upstream_is_not_joined(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path, sent: bytes
) -> None:
    """A pull does not join a download from another upstream, which could send wrong bytes."""
    lying, healthy, ended = u, mirror, threading.Event()
    p = pulling(lying, tmp_path, healthy, read_timeout=9.0)
    lying.misbehave("/blobs/", body=sent, hold=ended, hold_after=10)
    path = f"/v2/{fold(healthy.host)}/{NAME}/{BLOB}"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_received, p, BLOB)
        try:
            while not lying.find("GET", "/blobs/") or not lying.requests[-1].started.is_set():
                pass

            assert p.ask("GET", path).content == CONTENT
        finally:
            ended.set()
        first.result()


def _received(p: Pulling, path: str) -> bytes | None:
    """Return the bytes of a response, or None if the response broke off."""
    try:
        return bytes(p.get(path).content)
    except ConnectionResetError:
        return None
