"""What was pushed stays; everything else may go."""

from __future__ import annotations

import pytest

from cleaner.hosted import Hosted, Kept
from cleaner.store import Store
from datastore.errors import StorageBroken
from datastore.refs import Digest, Repository
from tests import images
from tests.cleaner.stock import HOSTED, pull, push, put_image, put_manifest


def test_a_hosted_image_is_kept_whole(store: Store) -> None:
    """Its manifest, its config and its layers."""
    pushed = push(store, 1, used=0)

    assert Hosted(store).kept() == set(pushed.digests)


def test_a_proxied_image_is_not_kept(store: Store) -> None:
    """Its upstream has it."""
    pull(store, 1, used=0)

    assert Hosted(store).kept() == set()


def test_what_a_hosted_and_a_proxied_repository_share_is_kept(store: Store) -> None:
    """Content has no owner: one hosted link is enough."""
    pulled = pull(store, 1, used=0)
    store.repositories.link_blob(HOSTED, pulled.digests[-1])

    assert Hosted(store).kept() == {pulled.digests[-1]}


def test_a_hosted_repository_below_a_proxied_one_is_kept(store: Store) -> None:
    """A name says nothing of where it came from; its origin does."""
    pull(store, 1, used=0, name=Repository("quay.io/podman"))
    pushed = push(store, 2, used=0, name=Repository("quay.io/podman/own"))

    assert Hosted(store).kept() == set(pushed.digests)


def test_an_index_keeps_its_children_and_what_they_name(store: Store) -> None:
    """Be they linked or not, and be one of them not here."""
    here, away = images.image([b"here"]), images.image([b"away"], architecture="arm64")
    parts = put_image(store, here, used=0)
    body, media_type = images.index([here, away])
    index = put_manifest(store, body, media_type, used=0)
    store.repositories.link_manifest(HOSTED, index)

    assert Hosted(store).kept() == {index, *parts, away.digest}


def test_a_manifest_of_an_unknown_type_is_kept_with_the_blobs_that_are_linked(
    store: Store,
) -> None:
    """An old data directory holds manifests that nobody reads any more."""
    body = b'{"schemaVersion": 1}'
    old, layer = Digest.of(body), Digest.of(b"layer")
    store.blobs.write(old, body)
    store.repositories.link_manifest(HOSTED, old)
    store.repositories.link_blob(HOSTED, layer)

    assert Hosted(store).kept() == {old, layer}


def test_a_manifest_that_comes_back_is_read(store: Store) -> None:
    """What was not here the last time may be here now."""
    made, hosted = images.image([b"layer"]), Hosted(store)
    store.repositories.link_manifest(HOSTED, made.digest)
    assert hosted.kept() == {made.digest}

    put_image(store, made, used=0)

    assert hosted.kept() == {made.digest, *map(Digest.of, made.blobs)}


def test_nothing_is_looked_for_before_something_is_to_go(store: Store) -> None:
    """The walk is for those rounds that evict."""
    hosted = _Counting(store)
    kept = Kept(hosted)
    assert hosted.walks == 0

    assert not kept.spares(Digest.of(b"one"))
    assert not kept.spares(Digest.of(b"two"))

    assert hosted.walks == 1


def test_what_can_not_be_read_is_not_taken_for_nothing(store: Store) -> None:
    """A disk that fails must not make a pushed image look unwanted."""
    kept = Kept(_Failing(store))

    with pytest.raises(StorageBroken):
        kept.spares(Digest.of(b"one"))


class _Counting(Hosted):
    walks = 0

    def kept(self) -> set[Digest]:
        self.walks += 1
        return super().kept()


class _Failing(Hosted):
    def kept(self) -> set[Digest]:
        raise StorageBroken("input/output error")
