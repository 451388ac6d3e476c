"""What HAProxy answers from memory, before the real workers: as true as what a worker would say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.accesslog import AccessLine
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.refs import Digest
from entrepot.edge.cache_epoch import CacheEpoch
from tests.images import Image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.datadir import access_lines
from tests.system.door import Answer, Door
from tests.system.images import KB, of_size
from tests.system.pulls import blob_path, manifest_path, pull
from tests.system.pushes import push
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

FROM_MEMORY = "entrepot; hit; detail=memory"
NAME = "one.test/app"
AT_ONCE = 10.0
"""Within so many s a change is in force on a busy machine; memory keeps things for 60 or 300."""


def remembers(answer: Answer) -> bool:
    """Whether an answer came from memory."""
    assert answer.status in (200, 304), answer
    return answer.headers["cache-status"] == FROM_MEMORY


def warm(door: Door, *paths: str) -> None:
    """Ask until memory answers."""
    for path in paths:
        eventually(lambda path=path: remembers(door.get(path)), what=f"memory has {path}")  # type: ignore[misc] # bound at once


def begun(start: Start, setup: Setup) -> Appliance:
    """Start an appliance, and wait until its cleaner has had all forgotten, as it begins with."""
    appliance = start(setup)
    generation = CacheEpoch(Path((appliance.state / "run").read_text()))
    eventually(lambda: int(generation.now()) > 1, what="the cleaner has begun")
    return appliance


@pytest.fixture(scope="module")
def image(public: Registry) -> Image:
    """An image of which one layer is too large for memory."""
    return public.push("memory/app", "v1", of_size(200 * KB, 600))


@pytest.fixture(scope="module")
def warmed(shared: Appliance, image: Image) -> Appliance:
    """An appliance that was asked for the image before, by tag and by digest."""
    pull(shared.door, "one.test/memory/app", "v1")
    warm(shared.door, *_paths(image))
    return shared


@dataclass(frozen=True, slots=True)
class Own:
    """An appliance, and an upstream of it for one test, which may stop it."""

    appliance: Appliance
    fake: FakeUpstream
    host: str


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, Iterator[Own]]]:
    """One appliance, with an upstream for each test."""
    with ExitStack() as stack:
        fakes = {f"u{n}.test": stack.enter_context(FakeUpstream()) for n in range(5)}
        folder = tmp_path_factory.mktemp("several")
        appliance = begun(
            lambda setup: stack.enter_context(Appliance(folder, setup)),
            Setup({host: {"url": fake.url} for host, fake in fakes.items()}),
        )
        yield appliance, (Own(appliance, fake, host) for host, fake in fakes.items())


@pytest.fixture
def own(several: tuple[Appliance, Iterator[Own]]) -> Own:
    """Return the next upstream."""
    return next(several[1])


def _paths(image: Image) -> list[str]:
    """Return all that memory may have of it."""
    name = "one.test/memory/app"
    return [
        manifest_path(name, "v1"),
        manifest_path(name, image.digest),
        blob_path(name, Digest.of(image.config)),
    ]


def test_memory_answers_what_a_worker_would(warmed: Appliance, image: Image) -> None:
    """Body and headers are those of the content; the age is told."""
    for path in _paths(image):
        warm(warmed.door, path)  # a generation that rose since has had it forgotten
        answer = warmed.door.get(path)
        body = image.config if "/blobs/" in path else image.manifest
        assert (answer.body, answer.headers["oci-namespace"]) == (body, "one.test")
        assert answer.headers["docker-content-digest"] == str(Digest.of(body))
        assert 0 <= int(answer.headers["age"]) <= 60
        head = warmed.door.head(path)
        assert remembers(head)
        same = ("content-length", "content-type", "docker-content-digest", "etag", "oci-namespace")
        assert [head.headers[name] for name in same] == [answer.headers[name] for name in same]


def test_a_tag_that_is_only_asked_about_is_remembered(own: Own) -> None:
    """It is all that containerd and dockerd send for a tag; no line is written but theirs."""
    appliance, fake = own.appliance, own.fake
    image = fake.put_image("app", "v1", of_size(KB, 612))
    pull(appliance.door, f"{own.host}/app", str(image.digest))
    path = manifest_path(f"{own.host}/app", "v1")

    answers = [appliance.door.head(path)]

    def remembered() -> bool:
        answers.append(appliance.door.head(path))
        return remembers(answers[-1])

    eventually(remembered, what="memory answers a HEAD")
    assert answers[-1].headers["content-length"] == str(len(image.manifest))
    eventually(lambda: len(_lines(appliance, path)) >= len(answers), what="all are logged")
    assert {line.method for line in _lines(appliance, path)} == {"HEAD"}
    assert len(_lines(appliance, path)) == len(answers)


def test_a_large_layer_is_none_for_memory(warmed: Appliance, image: Image) -> None:
    """It comes from disk, without a copy."""
    path = blob_path("one.test/memory/app", Digest.of(image.layers[0]))

    assert [warmed.door.get(path).headers["cache-status"] for _ in range(3)] == [
        "entrepot; hit"
    ] * 3


def test_ranges_of_what_memory_has_are_ranges(warmed: Appliance, image: Image) -> None:
    """One, or several, are never answered with the whole."""
    path = blob_path("one.test/memory/app", Digest.of(image.config))

    answer = warmed.door.get(path, Range="bytes=1-4")
    assert (answer.status, answer.body) == (206, image.config[1:5])
    assert warmed.door.get(path, Range="bytes=0-0,2-2").status == 206
    assert warmed.door.get(path, Range=f"bytes={len(image.config)}-").status == 416


def test_both_forms_of_a_name_lead_to_the_same(warmed: Appliance, image: Image) -> None:
    """The mirror form is another URI, asked for and remembered by itself."""
    path = manifest_path("memory/app", "v1") + "?ns=one.test"
    warm(warmed.door, path)

    assert warmed.door.get(path).body == image.manifest
    assert warmed.door.get(manifest_path("memory/app", "v1")).status == 404
    assert warmed.door.get(f"{manifest_path('memory/app', 'v1')}?ns=two.test").status == 404


def test_an_answer_from_memory_is_logged_and_stamped(warmed: Appliance, image: Image) -> None:
    """Its use counts: what is served from memory is not what nobody wants."""
    path = manifest_path("one.test/memory/app", image.digest)
    layer = Digest.of(image.layers[0])
    before = _last_use(warmed, layer)

    eventually(
        lambda: remembers(warmed.door.get(path)) and _last_use(warmed, layer) > before,
        what="what a remembered manifest names is stamped",
    )
    lines = [line for line in _lines(warmed, path) if line.cache == FROM_MEMORY]
    told = {(line.kind, line.digest, line.repository) for line in lines}
    assert told == {("manifest", str(image.digest), "one.test/memory/app")}


def test_a_manifest_that_is_not_whole_is_never_kept(own: Own) -> None:
    """With the upstream away its parts can't be had: then it is refused, whoever has seen it."""
    appliance, fake = own.appliance, own.fake
    image = fake.put_image("app", "v1", of_size(KB, 601))
    paths = manifest_path(f"{own.host}/app", "v1"), manifest_path(f"{own.host}/app", image.digest)
    for path in paths * 3:
        assert not remembers(appliance.door.get(path))

    fake.stop()
    eventually(
        lambda: [appliance.door.get(path).status for path in paths] == [503, 503],
        what="no client is led on",
        within=AT_ONCE,
    )


