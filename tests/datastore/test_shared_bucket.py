"""Tests of `storage.shared`, with which docker distribution can write to the same bucket."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.owner import KEY
from entrepot.datastore.drivers.objects.setup import BucketParts, parts_of
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.errors import NotFound, StorageBroken
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories
from tests.clock import Clock
from tests.s3_front import ApplyLater, LoseAnswer, S3Front
from tests.s3_storage import owned, parameters

pytestmark = pytest.mark.slow

HOSTED, PROXIED = Repository("team/app"), Repository("one.test/app")
OLD, NEW = Digest.of(b"old"), Digest.of(b"new")
V1 = layout.tag_current(HOSTED, Tag("v1"))


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the journal."""
    return Clock(1000.0)


@pytest.fixture
def parts(s3: S3Front, tmp_path: Path, clock: Clock) -> BucketParts:
    """Return the `BucketParts` of an appliance that shares the bucket."""
    return parts_of("s3", parameters(s3, tmp_path, shared=True), clock)


@pytest.fixture
def storage(parts: BucketParts) -> ObjectStorage:
    """Return the storage of an appliance that shares the bucket."""
    return parts.storage()


def test_a_tag_of_a_hosted_repository_is_remembered_for_ten_seconds(
    s3: S3Front, storage: ObjectStorage, clock: Clock
) -> None:
    """A tag of a hosted repository is remembered for ten seconds, then read from the bucket again.

    docker distribution may have moved or deleted the tag meanwhile.
    """
    storage.write(V1, str(OLD).encode())
    s3.put(V1, str(NEW).encode())
    clock.now += 9.0
    assert storage.read(V1) == str(OLD).encode()
    clock.now += 1.0
    assert storage.read(V1) == str(NEW).encode()

    s3.delete(V1)
    clock.now += 10.0

    with pytest.raises(NotFound):
        storage.read(V1)


def test_a_tag_whose_write_got_no_answer_has_no_local_copy(
    s3: S3Front, storage: ObjectStorage, clock: Clock
) -> None:
    """If the write of a shared tag gets no response, the tag is still read from the bucket.

    docker distribution may move the tag after the write. A local copy would hide this change.
    """
    s3.fault("PUT", "link$", LoseAnswer(), times=1)
    storage.write(V1, str(OLD).encode())
    s3.put(V1, str(NEW).encode())
    clock.now += 10.0

    assert storage.read(V1) == str(NEW).encode()


def _push_after_a_late_removal(s3: S3Front, storage: ObjectStorage, clock: Clock) -> ApplyLater:
    """Remove a tag with a request that gets no response, and write the tag again 20 s later."""
    late = ApplyLater(threading.Event())
    storage.write(V1, b"removed")
    s3.fault("DELETE", "link$", late, times=1)
    with pytest.raises(StorageBroken):
        storage.delete(V1)
    clock.now += 20.0
    storage.write(V1, str(OLD).encode())
    return late


def test_a_late_removal_of_a_shared_tag_is_repaired(
    s3: S3Front, parts: BucketParts, clock: Clock
) -> None:
    """If the bucket applies a removal late, the tag is read from its local copy.

    Later the tag is written to the bucket again.
    """
    storage = parts.storage()
    late = _push_after_a_late_removal(s3, storage, clock)
    late.when.set()
    assert late.applied.wait(60)
    clock.now += 10.0
    assert storage.stat(V1) is not None
    assert storage.read(V1) == str(OLD).encode()
    assert s3.get(V1) is None
    clock.now += 1000.0

    parts.copies().repair()

    assert s3.get(V1) == str(OLD).encode()


def test_the_local_copy_of_a_shared_tag_replaces_no_tag(
    s3: S3Front, parts: BucketParts, clock: Clock
) -> None:
    """If docker distribution moves a tag, the older local copy does not replace the tag."""
    storage = parts.storage()
    _push_after_a_late_removal(s3, storage, clock)
    s3.put(V1, str(NEW).encode())
    clock.now += 10.0
    assert storage.read(V1) == str(NEW).encode()
    clock.now += 1000.0

    parts.copies().repair()

    assert s3.get(V1) == str(NEW).encode()


def test_an_absence_is_not_remembered(s3: S3Front, storage: ObjectStorage) -> None:
    """The absence of content is not remembered, so docker distribution can store it at any time.

    Lists of names are not remembered either.
    """
    blob, link = layout.blob(NEW), layout.layer_link(HOSTED, NEW)
    assert [storage.stat(key) for key in (blob, link)] == [None, None]
    assert list(storage.list(layout.tags(HOSTED))) == []

    for key in (blob, link, V1):
        s3.put(key, str(NEW).encode())

    assert storage.stat(blob) is not None
    assert storage.stat(link) is not None
    assert list(storage.list(layout.tags(HOSTED))) == ["v1"]


def test_content_and_proxied_repositories_are_remembered(
    s3: S3Front, storage: ObjectStorage, clock: Clock
) -> None:
    """Blobs and the tags and origins of proxied repositories are remembered without a time limit.

    docker distribution does not change them. It writes no origins, so the absence of an origin is
    remembered too.
    """
    keys = (layout.blob(NEW), layout.tag_current(PROXIED, Tag("v1")), layout.origin(HOSTED))
    storage.write(layout.origin(PROXIED), b"one.test")
    for key in keys[:2]:
        storage.write(key, b"content")
    assert storage.stat(keys[2]) is None
    clock.now += 3600.0
    s3.forget()

    assert [storage.stat(key) is not None for key in keys] == [True, True, False]
    assert s3.requests == []


def test_a_link_is_written_although_it_is_remembered(s3: S3Front, storage: ObjectStorage) -> None:
    """A remembered link is written again, because docker distribution may have removed it."""
    repositories = Repositories(storage)
    repositories.link_blob(HOSTED, NEW)
    s3.delete(layout.layer_link(HOSTED, NEW))

    repositories.link_blob(HOSTED, NEW)

    assert s3.get(layout.layer_link(HOSTED, NEW)) is not None


def test_a_bucket_that_another_appliance_owns_is_not_shared(s3: S3Front, tmp_path: Path) -> None:
    """An appliance with `storage.shared` finds out whether another appliance owns the bucket.

    The owner of a bucket remembers values, so it would not notice writes of other appliances. If
    this appliance itself became the owner in an earlier run without `storage.shared`, it releases
    the ownership.
    """
    owned(s3, tmp_path / "other")
    shared = parts_of("s3", parameters(s3, tmp_path / "ours", shared=True), Clock(0.0))
    again = parts_of("s3", parameters(s3, tmp_path / "other", shared=True), Clock(0.0))

    assert shared.is_of_another()
    assert not again.is_of_another()
    assert s3.get(KEY) is None
    assert not shared.is_of_another()
