"""No content is lost if pushes run at the same time as deletions, mounts and evictions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import ContentKind, Index
from entrepot.datastore.refs import Digest, Repository
from tests import images
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, pushing
from tests.sizes import scaled

_ROUNDS = scaled(8, 25)
_CONTENT = filler(5000, 1)
_DIGEST = Digest.of(_CONTENT)
_OTHER = "team/other"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Open an index on disk, which the workers share."""
    found = open_index(tmp_path)
    yield found
    found.close()


@pytest.fixture
def p(tmp_path: Path, index: Index) -> Pushing:
    """Return a worker of the registry."""
    return pushing(tmp_path / "data", index=index)


@contextmanager
def _concurrently(act: Callable[[], object]) -> Iterator[None]:
    """Repeat *act* in another thread until the end of the `with` block."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not over.is_set():
                act()
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert failures == []


def test_a_mount_during_a_delete_links_content_or_nothing(p: Pushing) -> None:
    """If a blob is deleted while a client mounts it, the mount either succeeds or begins an upload.

    After a 201 the blob can be pulled; after a 202 it cannot.
    """

    def come_and_go() -> None:
        p.blob(_CONTENT, _OTHER)
        p.send("DELETE", f"/v2/{_OTHER}/blobs/{_DIGEST}")

    seen = set()
    with _concurrently(come_and_go):
        for _ in range(_ROUNDS):
            done = p.ask("POST", f"blobs/uploads/?mount={_DIGEST}&from={_OTHER}")
            there = p.ask("GET", f"blobs/{_DIGEST}")
            assert (done.status_code, there.status_code) in {(201, 200), (202, 404)}
            seen.add(done.status_code)
            if done.status_code == 201:
                assert there.content == _CONTENT
                p.ask("DELETE", f"blobs/{_DIGEST}")
            else:
                p.send("DELETE", done.headers["location"])

    assert seen <= {201, 202}


def test_an_eviction_during_a_push_removes_no_acknowledged_blob(p: Pushing, index: Index) -> None:
    """After a push got 201, a concurrent eviction does not delete the pushed blob."""
    blobs = BlobStore(p.storage)
    # simulates the lock of the index: no commit may occur between the check and the deletion
    commit_lock = threading.Lock()

    def evict() -> None:
        # the real cleaner makes these calls in this order
        began, awaited = time.time(), index.pins.all()
        staying = awaited | set(p.repositories.blobs(Repository(NAME)))
        for entry in index.oldest(None, 100):
            with commit_lock:
                if (
                    entry.used < began
                    and entry.digest not in staying
                    and index.mark_for_deletion(entry)
                ):
                    blobs.delete(entry.digest)
                    index.forget(entry.digest)

    with _concurrently(evict):
        for _ in range(_ROUNDS):
            with commit_lock:
                blobs.write(_DIGEST, _CONTENT)
                index.record(_DIGEST, len(_CONTENT), ContentKind.BLOB, 1.0)
            p.blob(_CONTENT)
            assert p.ask("GET", f"blobs/{_DIGEST}").content == _CONTENT
            p.ask("DELETE", f"blobs/{_DIGEST}")

    assert index.reservations.all() == []


def test_a_tag_set_during_a_delete_of_its_manifest_does_not_dangle(p: Pushing) -> None:
    """If a manifest is deleted while a client tags it, no tag without a manifest remains."""
    made = image([filler(1000, 2)])
    p.image(made, made.digest)
    other = pushing(p.root, index=p.index)

    def delete() -> None:
        other.ask("DELETE", f"manifests/{made.digest}")

    with _concurrently(delete):
        for _ in range(_ROUNDS):
            assert p.manifest(made.manifest, made.media_type, "v1").status_code == 201

    for tag in p.tags():
        assert p.ask("GET", f"manifests/{tag}").status_code == 200


def test_simultaneous_referrers_are_all_listed(p: Pushing) -> None:
    """If eight clients push referrers at the same time, all eight are listed.

    If clients themselves stored the list of referrers under a tag, one client could overwrite the
    entry of another client.
    """
    subject = image([filler(1000, 3)])
    p.image(subject)
    made = [images.artifact(subject, str(number).encode(), "test/kind") for number in range(8)]
    for each in made:
        for blob in each.blobs:
            p.blob(blob)

    def push(number: int) -> None:
        each = made[number]
        p.manifest(each.manifest, each.media_type, each.digest)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    listed = p.ask("GET", f"referrers/{subject.digest}").json["manifests"]
    assert {each["digest"] for each in listed} == {str(each.digest) for each in made}
