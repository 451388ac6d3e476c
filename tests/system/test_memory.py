"""Responses of HAProxy's cache are as correct as responses of the workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.accesslog import AccessLine
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.refs import Digest
from entrepot.edge.cache_epoch import CacheEpoch
from tests.images import Image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.datadir import access_lines
from tests.system.http_client import HttpClient, Response
from tests.system.images import KB, of_size
from tests.system.pulls import blob_path, manifest_path, pull
from tests.system.pushes import push
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

FROM_CACHE = "entrepot; hit; detail=memory"
NAME = "one.test/app"
AT_ONCE = 10.0
"""A change must apply within this time (s), even on a busy machine."""


def is_cached(response: Response) -> bool:
    """Return True if the response came from HAProxy's cache."""
    assert response.status in (200, 304), response
    return response.headers["cache-status"] == FROM_CACHE


def warm(http: HttpClient, *paths: str) -> None:
    """Send requests for *paths* until HAProxy's cache responds to each."""
    for path in paths:
        eventually(lambda path=path: is_cached(http.get(path)), what=f"{path} is cached")  # type: ignore[misc] # bound at once


def start_appliance(start: Start, setup: Setup) -> Appliance:
    """Start an appliance, and wait until its cleaner has raised the cache epoch once.

    The cleaner raises the cache epoch at its start. If a test began before this, the new epoch
    would purge the responses that the test expects in the cache.
    """
    appliance = start(setup)
    epoch = CacheEpoch(Path((appliance.state / "run").read_text()))
    eventually(lambda: int(epoch.now()) > 1, what="the cleaner has started")
    return appliance


@pytest.fixture(scope="module")
def image(public: Registry) -> Image:
    """Push an image to the upstream; its layer is too large for HAProxy's cache."""
    return public.push("memory/app", "v1", of_size(200 * KB, 600))


@pytest.fixture(scope="module")
def warmed(shared: Appliance, image: Image) -> Appliance:
    """Return an appliance whose HAProxy has cached the image, by tag and by digest."""
    pull(shared.http, "one.test/memory/app", "v1")
    warm(shared.http, *_paths(image))
    return shared


@dataclass(frozen=True, slots=True)
class OneUpstream:
    """An upstream that one test uses and can stop, and the appliance in front of it."""

    appliance: Appliance
    fake: FakeUpstream
    host: str


@pytest.fixture(scope="module")
def several(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Appliance, Iterator[OneUpstream]]]:
    """Run one appliance in front of several upstreams, one for each test."""
    with ExitStack() as stack:
        fakes = {f"u{n}.test": stack.enter_context(FakeUpstream()) for n in range(5)}
        folder = tmp_path_factory.mktemp("several")
        appliance = start_appliance(
            lambda setup: stack.enter_context(Appliance(folder, setup)),
            Setup({host: {"url": fake.url} for host, fake in fakes.items()}),
        )
        yield appliance, (OneUpstream(appliance, fake, host) for host, fake in fakes.items())


@pytest.fixture
def upstream(several: tuple[Appliance, Iterator[OneUpstream]]) -> OneUpstream:
    """Return an upstream that no other test uses."""
    return next(several[1])


def _paths(image: Image) -> list[str]:
    """Return the paths of the image's responses that HAProxy may cache."""
    name = "one.test/memory/app"
    return [
        manifest_path(name, "v1"),
        manifest_path(name, image.digest),
        blob_path(name, Digest.of(image.config)),
    ]


def test_a_cached_response_equals_that_of_a_worker(warmed: Appliance, image: Image) -> None:
    """HAProxy's cache sends the body and headers of the worker's response, and the header Age."""
    for path in _paths(image):
        # A rise of the cache epoch may have purged the response since the cache was filled.
        warm(warmed.http, path)
        response = warmed.http.get(path)
        body = image.config if "/blobs/" in path else image.manifest
        assert (response.body, response.headers["oci-namespace"]) == (body, "one.test")
        assert response.headers["docker-content-digest"] == str(Digest.of(body))
        assert 0 <= int(response.headers["age"]) <= 60
        head = warmed.http.head(path)
        assert is_cached(head)
        same = ("content-length", "content-type", "docker-content-digest", "etag", "oci-namespace")
        assert [head.headers[name] for name in same] == [response.headers[name] for name in same]


def test_a_tag_is_cached_after_head_requests_only(upstream: OneUpstream) -> None:
    """HAProxy caches a tag even if clients send only HEAD requests for it, as containerd does."""
    appliance, fake = upstream.appliance, upstream.fake
    image = fake.put_image("app", "v1", of_size(KB, 612))
    pull(appliance.http, f"{upstream.host}/app", str(image.digest))
    path = manifest_path(f"{upstream.host}/app", "v1")

    answers = [appliance.http.head(path)]

    def cached() -> bool:
        answers.append(appliance.http.head(path))
        return is_cached(answers[-1])

    eventually(cached, what="HAProxy's cache responds to a HEAD")
    assert answers[-1].headers["content-length"] == str(len(image.manifest))
    eventually(lambda: len(_lines(appliance, path)) >= len(answers), what="all requests are logged")
    assert {line.method for line in _lines(appliance, path)} == {"HEAD"}
    assert len(_lines(appliance, path)) == len(answers)


