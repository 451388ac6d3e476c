"""What is here, as pulls see it: read once, looked for each time."""

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
from entrepot.datastore.storage import Stat
from entrepot.registry.pullthrough.manifests import KeyedLock, Manifests
from entrepot.registry.pullthrough.recent_answers import NegativeCache
from entrepot.registry.pullthrough.responses import ManifestAnswer, ResponseSource
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.registry.upstream.upstream_config import UpstreamConfig as Upstream
from entrepot.registry.upstream.upstreams import Fixed, UpstreamTable
from tests import images

NAME = Repository("one.test/library/app")
IMAGE = images.image([images.layer({"a": b"one"}), images.layer({"b": b"another"})])


class Counting(Filesystem):
    """Files that remember what was looked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.looked_for: list[str] = []

    def stat(self, key: str) -> Stat | None:
        """Note the key."""
        self.looked_for.append(key)
        return super().stat(key)


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    """Return a data directory that holds one whole image."""
    return Counting(tmp_path)


@pytest.fixture
def store(storage: Counting) -> ContentStore:
    """Return it as a pull sees it."""
    index = MemoryIndex()
    store = ContentStore(
        BlobStore(storage),
        Repositories(storage),
        index,
        Reservations(index, SpaceLimits()),
        Proofs(storage),
    )
    for content in IMAGE.blobs:
        store.blobs.write(Digest.of(content), content)
        store.link_blob(NAME, Digest.of(content), "one.test")
    store.blobs.write(IMAGE.digest, IMAGE.manifest)
    store.link_manifest(NAME, _read(IMAGE.manifest), "one.test")
    return store


def _read(body: bytes, media_type: str = OCI_MANIFEST) -> StoredManifest:
    return StoredManifest(Digest.of(body), body, parse(body, media_type))


def _held(store: ContentStore) -> StoredManifest:
    held = store.manifest(NAME, IMAGE.digest)
    assert held is not None
    return held


def test_the_same_bytes_are_read_as_json_once(store: ContentStore) -> None:
    """What they mean never changes, and reading them is the dearest part of a hit."""
    assert _held(store).manifest is _held(store).manifest


def test_what_was_read_before_is_shown_only_while_it_is_here(store: ContentStore) -> None:
    """The link is looked for each time, and so is the content."""
    _held(store)
    store.blobs.delete(IMAGE.digest)

    assert store.manifest(NAME, IMAGE.digest) is None


def test_another_media_type_is_another_reading(store: ContentStore) -> None:
    """Of bytes that do not state it; it may be set anew by whoever pushes them there."""
    fields = json.loads(IMAGE.manifest)
    del fields["mediaType"]
    bare = json.dumps(fields).encode()
    store.blobs.write(Digest.of(bare), bare)
    for media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
        store.link_manifest(NAME, _read(bare, media_type), "one.test")

        found = store.manifest(NAME, Digest.of(bare))
        assert found is not None
        assert found.media_type == media_type


def test_a_long_manifest_is_not_remembered(store: ContentStore) -> None:
    """Or a few of 4 MiB would be a worker's memory."""
    padded = IMAGE.manifest + b" " * 16 * 1024
    store.blobs.write(Digest.of(padded), padded)
    readings = [store.content(Digest.of(padded)) for _ in range(2)]

    assert readings[0] == readings[1]
    assert readings[0] is not None
    assert readings[1] is not None
    assert readings[0].manifest is not readings[1].manifest


def test_by_digest_each_part_is_looked_for_once(store: ContentStore, storage: Counting) -> None:
    """Whether it may be shown and whether memory may keep it is one look at the parts."""
    manifests = Manifests(store, KeyedLock(Path("locks")), NegativeCache())
    place = _place()
    storage.looked_for.clear()
    answer = manifests.get(place, IMAGE.digest)

    assert manifests.holds(place, answer) == inf
    for content in IMAGE.blobs:
        digest = Digest.of(content)
        assert storage.looked_for.count(layout.blob(digest)) == 1
        assert storage.looked_for.count(layout.layer_link(NAME, digest)) == 1


def test_an_answer_whose_parts_nobody_looked_for_is_looked_at(store: ContentStore) -> None:
    """Memory keeps nothing that is not whole."""
    manifests = Manifests(store, KeyedLock(Path("locks")), NegativeCache())
    store.blobs.delete(Digest.of(IMAGE.layers[0]))

    assert manifests.holds(_place(), ManifestAnswer(_held(store), ResponseSource.HIT)) == 0


def _place() -> ResolvedRepository:
    table = UpstreamTable(Fixed({"one.test": Upstream("one.test", "http://127.0.0.1:1")}))
    return ResolvedRepository(NAME, table.find("one.test"), "library/app")


@pytest.mark.parametrize("size", [LARGEST + 1, 600 * 1024 * 1024])
def test_a_layer_that_is_asked_for_as_a_manifest_is_not_read(tmp_path: Path, size: int) -> None:
    """A request for 600 MB took twice as much memory, and eight of them the worker's life."""
    storage = Filesystem(tmp_path)
    storage.write(layout.blob(IMAGE.digest), b"")
    with (tmp_path / layout.blob(IMAGE.digest)).open("wb") as file:
        file.truncate(size)
    links = Repositories(storage)
    links.link_manifest(NAME, IMAGE.digest, OCI_MANIFEST)
    index = MemoryIndex()
    store = ContentStore(
        BlobStore(storage), links, index, Reservations(index, SpaceLimits()), Proofs(storage)
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
