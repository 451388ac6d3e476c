"""How often a tag is revalidated, and that a hit writes nothing to the data directory."""

from __future__ import annotations

import threading
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

NAME = "one.test/app"
HITS = 20


def test_a_fresh_tag_causes_no_upstream_request(start: Start, fake: FakeUpstream) -> None:
    """A fresh tag causes no upstream request, even if the tag has moved upstream."""
    first = fake.put_image("app", "v1", of_size(KB, 80))
    appliance = _start(start, fake, "1h")
    pull(appliance.http, NAME, "v1")
    fake.put_image("app", "v1", of_size(KB, 81))
    before = fake.count()

    digests = [pull(appliance.http, NAME, "v1")[0] for _ in range(10)]

    assert [first.digest] * 10 == digests
    assert fake.count() == before


def test_a_tag_that_did_not_move_is_revalidated_with_one_head(
    start: Start, fake: FakeUpstream
) -> None:
    """HEAD does not count against a rate limit; the manifest is not fetched again."""
    image = fake.put_image("app", "v1", of_size(KB, 82))
    appliance = _start(start, fake, "2s")
    pull(appliance.http, NAME, "v1")
    fake.forget()

    eventually(lambda: _pulled(appliance) and fake.count(), what="the tag is revalidated")

    assert [(each.method, each.path) for each in fake.requests] == [
        ("HEAD", "/v2/app/manifests/v1")
    ]
    assert image.digest == pull(appliance.http, NAME, "v1")[0]


def test_a_moved_tag_is_followed_after_its_freshness(start: Start, fake: FakeUpstream) -> None:
    """The tag leads to the new image; the old one is still served by its digest."""
    old = fake.put_image("app", "v1", of_size(KB, 83))
    appliance = _start(start, fake, "1s")
    pull(appliance.http, NAME, "v1")
    new = fake.put_image("app", "v1", of_size(KB, 84))

    eventually(lambda: _pulled(appliance) == str(new.digest), what="the tag has moved")

    assert new.digest == pull(appliance.http, NAME, "v1")[0]
    assert old.digest == pull(appliance.http, NAME, old.digest)[0]


@pytest.mark.parametrize("freshness", ["0s", "1h"])
def test_a_narrow_accept_header_changes_nothing_for_the_next_client(
    start: Start, fake: FakeUpstream, freshness: str
) -> None:
    """A tag has one digest, whatever media types the first client accepts."""
    image = fake.put_image("app", "v1", of_size(KB, 85))
    appliance = _start(start, fake, freshness)

    narrow = appliance.http.get(manifest_path(NAME, "v1"), Accept=DOCKER_MANIFEST)
    other = appliance.http.get(manifest_path(NAME, "v1"), Accept=OCI_INDEX)
    usual = appliance.http.get(manifest_path(NAME, "v1"))

    assert image.manifest == narrow.body == other.body == usual.body
    assert {each.headers["content-type"] for each in (narrow, other, usual)} == {image.media_type}
    assert all(len(each.headers["accept"].split(",")) == 5 for each in fake.requests)


def test_a_hit_writes_only_its_log_line(start: Start, fake: FakeUpstream) -> None:
    """A hit changes no file of the data directory, except the access log and the index."""
    fake.put_image("app", "v1", of_size(64 * KB, 86))
    appliance = _start(start, fake, "1h")
    pull(appliance.http, NAME, "v1")
    assert appliance.stop() == 0  # the stop also ends the work that a miss does after its response
    appliance.start()
    before = _quiet_files(appliance)

    with Writes(appliance.data) as writes:
        for _ in range(HITS):
            pull(appliance.http, NAME, "v1")

    assert before == _quiet_files(appliance)
    assert not writes.elsewhere_than(_log_and_index(appliance))
    assert writes.within(appliance.state / layout.ACCESS_LOG)


def test_many_concurrent_requests_for_a_tag_cause_one_head(
    start: Start, fake: FakeUpstream
) -> None:
    """Requests for one tag in all workers wait for one revalidation."""
    fake.put_image("app", "v1", of_size(KB, 87))
    appliance = _start(start, fake, "1h")
    threads = [
        threading.Thread(target=pull_manifest, args=(appliance.http, NAME, "v1")) for _ in range(12)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert fake.count("GET", "/manifests/") == 1
    assert fake.count("HEAD", "/manifests/") <= 1


class Writes(FileSystemEventHandler):
    """This records every file that is created, changed, moved or removed below a folder."""

    def __init__(self, root: Path) -> None:
        self._observer = Observer()
        self._observer.schedule(self, str(root), recursive=True)
        self._sentinel = root / "sentinel"
        self._paths: list[Path] = []

    def __enter__(self) -> Self:
        self._observer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sentinel.touch()  # the event of the sentinel file comes after all other events
        eventually(lambda: self._sentinel in self._paths, what="all changes are reported")
        self._observer.stop()
        self._observer.join()
        self._sentinel.unlink()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Record the paths of an event that changes a file."""
        if event.event_type in ("created", "modified", "moved", "deleted"):
            self._paths += [Path(str(event.src_path)), Path(str(event.dest_path or event.src_path))]

    def within(self, path: Path) -> list[Path]:
        """Return the changes at or below *path*."""
        return [each for each in self._paths if each.is_relative_to(path)]

    def elsewhere_than(self, expected: tuple[str, ...]) -> list[Path]:
        """Return the changes of files whose path starts with none of *expected*."""
        return [
            path
            for path in self._paths
            if path != self._sentinel and not path.is_dir() and not str(path).startswith(expected)
        ]


def _start(start: Start, fake: FakeUpstream, freshness: str) -> Appliance:
    return start(Setup({"one.test": {"url": fake.url, "freshness": freshness}}))


def _pulled(appliance: Appliance) -> str:
    response = appliance.http.get(manifest_path(NAME, "v1"))
    return response.headers["docker-content-digest"]


def _log_and_index(appliance: Appliance) -> tuple[str, ...]:
    return (str(appliance.state / "log"), str(appliance.state / layout.INDEX))


def _quiet_files(appliance: Appliance) -> dict[str, tuple[int, int, int]]:
    noisy = tuple(str(Path(path).relative_to(appliance.data)) for path in _log_and_index(appliance))
    found = datadir.snapshot(appliance.data)
    return {path: each for path, each in found.items() if not path.startswith(noisy)}
