"""If the storage stores no times of values, the cleaner uses the times in the index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.maintenance import dangling_links
from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUploads
from entrepot.cleaner.maintenance.damaged import KEPT_S
from entrepot.cleaner.maintenance.dangling_links import DanglingLinks
from entrepot.cleaner.maintenance.garbage import Garbage, UnreferencedLink
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import REBUILT
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.takeover import Takeover, take_over, taken_at
from tests.cleaner.stock import HOSTED, PROXIED, pull, push, put_blob
from tests.clock import Clock

_HOUR = 3600.0
_THEIRS = f"{layout.uploads(HOSTED)}/0b4d"


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[DataDirectory]:
    """Return an empty data directory whose storage stores no times."""
    index = open_index(tmp_path / "state", clock)
    index.notes.put({REBUILT: "0"})
    yield DataDirectory(MemoryStorage(), index, tmp_path / "state" / "spool")
    index.close()


# ---- dangling links


@pytest.fixture
def links(store: DataDirectory, clock: Clock) -> DanglingLinks:
    """Return the object with which the cleaner removes dangling links."""
    return DanglingLinks(store, clock, stopped=lambda: False)


def _lose(store: DataDirectory, digests: list[Digest]) -> None:
    for digest in digests:
        store.blobs.delete(digest)
        row = store.index.entry(digest)
        assert row
        assert store.index.mark_for_deletion(row)
        store.index.forget(digest)


def test_a_link_is_removed_an_hour_after_it_was_first_seen_dangling(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """A dangling link is removed an hour after a sweep first found it.

    The link's time in the index is removed too.
    """
    _lose(store, pull(store, 1, used=0).digests)
    clock.now += 100 * _HOUR
    links.sweep()
    assert list(store.repositories.manifests(PROXIED))
    clock.now += _HOUR

    links.sweep()

    assert list(store.storage.walk(layout.repository(PROXIED))) == []
    assert store.index.link_times.page("", 10) == []
    assert store.repositories.origin(PROXIED) == "quay.io"


def test_an_origin_is_removed_a_day_after_its_repository_was_first_seen_empty(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """The origin of an empty repository is removed a day after a sweep first found it empty.

    Before that, a pull may be about to write the first link of the repository.
    """
    store.repositories.set_origin(PROXIED, "quay.io")
    links.sweep()
    clock.now += 23 * _HOUR
    links.sweep()
    assert store.repositories.origin(PROXIED) == "quay.io"
    clock.now += _HOUR

    links.sweep()

    assert store.repositories.origin(PROXIED) is None


def test_a_link_that_was_whole_in_between_is_first_seen_again(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """If a dangling link's content is stored and deleted again, the link stays for a new hour."""
    blob = pull(store, 1, used=0).digests[-1]
    _lose(store, [blob])
    links.sweep()
    clock.now += _HOUR
    put_blob(store, b"", clock.now)
    store.storage.write(layout.blob(blob), b"restored")
    links.sweep()
    store.blobs.delete(blob)

    links.sweep()

    assert store.repositories.links_blob(PROXIED, blob)