def test_a_large_layer_is_not_cached_by_haproxy(warmed: Appliance, image: Image) -> None:
    """HAProxy does not cache a large layer; a worker serves it from disk."""
    path = blob_path("one.test/memory/app", Digest.of(image.layers[0]))

    assert [warmed.http.get(path).headers["cache-status"] for _ in range(3)] == [
        "entrepot; hit"
    ] * 3


def test_ranges_of_cached_content_are_ranges(warmed: Appliance, image: Image) -> None:
    """A request for one range or several ranges of cached content never gets the whole content."""
    path = blob_path("one.test/memory/app", Digest.of(image.config))

    response = warmed.http.get(path, Range="bytes=1-4")
    assert (response.status, response.body) == (206, image.config[1:5])
    assert warmed.http.get(path, Range="bytes=0-0,2-2").status == 206
    assert warmed.http.get(path, Range=f"bytes={len(image.config)}-").status == 416


def test_both_forms_of_a_name_lead_to_the_same_content(warmed: Appliance, image: Image) -> None:
    """`one.test/NAME` and `NAME?ns=one.test` have equal content; HAProxy caches both separately."""
    path = manifest_path("memory/app", "v1") + "?ns=one.test"
    warm(warmed.http, path)

    assert warmed.http.get(path).body == image.manifest
    assert warmed.http.get(manifest_path("memory/app", "v1")).status == 404
    assert warmed.http.get(f"{manifest_path('memory/app', 'v1')}?ns=two.test").status == 404


def test_a_response_from_the_cache_is_logged_and_updates_the_access_time(
    warmed: Appliance, image: Image
) -> None:
    """A response from HAProxy's cache is logged as a use of its content.

    The cleaner would otherwise evict this content as unused.
    """
    path = manifest_path("one.test/memory/app", image.digest)
    layer = Digest.of(image.layers[0])
    before = _last_use(warmed, layer)

    eventually(
        lambda: is_cached(warmed.http.get(path)) and _last_use(warmed, layer) > before,
        what="the parts of a cached manifest are touched",
    )
    lines = [line for line in _lines(warmed, path) if line.cache == FROM_CACHE]
    logged = {(line.kind, line.digest, line.repository) for line in lines}
    assert logged == {("manifest", str(image.digest), "one.test/memory/app")}


def test_an_incomplete_manifest_is_never_cached(upstream: OneUpstream) -> None:
    """HAProxy never caches a manifest whose parts are not all stored.

    During an outage of the upstream the worker must refuse such a manifest, because its missing
    parts cannot be fetched. HAProxy would still serve a cached copy of the manifest.
    """
    appliance, fake = upstream.appliance, upstream.fake
    image = fake.put_image("app", "v1", of_size(KB, 601))
    paths = (
        manifest_path(f"{upstream.host}/app", "v1"),
        manifest_path(f"{upstream.host}/app", image.digest),
    )
    for path in paths * 3:
        assert not is_cached(appliance.http.get(path))

    fake.stop()
    eventually(
        lambda: [appliance.http.get(path).status for path in paths] == [503, 503],
        what="the manifest is refused",
        within=AT_ONCE,
    )


def test_a_complete_image_is_served_during_an_outage(upstream: OneUpstream) -> None:
    """A complete image is served during an outage, from HAProxy's cache or from disk."""
    appliance, fake = upstream.appliance, upstream.fake
    image = fake.put_image("app", "v1", of_size(KB, 602))
    other = fake.put_image("other", "v1", of_size(KB, 603))
    pull(appliance.http, f"{upstream.host}/app", "v1")
    path = manifest_path(f"{upstream.host}/app", image.digest)
    warm(appliance.http, path)

    fake.stop()
    assert is_cached(appliance.http.get(path))
    eventually(
        lambda: appliance.http.get(manifest_path(f"{upstream.host}/other", "v1")).status == 503,
        what="the breaker opens",
    )
    assert appliance.http.get(path).body == image.manifest
    assert appliance.http.get(manifest_path(f"{upstream.host}/other", other.digest)).status == 503


