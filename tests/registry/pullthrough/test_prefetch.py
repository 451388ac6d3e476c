"""After the first request for a layer, a worker prefetches the other layers of the image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.reservations import SpaceLimits
from entrepot.registry.download import parallel, writer
from entrepot.registry.pullthrough import prefetch
from entrepot.registry.pullthrough.blobs import after_first
from entrepot.runtime.reused_threads import ReusedThreads
from tests import images
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

LAYERS = [images.filler(5000, seed) for seed in range(6)]


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream that has one image of six layers."""
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", LAYERS)
        yield upstream


def has(p: Pulling, layer: bytes) -> bool:
    """Return True if a layer is stored and the repository has a link to it."""
    digest = Digest.of(layer)
    linked = p.repositories.links_blob(Repository(f"{p.prefix}/{NAME}"), digest)
    return linked and (p.root / layout.blob(digest)).exists()


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until a condition is true, for at most 20 s."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def first_blob(p: Pulling) -> None:
    """Request the first layer of the image from the registry."""
    assert p.get(f"blobs/{Digest.of(LAYERS[0])}").content == LAYERS[0]


def test_a_request_for_one_layer_prefetches_the_others(u: FakeUpstream, tmp_path: Path) -> None:
    """If a client requests one layer of an image, the worker downloads each other layer once.

    A later pull of the image sends no request to the upstream.
    """
    p = pulling(u, tmp_path, prefetch=2)
    p.get("manifests/v1")
    first_blob(p)
    eventually(lambda: all(has(p, layer) for layer in LAYERS))
    p.pull()

    assert u.count("GET", "/blobs/") == len(LAYERS) + 1
    assert u.count("HEAD") == 0


def test_the_prefetch_begins_after_the_first_bytes_are_sent() -> None:
    """The worker prepares a prefetch after it has sent the first piece of the requested layer.

    The preparation takes about a millisecond, and the client does not have to wait for it.
    """
    order: list[str] = []
    for piece in after_first(iter([b"first", b"second", b"third"]), lambda: order.append("act")):
        assert isinstance(piece, bytes)
        order.append(piece.decode())

    assert order == ["first", "act", "second", "third"]


def test_a_prefetched_blob_is_marked_as_unused(u: FakeUpstream, tmp_path: Path) -> None:
    """The index marks a prefetched layer as unused until a client requests the layer.

    Unused prefetched layers are evicted first.
    """
    index = MemoryIndex()
    p = pulling(u, tmp_path, prefetch=2, index=index)
    p.get("manifests/v1")
    first_blob(p)
    eventually(lambda: len(index.prefetched_unused(time.time(), 10)) == len(LAYERS))
    unused = {each.digest for each in index.prefetched_unused(time.time(), 10)}

    assert Digest.of(LAYERS[0]) not in unused
    assert {Digest.of(layer) for layer in LAYERS[1:]} < unused


def test_a_manifest_request_prefetches_nothing(u: FakeUpstream, tmp_path: Path) -> None:
    """A request for a manifest, or a HEAD for a layer, starts no prefetch.

    Update bots send only such requests, and need no layers.
    """
    p = pulling(u, tmp_path, prefetch=2)
    p.get("manifests/v1")
    p.head(f"blobs/{Digest.of(LAYERS[0])}")

    assert u.count("GET", "/blobs/") == 0


def test_the_concurrency_is_shared_by_all_workers(u: FakeUpstream, tmp_path: Path) -> None:
    """With `prefetch: 2`, all workers together prefetch at most two blobs at a time.

    Each upstream has its own limit.
    """
    hold = threading.Event()
    ahead = "|".join(str(Digest.of(layer)) for layer in LAYERS[1:])
    u.misbehave(ahead, hold=hold)
    workers = [pulling(u, tmp_path, prefetch=2) for _ in range(2)]
    workers[0].get("manifests/v1")
    for each in workers:
        each.get("manifests/v1")
        first_blob(each)
    eventually(lambda: u.count("GET", ahead) == 2)
    hold.set()
    eventually(lambda: all(has(workers[0], layer) for layer in LAYERS))

    assert u.count("GET", "/blobs/") == len(LAYERS) + 1


def test_without_space_the_prefetch_ends(
    u: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a prefetch finds no space, it ends, so that it takes no space from requested blobs."""
    # With `idle_s=0` the thread of a prefetch ends with the prefetch, so the test can wait for the
    # thread.
    monkeypatch.setattr(prefetch, "ReusedThreads", lambda: ReusedThreads(idle_s=0))
    others = set(threading.enumerate())
    p = pulling(u, tmp_path, prefetch=1, limits=SpaceLimits(max_used_bytes=12_000))
    p.get("manifests/v1")
    first_blob(p)
    eventually(lambda: u.count("GET", "/blobs/") == 3)
    eventually(
        lambda: not any(each.name == "ahead" for each in set(threading.enumerate()) - others)
    )

    assert u.count("GET", "/blobs/") == 3
    assert not any(has(p, layer) for layer in LAYERS[2:])


def test_without_a_thread_nothing_is_prefetched_and_no_pull_fails(
    u: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Python cannot start a thread, the worker prefetches nothing and the pull succeeds."""
    p = pulling(u, tmp_path, prefetch=1)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "ahead":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    p.get("manifests/v1")

    first_blob(p)


def test_a_large_layer_is_fetched_once_over_several_connections(
    u: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer with a large size in its manifest is downloaded once over several connections."""
    monkeypatch.setattr(writer, "_LARGE", 100_000)
    monkeypatch.setattr(parallel, "PART_SIZE", 64_000)
    large = images.filler(300_000, 99)
    u.add_image(NAME, "large", [large])
    p = pulling(u, tmp_path, lanes=3)
    p.get("manifests/large")
    got = p.get(f"blobs/{Digest.of(large)}")

    assert got.content == large
    parts = u.find("GET", str(Digest.of(large)))
    assert len(parts) == 6
    assert sum(each.sent for each in parts) == len(large)


def test_a_large_prefetch_uses_several_connections(
    u: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large layer is prefetched over several connections, because a client may need it soon."""
    monkeypatch.setattr(writer, "_LARGE", 100_000)
    large = images.filler(300_000, 99)
    u.add_image(NAME, "large", [LAYERS[0], large])
    p = pulling(u, tmp_path, prefetch=1, lanes=3)
    p.get("manifests/large")
    first_blob(p)
    eventually(lambda: has(p, large))

    parts = u.find("GET", str(Digest.of(large)))
    assert len(parts) == 3
    assert sum(each.sent for each in parts) == len(large)


def test_a_large_blob_without_a_manifest_is_one_request(
    u: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a stored manifest, a worker does not know in advance that a blob is large.

    So it downloads the blob with one request.
    """
    monkeypatch.setattr(writer, "_LARGE", 100_000)
    large = images.filler(300_000, 99)
    u.add_image(NAME, "large", [large])
    p = pulling(u, tmp_path, lanes=3)

    assert p.get(f"blobs/{Digest.of(large)}").content == large
    assert u.count("GET", "/blobs/") == 1
