"""Entrepot can serve the data directory that the benchmark writes, without an upstream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.address import ServerAddress
from bench.kinds import NAME
from bench.many import PARTS, write
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.drivers.table import on_disk, open_storage
from entrepot.datastore.manifest import parse
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories


def test_a_repository_links_each_object_and_names_its_upstream(tmp_path: Path) -> None:
    """The written repository has links to all manifests and blobs, and the name of its upstream.

    A request for an object without a link would reach the upstream.
    """
    written = write(tmp_path, 3)
    storage = open_storage(on_disk(tmp_path))
    repositories, name = Repositories(storage), Repository.parse(f"{NAME}/library/many")

    assert repositories.origin(name) == NAME
    assert {str(each) for each in repositories.manifests(name)} == set(written.manifests)
    assert {str(each) for each in repositories.blobs(name)} == set(written.blobs)
    for each in written.manifests:
        manifest = parse(BlobStore(storage).read(Digest.parse(each)), None)
        assert all(repositories.links_blob(name, part) for part in manifest.parts())


def test_the_first_rank_is_requested_most_and_all_paths_differ_between_rounds(
    tmp_path: Path,
) -> None:
    """The first blob is requested most often, and the order of requests differs between rounds."""
    written = write(tmp_path, 20)
    address = ServerAddress(1)
    first, second = (list(written.sampled(address, seed)) for seed in (1, 2))
    counted = Counter(path for path in first if "/blobs/" in path)

    assert counted.most_common(1)[0][0] == address.blob("library/many", written.blobs[0])
    assert len(counted) == 20 * PARTS
    assert first != second


def test_the_plain_requests_have_the_same_proportion(tmp_path: Path) -> None:
    """The requests for comparison have five blobs for each manifest, like the measured requests.

    All paths differ, because a worker would send the response to an equal request from memory.
    """
    paths = list(write(tmp_path, 2).plain(ServerAddress(1)))
    kinds = [path.split("/")[-2] for path in paths]

    assert kinds[: 1 + PARTS] == ["manifests", *["blobs"] * PARTS]
    assert kinds.count("blobs") == PARTS * kinds.count("manifests")
    assert len(set(paths)) == len(paths)
