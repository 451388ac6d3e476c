"""Tests how often tags are confirmed at the upstream, and that a hit changes no stored file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from entrepot.datastore import layout
from entrepot.datastore.manifest import DOCKER_MANIFEST, OCI_INDEX
from tests.system import datadir
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.images import KB, of_size
from tests.system.pulls import manifest_path, pull, pull_manifest
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

HITS = 20
FRESHNESS = {"zero.test": "0s", "one.test": "1s", "two.test": "2s", "hour.test": "1h"}
"""The setting `freshness` of each upstream; all of them have the URL of one fake upstream."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run the fake upstream for all tests of this file, which use different repositories."""
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream
) -> Iterator[Appliance]:
    """Run one appliance whose upstreams differ only in the setting `freshness`."""
    upstreams = {
        host: {"url": upstream.url, "freshness": value} for host, value in FRESHNESS.items()
    }
    with Appliance(tmp_path_factory.mktemp("shared"), Setup(upstreams)) as started:
        yield started


@pytest.fixture
def fake(upstream: FakeUpstream) -> FakeUpstream:
    """Return the fake upstream without the recorded requests of other tests."""
    upstream.forget()
    return upstream


def test_a_fresh_tag_causes_no_upstream_request(appliance: Appliance, fake: FakeUpstream) -> None:
    """While a tag is fresh, pulls send no upstream request, even if the upstream moved the tag."""
    name = "hour.test/fresh"
    first = fake.put_image("fresh", "v1", of_size(KB, 80))
    pull(appliance.http, name, "v1")
    fake.put_image("fresh", "v1", of_size(KB, 81))
    before = fake.count()

    digests = [pull(appliance.http, name, "v1")[0] for _ in range(10)]

    assert [first.digest] * 10 == digests
    assert fake.count() == before


def test_a_tag_that_did_not_move_is_revalidated_with_one_head(
    appliance: Appliance, fake: FakeUpstream
) -> None:
    """A tag that has not moved is confirmed by one HEAD; its manifest is not fetched again.

    Docker Hub does not count a HEAD against its rate limit.
    """
    name = "two.test/still"
    image = fake.put_image("still", "v1", of_size(KB, 82))
    pull(appliance.http, name, "v1")
    fake.forget()

    eventually(lambda: _pulled(appliance, name) and fake.count(), what="the tag is revalidated")

    assert [(each.method, each.path) for each in fake.requests] == [
        ("HEAD", "/v2/still/manifests/v1")
    ]
    assert image.digest == pull(appliance.http, name, "v1")[0]


def test_a_moved_tag_is_followed_after_its_freshness(
    appliance: Appliance, fake: FakeUpstream
) -> None:
    """When a moved tag is no longer fresh, a pull by tag gets the new image.

    A pull by the old digest still gets the old image.
    """
    name = "one.test/moved"
    old = fake.put_image("moved", "v1", of_size(KB, 83))
    pull(appliance.http, name, "v1")
    new = fake.put_image("moved", "v1", of_size(KB, 84))

    eventually(lambda: _pulled(appliance, name) == str(new.digest), what="the moved tag is served")

    assert new.digest == pull(appliance.http, name, "v1")[0]
    assert old.digest == pull(appliance.http, name, old.digest)[0]


@pytest.mark.parametrize("host", ["zero.test", "hour.test"])
def test_a_narrow_accept_header_changes_nothing_for_the_next_client(
    appliance: Appliance, fake: FakeUpstream, host: str
) -> None:
    """If a client accepts few media types, the next client still gets the same manifest."""
    name = f"{host}/narrow"
    image = fake.put_image("narrow", "v1", of_size(KB, 85))

    narrow = appliance.http.get(manifest_path(name, "v1"), Accept=DOCKER_MANIFEST)
    other = appliance.http.get(manifest_path(name, "v1"), Accept=OCI_INDEX)
    usual = appliance.http.get(manifest_path(name, "v1"))

    assert image.manifest == narrow.body == other.body == usual.body
    assert {each.headers["content-type"] for each in (narrow, other, usual)} == {image.media_type}
    assert all(len(each.headers["accept"].split(",")) == 5 for each in fake.requests)


def test_a_hit_writes_only_its_log_line(start: Start, fake: FakeUpstream) -> None:
    """A hit changes no file of the data directory except the access log and the index."""
    name = "one.test/app"
    fake.put_image("app", "v1", of_size(64 * KB, 86))
    appliance = start(Setup({"one.test": {"url": fake.url, "freshness": "1h"}}))
    pull(appliance.http, name, "v1")
    # Before the workers exit, they finish the work that follows their response to a miss.
    assert appliance.stop() == 0
    appliance.start()
    before = _quiet_files(appliance)

    with Writes(appliance.data) as writes:
        for _ in range(HITS):
            pull(appliance.http, name, "v1")
        log = appliance.state / layout.ACCESS_LOG  # written after the responses
        eventually(lambda: writes.within(log), what="the hits are in the access log")

    assert before == _quiet_files(appliance)
    assert not writes.elsewhere_than(_log_and_index(appliance))


def test_many_concurrent_requests_for_a_tag_cause_one_head(
    appliance: Appliance, fake: FakeUpstream
) -> None:
    """Twelve concurrent requests for one tag cause at most one HEAD and one GET to the upstream."""
    fake.put_image("crowd", "v1", of_size(KB, 87))
    threads = [
        threading.Thread(target=pull_manifest, args=(appliance.http, "hour.test/crowd", "v1"))
        for _ in range(12)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert fake.count("GET", "/manifests/") == 1
    assert fake.count("HEAD", "/manifests/") <= 1


class Writes(FileSystemEventHandler):
    """Records each file that is created, changed, moved or deleted below a folder."""

    def __init__(self, root: Path) -> None:
        self._observer = Observer()
        self._observer.schedule(self, str(root), recursive=True)
        self._sentinel = root / "sentinel"
        self._paths: list[Path] = []

    def __enter__(self) -> Self:
        self._observer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sentinel.touch()  # the event of this file comes after all others
        eventually(lambda: self._sentinel in self._paths, what="all changes are reported")
        self._observer.stop()
        self._observer.join()
        self._sentinel.unlink()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Record the paths of a change."""
        if event.event_type in ("created", "modified", "moved", "deleted"):
            self._paths += [Path(str(event.src_path)), Path(str(event.dest_path or event.src_path))]

    def within(self, path: Path) -> list[Path]:
        """Return the changed paths that are *path* or below it."""
        return [each for each in self._paths if each.is_relative_to(path)]

    def elsewhere_than(self, expected: tuple[str, ...]) -> list[Path]:
        """Return the changed files whose path begins with none of *expected*."""
        return [
            path
            for path in self._paths
            if path != self._sentinel and not path.is_dir() and not str(path).startswith(expected)
        ]


def _pulled(appliance: Appliance, name: str) -> str:
    response = appliance.http.get(manifest_path(name, "v1"))
    return response.headers["docker-content-digest"]


def _log_and_index(appliance: Appliance) -> tuple[str, ...]:
    return (str(appliance.state / "log"), str(appliance.state / layout.INDEX))


def _quiet_files(appliance: Appliance) -> dict[str, tuple[int, int, int]]:
    noisy = tuple(str(Path(path).relative_to(appliance.data)) for path in _log_and_index(appliance))
    found = datadir.snapshot(appliance.data)
    return {path: each for path, each in found.items() if not path.startswith(noisy)}
