"""A request for stored content makes few system calls; these tests fail if a call is added."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import pytest

from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.memory_parts import (
    MemoryLinkTimes,
    MemoryNotes,
    MemoryPins,
    MemoryReservations,
)
from entrepot.registry.server.delivery import CONNECTION, LentConnection, Repeatable
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

LAYERS = [b"one layer", b"another"]
_PARTS = (MemoryIndex, MemoryLinkTimes, MemoryNotes, MemoryPins, MemoryReservations)
_INDEX = tuple(each.__name__ for each in _PARTS)
_NO_CALL = {"fspath"}  # functions of the module `posix` that make no system call


@pytest.fixture
def p(tmp_path: Path) -> Iterator[Pulling]:
    """Yield a registry that has pulled an image by tag and by digest."""
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", LAYERS)
        pulled = pulling(upstream, tmp_path)
        pulled.pull()
        pulled.pull(digest_of(pulled))
        yield pulled


def digest_of(p: Pulling) -> str:
    """Return the digest to which the tag `v1` points."""
    return str(p.head("manifests/v1").headers["docker-content-digest"])


def layer_of(p: Pulling) -> str:
    """Return the digest of the first layer of the image."""
    return str(p.get("manifests/v1").json["layers"][0]["digest"])


def calls(act: Callable[[], object]) -> tuple[Counter[str], list[str]]:
    """Call *act*; return how often it makes each system call, and list its calls of the index."""
    made: Counter[str] = Counter()
    asked: list[str] = []

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called.__module__ in {"posix", "io", "_io", "fcntl"}:
            made[called.__name__] += called.__name__ not in _NO_CALL
        elif event == "call" and frame.f_code.co_qualname.startswith(_INDEX):
            asked.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return +made, asked


SMALL_FILE = Counter(open=1, read=2, close=1)


@pytest.mark.parametrize("ask", [Pulling.get, Pulling.head], ids=["GET", "HEAD"])
def test_a_blob_costs_its_link_its_file_and_one_fstat(
    p: Pulling, ask: Callable[..., object]
) -> None:
    """A GET or HEAD of a stored blob calls stat for its link, and open and fstat for its file.

    A worker knows the length of the file without a read of the index.
    """
    path = f"blobs/{layer_of(p)}"

    assert calls(lambda: ask(p, path)) == (Counter(stat=1, open=1, fstat=1), [])


def test_a_repeated_blob_costs_its_link_its_file_and_one_fstat(tmp_path: Path) -> None:
    """A repeated response with a blob makes the same system calls as the first."""
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", LAYERS)
        p = pulling(upstream, tmp_path, epoch=lambda: "0000000001")
        p.pull()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            lent = LentConnection(ours)
            path = f"/v2/{p.prefix}/{NAME}/blobs/{layer_of(p)}"
            p.client.simulate_get(path, extras={CONNECTION: lent})
        permitted = lent.repeatable
        assert isinstance(permitted, Repeatable)
        opened: list[BinaryIO | None] = []

        assert calls(lambda: opened.append(permitted.open())) == (
            Counter(stat=1, open=1, fstat=1),
            [],
        )
        assert opened[0] is not None
        opened[0].close()


@pytest.mark.parametrize("ask", [Pulling.get, Pulling.head], ids=["GET", "HEAD"])
def test_a_manifest_by_tag_costs_its_tag_its_link_and_its_bytes(
    p: Pulling, ask: Callable[..., object]
) -> None:
    """A GET or HEAD of a stored manifest by tag reads the tag's file and the manifest.

    The worker also calls stat for the tag and for the link. It compares the manifest's bytes with
    those that it verified earlier and does not parse them again.
    """
    expected = Counter(stat=2) + SMALL_FILE + SMALL_FILE

    assert calls(lambda: ask(p, "manifests/v1")) == (expected, [])


@pytest.mark.parametrize("ask", [Pulling.get, Pulling.head], ids=["GET", "HEAD"])
def test_a_manifest_by_digest_costs_a_check_of_each_part(
    p: Pulling, ask: Callable[..., object]
) -> None:
    """A GET or HEAD of a manifest by digest calls stat for the link and the file of each part.

    The worker makes these calls because a client must not get a manifest whose layers would be
    missing during an outage.
    """
    path = f"manifests/{digest_of(p)}"
    parts = len(LAYERS) + 1
    expected = Counter(stat=1 + 2 * parts) + SMALL_FILE

    assert calls(lambda: ask(p, path)) == (expected, [])


def test_without_file_times_only_a_pull_by_tag_reads_the_index(tmp_path: Path) -> None:
    """In a storage without file times, a pull by tag reads the index; other pulls do not.

    The index stores the time at which the upstream last confirmed the tag.
    """
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", LAYERS)
        p = pulling(upstream, tmp_path, storage=MemoryStorage())
        p.pull()
        p.pull(digest_of(p))
        paths = ("manifests/v1", f"manifests/{digest_of(p)}", f"blobs/{layer_of(p)}")

        asked = [calls(partial(p.get, path))[1] for path in paths]

    assert asked == [["MemoryLinkTimes.get"], [], []]
