"""A lost or damaged index of a running appliance is rebuilt without data loss.

The data directory stays within its cap during the rebuild.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import Image, filler, image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.datadir import SizeSampler, spool_files
from tests.system.images import FULL, KB, MB, scaled
from tests.system.pulls import Reader, blob_path, end_all, pull
from tests.system.pushes import push
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

_NAME = "one.test/app"
_MAXIMUM = scaled(24 * MB, 120 * MB)
_CAP = _MAXIMUM * 120 // 100
_LARGE = _MAXIMUM // 4
_BOUNDED = {
    "CLEANER_MAXSIZE": str(_MAXIMUM),
    "CLEANER_RUNEVERY_TIME": "1s",
    "ENTREPOT_WORKERS": "2",
}


def _made(seed: int, size: int = 300 * KB) -> Image:
    return image([filler(size, seed)], command=(str(seed),))


def _lose(appliance: Appliance) -> None:
    for path in appliance.state.glob(f"{layout.INDEX}*"):
        path.unlink()


def _lose_with_workers(appliance: Appliance) -> None:
    _lose(appliance)
    appliance.kill_program("registry")


@pytest.mark.parametrize(
    "lose",
    [pytest.param(_lose, marks=pytest.mark.soak), _lose_with_workers],
    ids=["index", "index and workers"],
)
def test_the_cap_holds_when_the_index_is_lost_during_large_downloads(
    start: Start, fake: FakeUpstream, lose: Callable[[Appliance], None]
) -> None:
    """If the index is lost, running downloads keep the space that they have reserved.

    No other download gets that space, so the data directory stays below the cap.
    """
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=_BOUNDED))
    pulled = [fake.put_image("app", f"v{n}", _made(n, _MAXIMUM // 16)) for n in range(8)]
    for number in range(len(pulled)):
        pull(appliance.http, _NAME, f"v{number}")
    large = [fake.add_blob("app", filler(_LARGE, 50 + n)) for n in range(3)]
    more = [fake.add_blob("app", filler(_LARGE, 60 + n)) for n in range(3)]
    for digest in large:
        fake.misbehave(f"/blobs/{digest}", method="GET", rate=_LARGE / 3)

    with SizeSampler(appliance.data) as sampler:
        readers = [Reader(appliance.http, blob_path(_NAME, digest)).begin() for digest in large]
        eventually(lambda: len(spool_files(appliance.state)) == len(large), what="all have started")
        lose(appliance)
        eventually(lambda: _is_sound(appliance), what="the index is rebuilt", within=30)
        others = [Reader(appliance.http, blob_path(_NAME, digest)).begin() for digest in more]
        end_all([*readers, *others])

    assert sampler.largest <= _CAP
    assert all(each.has(digest) for each, digest in zip(others, more, strict=True))
    if lose is _lose:
        assert all(each.has(digest) for each, digest in zip(readers, large, strict=True))


def _is_sound(appliance: Appliance) -> bool:
    try:
        return appliance.metric("entrepot_index_available") == 1
    except (AssertionError, OSError):  # the workers are still starting
        return False


def _folder(path: Path) -> None:
    for each in path.parent.glob(f"{layout.INDEX}*"):
        if each.is_file():
            each.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/index")


def _header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\xff\xff")


def _log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def _total(value: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as foreign:
            foreign.execute("UPDATE total SET bytes = ?", (value,))

    return change


_DAMAGES: dict[str, Callable[[Path], None]] = {
    "10 TB": _total(10**13),
    "negative": _total(-(10**13)),
    "header": _header,
    "folder": _folder,
    "dangling link": _dangling,
    "log": _log,
}


def test_an_index_damaged_during_its_use_is_repaired_without_a_restart(
    start: Start, fake: FakeUpstream
) -> None:
    """A damaged index is repaired while the appliance runs, and no stored content is lost.

    After the repair, downloads are stored and pushes are accepted again.
    """
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=_BOUNDED))
    kept = fake.put_image("app", "kept", _made(1))
    pull(appliance.http, _NAME, "kept")
    programs = _programs(appliance)
    tried = list(_DAMAGES.items())[:: 1 if FULL else 3]
    for number, (name, damage) in enumerate(tried):
        damage(appliance.state / layout.INDEX)

        made = fake.put_image("app", f"after{number}", _made(10 + number))
        _wait_until_repaired(appliance, f"after{number}", made, name)
        assert pull(appliance.http, _NAME, "kept")[0] == kept.digest
        assert _has(appliance, kept)
        assert appliance.http.get("/healthz").status == 200

    assert _programs(appliance) == programs
    assert appliance.metric("entrepot_evictions_total", reason="size") == 0


def _wait_until_repaired(appliance: Appliance, tag: str, made: Image, name: str) -> None:
    """Wait until a download is stored again and a push is accepted."""
    eventually(
        lambda: _is_stored(appliance, tag, made),
        what=f"downloads are stored again after: {name}",
        within=40,
        pause=0.5,
    )
    eventually(
        lambda: push(appliance.http, "team/app", "v1", made),
        what=f"pushes are accepted again after: {name}",
    )


def _programs(appliance: Appliance) -> list[int]:
    found = (appliance.program(name) for name in ("registry", "logger", "cleaner", "haproxy"))
    return [each.pid for each in found if each]


def _has(appliance: Appliance, made: Image) -> bool:
    contents = (made.manifest, *made.blobs)
    return all((appliance.data / layout.blob(Digest.of(each))).exists() for each in contents)


def _is_stored(appliance: Appliance, tag: str, made: Image) -> bool:
    assert pull(appliance.http, _NAME, tag)[0] == made.digest
    return _has(appliance, made)


def test_a_locked_index_delays_only_one_pull(start: Start, fake: FakeUpstream) -> None:
    """While another program locks the index, one pull waits for the lock; later pulls do not wait.

    The blobs of the later pulls are passed through without being stored.
    """
    one_worker = {**_BOUNDED, "ENTREPOT_WORKERS": "1"}
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=one_worker))
    digests = [fake.add_blob("app", filler(300 * KB, 80 + n)) for n in range(6)]
    took = []
    with closing(sqlite3.connect(appliance.state / layout.INDEX, isolation_level=None)) as foreign:
        foreign.execute("PRAGMA busy_timeout = 10000")
        foreign.execute("BEGIN IMMEDIATE")
        for digest in digests:
            began = time.monotonic()
            assert appliance.http.get(blob_path(_NAME, digest)).status == 200
            took.append(time.monotonic() - began)

    # A pull that waits for the lock takes at least 2 s, which is the longest wait of an operation
    # on the index.
    assert sum(each >= 2 for each in took) <= 1
