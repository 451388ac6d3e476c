"""Tests how a `ContentStore` reads manifests, and which parsed manifests it caches."""

from __future__ import annotations

import json
import tracemalloc
from math import inf
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.content import ContentStore, StoredManifest
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.manifest import DOCKER_MANIFEST, LARGEST, OCI_MANIFEST, parse
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.rebuild import rebuild
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.datastore.storage import TimedStat
from entrepot.registry.pullthrough.manifests import KeyedLock, Manifests
from entrepot.registry.pullthrough.recent_answers import NegativeCache
from entrepot.registry.pullthrough.responses import ManifestAnswer, ResponseSource
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.registry.upstream.upstream_config import UpstreamConfig as Upstream
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from tests import images

NAME = Repository("one.test/library/app")
IMAGE = images.image([images.layer({"a": b"one"}), images.layer({"b": b"another"})])


class Counting(Filesystem):
    """A storage that records the key of each `stat`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.checked: list[str] = []

    def stat(self, key: str) -> TimedStat | None:
        """Record *key*, and return the attributes of its value."""
        self.checked.append(key)
        return super().stat(key)


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    """Return a storage with an empty data directory."""
    return Counting(tmp_path)


@pytest.fixture
def store(storage: Counting) -> ContentStore:
    """Return a content store that has a complete image."""
    index = MemoryIndex()
    store = ContentStore(
        BlobStore(storage),
        Repositories(storage),
        index,
        Reservations(index.reservations, SpaceLimits(), notes=index.notes),
        Proofs(storage),
    )
    for content in IMAGE.blobs:
        store.blobs.write(Digest.of(content), content)
        store.link_blob(NAME, Digest.of(content), "one.test")
    store.blobs.write(IMAGE.digest, IMAGE.manifest)
    store.link_manifest(NAME, _parsed(IMAGE.manifest), "one.test")
    return store


def _parsed(body: bytes, media_type: str = OCI_MANIFEST) -> StoredManifest:
    return StoredManifest(Digest.of(body), body, parse(body, media_type))


def _stored(store: ContentStore) -> StoredManifest:
    found = store.manifest(NAME, IMAGE.digest)
    assert found is not None
    return found


def test_a_manifest_is_parsed_once(store: ContentStore) -> None:
    """A manifest that is read twice is parsed once, because parsing is slow."""
    assert _stored(store).manifest is _stored(store).manifest


def test_a_cached_manifest_is_returned_only_while_it_is_stored(store: ContentStore) -> None:
    """If the content of a manifest is deleted, `manifest` does not return it from the cache."""
    _stored(store)
    store.blobs.delete(IMAGE.digest)

    assert store.manifest(NAME, IMAGE.digest) is None


def test_a_manifest_is_parsed_again_for_another_media_type(store: ContentStore) -> None:
    """A manifest that states no media type is parsed with the type that was received last."""
    fields = json.loads(IMAGE.manifest)
    del fields["mediaType"]
    bare = json.dumps(fields).encode()
    store.blobs.write(Digest.of(bare), bare)
    for media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
        store.link_manifest(NAME, _parsed(bare, media_type), "one.test")

        found = store.manifest(NAME, Digest.of(bare))
        assert found is not None
        assert found.media_type == media_type


def test_a_long_manifest_is_not_cached(store: ContentStore) -> None:
    """A manifest above 16 KiB is not cached after parsing, to save the memory of the worker."""
    padded = IMAGE.manifest + b" " * 16 * 1024
    store.blobs.write(Digest.of(padded), padded)
    readings = [store.content(Digest.of(padded)) for _ in range(2)]

    assert readings[0] == readings[1]
    assert readings[0] is not None
    assert readings[1] is not None
    assert readings[0].manifest is not readings[1].manifest


def test_a_pull_by_digest_checks_each_part_once(store: ContentStore, storage: Counting) -> None:
    """For each part of an image, a pull by digest checks only once whether the part is stored.

    The worker uses the result twice: to decide whether it serves the manifest, and for how long
    HAProxy may cache it.
    """
    manifests = Manifests(store, KeyedLock(Path("locks")), NegativeCache())
    resolved = _resolved()
    storage.checked.clear()
    answer = manifests.get(resolved, IMAGE.digest)

    assert manifests.cacheable_for(resolved, answer) == inf
    for content in IMAGE.blobs:
        digest = Digest.of(content)
        assert storage.checked.count(layout.blob(digest)) == 1
        assert storage.checked.count(layout.layer_link(NAME, digest)) == 1


def test_an_unchecked_manifest_is_checked_before_it_is_cached(store: ContentStore) -> None:
    """If a part of a stored manifest is missing, HAProxy may not cache the manifest."""
    manifests = Manifests(store, KeyedLock(Path("locks")), NegativeCache())
    store.blobs.delete(Digest.of(IMAGE.layers[0]))

    assert (
        manifests.cacheable_for(_resolved(), ManifestAnswer(_stored(store), ResponseSource.HIT))
        == 0
    )


def _resolved() -> ResolvedRepository:
    table = UpstreamTable(FixedUpstreams({"one.test": Upstream("one.test", "http://127.0.0.1:1")}))
    return ResolvedRepository(NAME, table.find("one.test"), "library/app")


@pytest.mark.parametrize("size", [LARGEST + 1, 600 * 1024 * 1024])
def test_a_layer_requested_as_a_manifest_is_not_read(tmp_path: Path, size: int) -> None:
    """If a client requests a large layer as if it were a manifest, the layer is not read."""
    storage = Filesystem(tmp_path)
    storage.write(layout.blob(IMAGE.digest), b"")
    with (tmp_path / layout.blob(IMAGE.digest)).open("wb") as file:
        file.truncate(size)
    links = Repositories(storage)
    links.link_manifest(NAME, IMAGE.digest, OCI_MANIFEST)
    index = MemoryIndex()
    store = ContentStore(
        BlobStore(storage),
        links,
        index,
        Reservations(index.reservations, SpaceLimits(), notes=index.notes),
        Proofs(storage),
    )
    tracemalloc.start()
    try:
        found = store.manifest(NAME, IMAGE.digest), store.content(IMAGE.digest)
        rebuild(storage, index, 0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found == (None, None)
    assert peak < 10 * 1024 * 1024