def test_only_a_bounded_number_of_keys_is_remembered(
    store: DataDirectory, links: DanglingLinks, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep remembers only a limited number of dangling links; later sweeps handle the others."""
    monkeypatch.setattr(dangling_links, "_MOST_SEEN", 2)
    digests = [put_blob(store, bytes([n]), 0.0) for n in range(5)]
    store.repositories.set_origin(PROXIED, "quay.io")
    for digest in digests:
        store.repositories.link_blob(PROXIED, digest)
    _lose(store, digests)
    left = []
    for _ in range(6):
        links.sweep()
        left.append(len(list(store.repositories.blobs(PROXIED))))
        clock.now += _HOUR

    assert left == [5, 3, 3, 1, 1, 0]


# ---- tags and links of hosted repositories


def test_tags_of_unknown_time_are_never_removed_for_their_number(
    store: DataDirectory, clock: Clock
) -> None:
    """If the times of tags are unknown, each of these tags counts as the newest tag.

    After the index was lost, any tag may be the newest, so none is removed as an older tag.
    """
    for seed in range(3):
        push(store, seed, used=clock.now)
    store.index.link_times.forget([each.key for each in store.index.link_times.page("", 100)])
    push(store, 3, used=clock.now)

    images = HostedRepositories(store).holding(HOSTED).images

    assert {str(image): image.place for image in images} == {
        f"{HOSTED}:v{seed}": 0 for seed in range(4)
    }


def test_tags_are_ordered_by_their_pushes(store: DataDirectory, clock: Clock) -> None:
    """Tags are ordered by the times of their pushes, which the index stores."""
    for seed in (2, 0, 1):
        push(store, seed, used=clock.now)
        clock.now += 1

    images = HostedRepositories(store).holding(HOSTED).images

    assert {str(image): image.place for image in images} == {
        f"{HOSTED}:v1": 0,
        f"{HOSTED}:v0": 1,
        f"{HOSTED}:v2": 2,
    }


def test_a_link_of_unknown_time_is_garbage_by_the_last_use_of_its_content(
    store: DataDirectory, clock: Clock
) -> None:
    """A link of unknown time is garbage if its content was not used for the grace period.

    The text with the reason omits the link's age, which is unknown.
    """
    digest = put_blob(store, b"loose", clock.now)
    store.repositories.link_blob(HOSTED, digest)
    store.index.link_times.forget([layout.layer_link(HOSTED, digest)])
    garbage = Garbage(store, _HOUR, clock)

    def found() -> list[str]:
        stock = HostedSnapshot(HostedRepositories(store), RetentionRules(), clock)
        return [e.words for e in garbage.plan(stock.open()) if isinstance(e, UnreferencedLink)]

    assert found() == []
    clock.now += 2 * _HOUR
    assert found() == ["no manifest of team/app references this blob, grace is 1h"]


def test_a_push_that_links_again_keeps_its_image(store: DataDirectory, clock: Clock) -> None:
    """If a push links a manifest again, the time of the link in the index is updated."""
    pushed = push(store, 1, used=clock.now)
    before = store.repositories.linked_manifest(HOSTED, pushed.digests[0])
    clock.now += 1
    store.repositories.link_manifest(HOSTED, pushed.digests[0])

    assert before == clock.now - 1
    assert store.repositories.linked_manifest(HOSTED, pushed.digests[0]) == clock.now


# ---- uploads, spool files and the quarantine


@pytest.mark.parametrize(
    ("started", "is_removed"),
    [
        (b"2020-01-01T00:00:00Z", True),
        (b"2020-01-01T00:00:00.123456789+02:00", True),
        (b"2999-01-01T00:00:00Z", False),
        (b"a day ago", False),
        (b"x" * 100, False),
        (None, False),
    ],
)
def test_an_upload_of_docker_distribution_is_as_old_as_its_start(
    store: DataDirectory, clock: Clock, started: bytes | None, *, is_removed: bool
) -> None:
    """The age of an upload of docker distribution is the time since its start.

    If its start time cannot be read, the upload is never removed.
    """
    store.storage.write(f"{_THEIRS}/data", b"the first chunk")
    if started is not None:
        store.storage.write(f"{_THEIRS}/startedat", started)
    uploads = AbandonedUploads(store)

    removed = [uploads.remove(each) for each in uploads.abandoned(clock.now)]

    assert removed == [True] * is_removed
    assert (list(store.storage.walk(_THEIRS)) == []) == is_removed


def test_content_of_a_dead_download_counts_as_used_when_it_was_reserved(
    store: DataDirectory, clock: Clock
) -> None:
    """If a download died before it wrote the row, its reservation's time is the last use."""
    digest = Digest.of(b"content")
    store.index.reservations.reserve(digest, 7, None, clock.now)
    store.storage.write(layout.blob(digest), b"content")
    store.spool.mkdir(parents=True)
    clock.now += _HOUR

    Spool(store, clock).settle()

    row = store.index.entry(digest)
    assert row is not None
    assert row.used == clock.now - _HOUR


def test_a_damaged_file_is_kept_for_seven_days_from_its_reservation(
    store: DataDirectory, clock: Clock
) -> None:
    """If the storage stores no times, a damaged file stays in quarantine for seven days.

    The seven days begin when the file is moved to quarantine and its bytes are reserved.
    """
    digest = put_blob(store, b"damaged", clock.now)
    quarantine = Quarantine(store.storage, store.index, clock)
    with store.storage.open(layout.blob(digest)) as file:
        assert quarantine.put(digest, file, size=7, found="test")
    clock.now += KEPT_S
    Spool(store, clock).purge()
    assert [each.since for each in quarantine.all()] == [clock.now - KEPT_S]
    clock.now += 1

    Spool(store, clock).purge()

    assert list(quarantine.all()) == []


# ---- content that another program stored


def test_a_list_proves_nothing_in_a_storage_without_times(store: DataDirectory) -> None:
    """If the storage stores no times, the list of docker distribution's proxy is not used.

    The list names the content that the proxy fetched from an upstream. Without times, a link that
    is in the list could still have been pushed after the list was written. So content counts as
    fetched from an upstream only if the operator sets `CLEANER_TAKEOVER=evict`.
    """
    name = Repository("library/app")
    pushed = push(store, 1, used=0, name=name)
    entries = ",".join(f'"{name}@{digest}":{{}}' for digest in pushed.digests)
    store.storage.write(layout.FETCHED_LIST, f"{{{entries}}}".encode())

    assert take_over(store.storage, "auto") == Takeover(marked=0, possible=1)
    assert store.repositories.origin(name) is None
    assert take_over(store.storage, "evict") == Takeover(marked=1, possible=0)
    assert store.repositories.origin(name) == ""
    assert taken_at(store.storage) == 0.0


def test_a_rule_by_number_removes_older_tags(store: DataDirectory, clock: Clock) -> None:
    """By a rule that keeps one tag, the older tags expire, if the index has their times."""
    for seed in range(3):
        push(store, seed, used=clock.now)
        clock.now += 1
    rules = RetentionRules(otherwise=RetentionRule(keep=1))
    stock = HostedSnapshot(HostedRepositories(store), rules, clock)

    expired = [str(image) for image, rule in stock.images() if not rule.keeps(image)]

    assert sorted(expired) == [f"{HOSTED}:{Tag('v0')}", f"{HOSTED}:{Tag('v1')}"]