def test_with_its_upstream_away_a_whole_image_stays(own: Own) -> None:
    """From memory, and from disk when memory has forgotten it because a breaker opened."""
    appliance, fake = own.appliance, own.fake
    image = fake.put_image("app", "v1", of_size(KB, 602))
    other = fake.put_image("other", "v1", of_size(KB, 603))
    pull(appliance.door, f"{own.host}/app", "v1")
    path = manifest_path(f"{own.host}/app", image.digest)
    warm(appliance.door, path)

    fake.stop()
    assert remembers(appliance.door.get(path))
    eventually(
        lambda: appliance.door.get(manifest_path(f"{own.host}/other", "v1")).status == 503,
        what="the breaker opens",
    )
    assert appliance.door.get(path).body == image.manifest
    assert appliance.door.get(manifest_path(f"{own.host}/other", other.digest)).status == 503


def test_a_breaker_that_opens_has_all_forgotten(own: Own) -> None:
    """What memory had may want a part that was lost since, and that only the upstream has."""
    appliance, fake = own.appliance, own.fake
    image = fake.put_image("app", "v1", of_size(KB, 613))
    pull(appliance.door, f"{own.host}/app", "v1")
    path = manifest_path(f"{own.host}/app", image.digest)
    warm(appliance.door, path)

    (appliance.data / layout.blob(Digest.of(image.layers[0]))).unlink()
    fake.stop()
    assert remembers(appliance.door.get(path))
    eventually(
        lambda: appliance.door.get(manifest_path(f"{own.host}/other", "v1")).status == 503,
        what="the breaker opens",
    )
    eventually(lambda: appliance.door.get(path).status == 503, what="no client is led on")


