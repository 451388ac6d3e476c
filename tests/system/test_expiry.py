"""Pushed images expire after a time without a pull; layers that another image uses are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests import images
from tests.images import Image, filler, image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.images import KB
from tests.system.pulls import manifest_path, pull, pull_manifest
from tests.system.pushes import ALLOWED, push, push_blob, push_index, put_manifest, tags
from tests.system.waiting import eventually

_TTL = {"CLEANER_HOSTED": "true", "CLEANER_TTL": "3s"}
_NAME = "team/app"


def _has(appliance: Appliance, content: bytes) -> bool:
    return (appliance.data / layout.blob(Digest.of(content))).exists()


def _gone(appliance: Appliance, made: Image, kept: tuple[bytes, ...] = ()) -> bool:
    return not any(
        _has(appliance, each) for each in (made.manifest, *made.blobs) if each not in kept
    )


@pytest.fixture(scope="module")
def expiring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Run an appliance whose pushed content expires after 3 s without a use."""
    with Appliance(tmp_path_factory.mktemp("expiring"), Setup(environment=_TTL)) as appliance:
        yield appliance


@contextmanager
def _pulling(appliance: Appliance, tag: str) -> Iterator[None]:
    """Request a manifest repeatedly, as a cluster does, until the end of the `with` block."""
    stop = threading.Event()

    def request() -> None:
        while not stop.wait(0.3):
            appliance.http.head(manifest_path(_NAME, tag))

    thread = threading.Thread(target=request)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_images_expire_by_last_use_and_a_shared_layer_stays(expiring: Appliance) -> None:
    """If two hosted images share a layer and one of them expires, the shared layer is kept."""
    appliance = expiring
    shared = filler(100 * KB, 9)
    used = image([shared, filler(50 * KB, 1)], command=("used",))
    idle = image([shared, filler(50 * KB, 2)], command=("idle",))
    assert push(appliance.http, _NAME, "used", used)
    assert push(appliance.http, _NAME, "idle", idle)

    with _pulling(appliance, "used"):
        eventually(lambda: tags(appliance.http, _NAME) == ["used"], what="the idle tag is deleted")
        eventually(lambda: _gone(appliance, idle, (shared,)), what="the idle content is deleted")
        assert appliance.http.get(manifest_path(_NAME, idle.digest)).status == 404
        assert pull(appliance.http, _NAME, "used")[0] == used.digest
    eventually(lambda: _gone(appliance, used), what="the other image expires without pulls")

    assert appliance.http.get(f"/v2/{_NAME}/tags/list").status == 404
    assert push(appliance.http, _NAME, "idle", idle)
    assert pull(appliance.http, _NAME, "idle")[0] == idle.digest


def test_an_index_and_its_signature_go_as_one(expiring: Appliance) -> None:
    """While clients pull one image of an index, the index and its other image's signature are kept.

    When the pulls end, the index, its images and the signature expire.
    """
    appliance = expiring
    children = [image([filler(KB, n)], command=(str(n),)) for n in range(2)]
    index = push_index(appliance.http, _NAME, "all", children)
    signature = images.artifact(children[0], b"signature", "application/example")
    assert push(appliance.http, _NAME, signature.digest, signature)

    with _pulling(appliance, str(children[1].digest)):
        idle = image([filler(KB, 7)], command=("idle",))
        assert push(appliance.http, _NAME, "idle", idle)
        eventually(lambda: _gone(appliance, idle), what="the idle image is deleted")
        assert pull_manifest(appliance.http, _NAME, "all").status == 200
        referrers = appliance.http.get(f"/v2/{_NAME}/referrers/{children[0].digest}")
        assert len(json.loads(referrers.body)["manifests"]) == 1
    everything = (*children, signature)
    eventually(lambda: all(_gone(appliance, each) for each in everything), what="all have expired")

    assert appliance.http.get(manifest_path(_NAME, index)).status == 404


def test_the_newest_tags_stay_by_rule_and_everything_else_for_ever(start: Start) -> None:
    """With a rule only the newest tags of a repository stay; without a rule all tags stay."""
    hosted = {"hosted": {"ci/*": {"keep": 2}}, "cleaner": {"runevery": "1s"}}
    appliance = start(Setup(settings=hosted))
    made = [image([filler(KB, n)], command=(str(n),)) for n in range(4)]
    for number, each in enumerate(made):
        assert push(appliance.http, "ci/app", f"b{number}", each)
        assert push(appliance.http, "prod/app", f"b{number}", each)

    eventually(lambda: tags(appliance.http, "ci/app") == ["b2", "b3"], what="old tags are deleted")

    assert tags(appliance.http, "prod/app") == ["b0", "b1", "b2", "b3"]
    assert [pull(appliance.http, "prod/app", each.digest)[0] for each in made] == [
        each.digest for each in made
    ]


def test_garbage_goes_beside_a_push_whose_manifest_is_still_to_come(start: Start) -> None:
    """While a push is running, the garbage collection deletes none of its blobs.

    Other blobs that no manifest references are deleted.
    """
    quick = {"cleaner": {"runevery": "1s", "garbage": "6s"}}
    appliance = start(Setup(settings=ALLOWED | quick))
    deleted, coming = (image([filler(50 * KB, n)], command=(str(n),)) for n in range(2))
    assert push(appliance.http, _NAME, "v1", deleted)
    assert appliance.http.request("DELETE", manifest_path(_NAME, deleted.digest)).status == 202
    for blob in coming.blobs:
        assert push_blob(appliance.http, _NAME, blob).status == 201

    def is_gone() -> bool:
        for blob in coming.blobs:  # a slow client, which is still pushing layers
            assert push_blob(appliance.http, _NAME, blob).status == 201
        return _gone(appliance, deleted)

    eventually(is_gone, what="the deleted image's blobs are removed", within=30)

    done = put_manifest(appliance.http, _NAME, "v2", coming.manifest, coming.media_type)
    assert done.status == 201
    assert pull(appliance.http, _NAME, "v2")[0] == coming.digest


@pytest.mark.parametrize("hosted", ["true", "false"])
def test_room_is_made_of_pushed_images_only_where_that_is_allowed(
    start: Start, hosted: str
) -> None:
    """Pushed images are evicted for a new push only if the settings permit it."""
    cap = {"CLEANER_MAXSIZE": "8M", "CLEANER_THRESHOLD_PERCENTAGE": "25", "CLEANER_TTL": "0"}
    appliance = start(Setup(environment=cap | {"CLEANER_HOSTED": hosted}))
    made = [image([filler(1500 * KB, n)], command=(str(n),)) for n in range(8)]

    taken = [push(appliance.http, _NAME, f"v{n}", each) for n, each in enumerate(made)]

    left = tags(appliance.http, _NAME)
    if hosted == "true":
        assert all(taken)
        assert "v7" in left
        assert "v0" not in left
    else:
        assert left == [f"v{n}" for n in range(8) if taken[n]]
        assert "v7" not in left
    for tag in left:
        assert pull(appliance.http, _NAME, tag)[0] == made[int(tag[1:])].digest