def test_an_opening_breaker_purges_the_cache(upstream: OneUpstream) -> None:
    """When a circuit breaker opens, HAProxy's cache is purged.

    A part of a cached manifest may no longer be stored. While the breaker is open that part cannot
    be fetched, and the worker must refuse the manifest.
    """
    appliance, fake = upstream.appliance, upstream.fake
    image = fake.put_image("app", "v1", of_size(KB, 613))
    pull(appliance.http, f"{upstream.host}/app", "v1")
    path = manifest_path(f"{upstream.host}/app", image.digest)
    warm(appliance.http, path)

    (appliance.data / layout.blob(Digest.of(image.layers[0]))).unlink()
    fake.stop()
    assert is_cached(appliance.http.get(path))
    eventually(
        lambda: appliance.http.get(manifest_path(f"{upstream.host}/other", "v1")).status == 503,
        what="the breaker opens",
    )
    eventually(lambda: appliance.http.get(path).status == 503, what="the manifest is refused")


def test_a_tag_is_cached_no_longer_than_it_is_fresh(start: Start, fake: FakeUpstream) -> None:
    """When a moved tag is no longer fresh, HAProxy's cache no longer serves the old image."""
    fake.put_image("app", "v1", of_size(KB, 604))
    setup = Setup({"one.test": {"url": fake.url}}, environment={"ENTREPOT_FRESHNESS": "3s"})
    appliance = start_appliance(start, setup)
    pull(appliance.http, NAME, "v1")
    path = manifest_path(NAME, "v1")
    warm(appliance.http, path)
    moved = fake.put_image("app", "v1", of_size(KB, 605))

    ages = set()

    def has_moved() -> bool:
        response = appliance.http.get(path)
        ages.add(int(response.headers["age"]))
        return response.body == moved.manifest

    eventually(has_moved, what="the tag has moved", within=3 + AT_ONCE)
    assert max(ages) <= 3


def test_a_tag_without_freshness_is_never_cached(start: Start, fake: FakeUpstream) -> None:
    """A tag with a freshness of 0 must be confirmed for each pull, so HAProxy never caches it."""
    fake.put_image("app", "v1", of_size(KB, 606))
    setup = Setup({"one.test": {"url": fake.url}}, environment={"ENTREPOT_FRESHNESS": "0s"})
    appliance = start_appliance(start, setup)
    pull(appliance.http, NAME, "v1")

    path = manifest_path(NAME, "v1")
    assert not any(is_cached(appliance.http.get(path)) for _ in range(4))


def test_an_evicted_image_is_removed_from_the_cache(start: Start, fake: FakeUpstream) -> None:
    """When a part of a cached manifest is evicted, HAProxy no longer serves the manifest."""
    image = fake.put_image("app", "v1", of_size(KB, 607))
    environment = {"CLEANER_TTL": "3s", "CLEANER_RUNEVERY_TIME": "1s"}
    appliance = start_appliance(
        start, Setup({"one.test": {"url": fake.url}}, environment=environment)
    )
    pull(appliance.http, NAME, "v1")
    paths = manifest_path(NAME, "v1"), manifest_path(NAME, image.digest)
    warm(appliance.http, *paths)
    fake.stop()
    layer = appliance.data / layout.blob(Digest.of(image.layers[0]))
    eventually(lambda: not layer.exists(), what="the layer is evicted", within=30)

    eventually(
        lambda: {appliance.http.get(path).status for path in paths}.isdisjoint({200}),
        what="its manifest is no longer served",
        within=AT_ONCE,
    )


def test_pushed_content_is_never_cached_by_haproxy(several: tuple[Appliance, object]) -> None:
    """HAProxy never caches pushed content, so each pull after a push gets the new content."""
    appliance = several[0]
    path = manifest_path("team/app", "v1")
    for seed in (608, 609, 610):
        image = of_size(KB, seed)
        assert push(appliance.http, "team/app", "v1", image)
        answers = [appliance.http.get(path) for _ in range(3)]
        assert [response.body for response in answers] == [image.manifest] * 3
        assert not any(map(is_cached, answers))
        blob = blob_path("team/app", Digest.of(image.config))
        assert not any(is_cached(appliance.http.get(blob)) for _ in range(3))


def test_the_cache_fills_again_after_haproxy_was_killed(upstream: OneUpstream) -> None:
    """After a kill of HAProxy its cache is empty; later responses fill the cache again."""
    appliance, fake = upstream.appliance, upstream.fake
    image = fake.put_image("app", "v1", of_size(KB, 611))
    pull(appliance.http, f"{upstream.host}/app", "v1")
    path = manifest_path(f"{upstream.host}/app", image.digest)
    warm(appliance.http, path)

    appliance.kill_program("haproxy")
    eventually(lambda: _is_back(appliance), what="HAProxy responds again")
    warm(appliance.http, path)


def _is_back(appliance: Appliance) -> bool:
    try:
        return appliance.http.get("/healthz").status == 200
    except OSError:
        return False


def _last_use(appliance: Appliance, digest: Digest) -> float:
    entry = open_index(appliance.state).entry(digest)
    assert entry is not None
    return entry.used


def _lines(appliance: Appliance, path: str) -> list[AccessLine]:
    return [line for line in access_lines(appliance.state) if line.uri == path]