def test_a_tag_is_remembered_no_longer_than_it_is_fresh(start: Start, fake: FakeUpstream) -> None:
    """Once it has moved, and its freshness is over, nobody gets the old image."""
    fake.put_image("app", "v1", of_size(KB, 604))
    setup = Setup({"one.test": {"url": fake.url}}, environment={"ENTREPOT_FRESHNESS": "3s"})
    appliance = begun(start, setup)
    pull(appliance.door, NAME, "v1")
    path = manifest_path(NAME, "v1")
    warm(appliance.door, path)
    moved = fake.put_image("app", "v1", of_size(KB, 605))

    ages = set()

    def has_moved() -> bool:
        answer = appliance.door.get(path)
        ages.add(int(answer.headers["age"]))
        return answer.body == moved.manifest

    eventually(has_moved, what="the tag has moved", within=3 + AT_ONCE)
    assert max(ages) <= 3


def test_a_tag_that_is_never_fresh_is_never_remembered(start: Start, fake: FakeUpstream) -> None:
    """With a freshness of 0 every pull asks."""
    fake.put_image("app", "v1", of_size(KB, 606))
    setup = Setup({"one.test": {"url": fake.url}}, environment={"ENTREPOT_FRESHNESS": "0s"})
    appliance = begun(start, setup)
    pull(appliance.door, NAME, "v1")

    path = manifest_path(NAME, "v1")
    assert not any(remembers(appliance.door.get(path)) for _ in range(4))


def test_an_evicted_image_is_forgotten(start: Start, fake: FakeUpstream) -> None:
    """Memory keeps a manifest for a minute, but not one whose parts have gone."""
    image = fake.put_image("app", "v1", of_size(KB, 607))
    environment = {"CLEANER_TTL": "3s", "CLEANER_RUNEVERY_TIME": "1s"}
    appliance = begun(start, Setup({"one.test": {"url": fake.url}}, environment=environment))
    pull(appliance.door, NAME, "v1")
    paths = manifest_path(NAME, "v1"), manifest_path(NAME, image.digest)
    warm(appliance.door, *paths)
    fake.stop()
    layer = appliance.data / layout.blob(Digest.of(image.layers[0]))
    eventually(lambda: not layer.exists(), what="the layer is evicted", within=30)

    eventually(
        lambda: {appliance.door.get(path).status for path in paths}.isdisjoint({200}),
        what="its manifest is not served on",
        within=AT_ONCE,
    )


def test_what_was_pushed_is_never_remembered(several: tuple[Appliance, object]) -> None:
    """A push is seen by the next pull, whoever had pulled before."""
    appliance = several[0]
    path = manifest_path("team/app", "v1")
    for seed in (608, 609, 610):
        image = of_size(KB, seed)
        assert push(appliance.door, "team/app", "v1", image)
        answers = [appliance.door.get(path) for _ in range(3)]
        assert [answer.body for answer in answers] == [image.manifest] * 3
        assert not any(map(remembers, answers))
        blob = blob_path("team/app", Digest.of(image.config))
        assert not any(remembers(appliance.door.get(blob)) for _ in range(3))


def test_memory_is_back_after_haproxy_was_killed(own: Own) -> None:
    """The new one knows nothing, and learns again."""
    appliance, fake = own.appliance, own.fake
    image = fake.put_image("app", "v1", of_size(KB, 611))
    pull(appliance.door, f"{own.host}/app", "v1")
    path = manifest_path(f"{own.host}/app", image.digest)
    warm(appliance.door, path)

    appliance.kill_program("haproxy")
    eventually(lambda: _is_back(appliance), what="it answers again")
    warm(appliance.door, path)


def _is_back(appliance: Appliance) -> bool:
    try:
        return appliance.door.get("/healthz").status == 200
    except OSError:
        return False


def _last_use(appliance: Appliance, digest: Digest) -> float:
    entry = SqliteIndex(appliance.state / layout.INDEX).entry(digest)
    assert entry is not None
    return entry.used


def _lines(appliance: Appliance, path: str) -> list[AccessLine]:
    return [line for line in access_lines(appliance.state) if line.uri == path]
