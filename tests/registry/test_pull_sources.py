"""A pull succeeds whenever one of its sources can deliver."""

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
    """Return a registry that has the blob."""
    with _registry() as upstream:
        yield upstream


@pytest.fixture
def mirror() -> Iterator[FakeUpstream]:
    """Return another one."""
    with _registry() as upstream:
        yield upstream


@pytest.mark.parametrize(
    "knobs",
    [{"cut": 150_000}, {"status": 503}, {"status": 404}, {"drop": True}],
    ids=["cut", "503", "404", "reset"],
)
def test_a_mirror_that_breaks_is_left_for_the_upstream(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """In the middle of a body too; the mirror's bytes are not asked for again."""
    p = pulling(u, tmp_path, mirrors=(mirror.url,))
    mirror.misbehave("/blobs/", **knobs)

    assert p.get(BLOB).content == CONTENT
    assert u.bytes_sent <= len(CONTENT) - (150_000 if "cut" in knobs else 0) + 65536


def test_a_mirror_that_stands_still_is_left_for_the_upstream(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path
) -> None:
    """Long before the read time-out."""
    p = pulling(u, tmp_path, mirrors=(mirror.url,), read_timeout=1.5)
    mirror.misbehave("/blobs/", rate=1.0)

    assert p.get(BLOB).content == CONTENT


def test_a_mirror_that_lies_costs_one_answer(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path
) -> None:
    """At most: it is cut before its last byte, and from then on the upstream is asked."""
    p = pulling(u, tmp_path, mirrors=(mirror.url,))
    mirror.misbehave("/blobs/", body=CONTENT[::-1])

    assert _got(p, BLOB) in (None, CONTENT)
    assert p.get(BLOB).content == CONTENT
    assert mirror.count("GET", "/blobs/") == 1


def test_an_upstream_that_lies_alone_is_asked_again(u: FakeUpstream, tmp_path: Path) -> None:
    """There is no other source, and it may be right by now."""
    p = pulling(u, tmp_path)
    u.misbehave("/blobs/", times=1, body=CONTENT[::-1])

    assert _got(p, BLOB) in (None, CONTENT)
    assert p.get(BLOB).content == CONTENT


@pytest.mark.parametrize("knobs", [{"cut": 150_000}, {"status": 503}], ids=["cut", "503"])
def test_a_client_of_a_healthy_upstream_gets_a_blob_that_another_upstream_breaks_at(
    u: FakeUpstream, mirror: FakeUpstream, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """Both share the layer; the download that runs is the other upstream's."""
    broken, healthy = u, mirror
    p = pulling(broken, tmp_path, healthy, read_timeout=4.0)
    broken.misbehave("/blobs/", method="GET", **knobs)
    path = f"/v2/{fold(healthy.host)}/{NAME}/{BLOB}"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_got, p, BLOB)
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
    """A hostile upstream that offers a digest of another upstream must not spoil its pulls."""
    lying, healthy, ended = u, mirror, threading.Event()
    p = pulling(lying, tmp_path, healthy, read_timeout=9.0)
    lying.misbehave("/blobs/", body=sent, hold=ended, hold_after=10)
    path = f"/v2/{fold(healthy.host)}/{NAME}/{BLOB}"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_got, p, BLOB)
        try:
            while not lying.find("GET", "/blobs/") or not lying.requests[-1].started.is_set():
                pass

            assert p.ask("GET", path).content == CONTENT
        finally:
            ended.set()
        first.result()


def _got(p: Pulling, path: str) -> bytes | None:
    """Return what came; None when the connection was cut."""
    try:
        return bytes(p.get(path).content)
    except ConnectionResetError:
        return None
