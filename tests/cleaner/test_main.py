"""The program `entrepot.cleaner` cleans until SIGTERM, or runs one command, such as `--once`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot import config
from entrepot.cleaner.__main__ import CleanerProcess, main
from entrepot.cleaner.store import DataDirectory
from entrepot.config.hosted import HostedRule
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.accesslog import parse_event
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import BORN
from entrepot.datastore.rebuild import needs_rebuild, rebuild
from entrepot.datastore.refs import Repository
from entrepot.runtime import run_names
from tests.cleaner.front import Front
from tests.cleaner.stock import pull, push, push_image, put_blob
from tests.disk_storage import disk_storage
from tests.images import Image, filler, image
from tests.system.waiting import eventually

pytestmark = pytest.mark.slow

_PATIENCE_S = 20.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a TTL of a minute, and a run directory."""
    environ = {"REGISTRYDIR": str(tmp_path / "data"), "CLEANER_TTL": "1m"}
    places = config.DefaultPaths(tmp_path / "no.yml", tmp_path / "no.json", tmp_path / "none")
    run = tmp_path / "run"
    run.mkdir()
    return config.load([], environ, places).settings.changed(run=run)


@pytest.fixture
def store(settings: Settings) -> Iterator[DataDirectory]:
    """Return the data directory of the settings."""
    state = settings.storage.statedir
    index = open_index(state)
    (state / layout.EVENTS).parent.mkdir(parents=True)
    yield DataDirectory(disk_storage(settings.storage.rootdirectory), index, state / layout.SPOOL)
    index.close()


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Restore the log settings of the test runner after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def front(settings: Settings, store: DataDirectory) -> Iterator[Front]:
    """Run a server that responds to the log barrier and commits the line of its request.

    The server replaces HAProxy and the logger.
    """

    def commit(probe: str) -> None:
        store.index.notes.put({"news": probe, "dropped": "0"})

    with Front(settings.run / run_names.FRONT_SOCKET, commit) as answering:
        yield answering


def test_the_dry_run_prints_removals_and_reasons(
    settings: Settings, store: DataDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--dry-run` prints one line for each removal and a summary, and removes nothing."""
    old = pull(store, 1, used=time.time() - 90)
    pull(store, 2, used=time.time())

    assert main(["--once", "--dry-run"], settings) == 0

    *lines, last = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(map(str, old.digests))
    assert lines[0].startswith(f"{old.digests[0]}  manifest")
    assert all(line.endswith("not used for 1m30s, TTL is 1m") for line in lines)
    assert last.startswith("3 to remove, ")
    assert all(old.is_here(store))


@pytest.mark.usefixtures("front")
def test_one_round_runs_maintenance_and_eviction(settings: Settings, store: DataDirectory) -> None:
    """`--once` evicts expired content, and writes an event for each eviction.

    Hosted images stay.
    """
    old, new = pull(store, 1, used=time.time() - 90), pull(store, 2, used=time.time())
    pushed = push(store, 3, used=time.time() - 90)

    assert main(["--once"], settings) == 0

    assert [any(each.is_here(store)) for each in (old, new, pushed)] == [False, True, True]
    events = (settings.storage.statedir / layout.EVENTS).read_bytes().splitlines()
    assert {parse_event(line).fields["digest"] for line in events} == set(map(str, old.digests))


def test_one_round_of_a_stopped_appliance_needs_no_barrier(
    settings: Settings, store: DataDirectory
) -> None:
    """`--once --stopped` evicts without the log barrier: a stopped appliance serves no clients."""
    old = pull(store, 1, used=time.time() - 90)

    assert main(["--once", "--stopped"], settings) == 0
    assert not any(store.blobs.stat(digest) for digest in old.digests)


def test_the_next_evictions_are_listed_in_order(settings: Settings, store: DataDirectory) -> None:
    """`next_to_go` lists evictions in the order of last use, by default without hosted images."""
    now = time.time()
    push(store, 5, used=now - 500)
    newer, older = pull(store, 1, used=now - 10), pull(store, 2, used=now - 30)

    found = [each.entry.digest for each in CleanerProcess(settings).next_to_go(100)]

    assert set(found) == {*older.digests, *newer.digests}
    assert set(found[: len(older.digests)]) == set(older.digests)
    assert [each.entry.digest for each in CleanerProcess(settings).next_to_go(1)] == found[:1]
    assert store.index.reservations.used_bytes() > 0


def test_one_round_evicts_nothing_if_the_barrier_stays_closed(
    settings: Settings, store: DataDirectory
) -> None:
    """`--once` without `--stopped` evicts nothing while HAProxy does not run, and exits with 1.

    The index may lack the latest uses.
    """
    old = pull(store, 1, used=time.time() - 90)

    assert main(["--once"], settings) == 1

    assert all(old.is_here(store))


def test_a_full_disk_does_not_prevent_eviction(
    settings: Settings, store: DataDirectory, front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    """If events cannot be written, as on a full disk, the cleaner evicts anyway.

    It logs one line about all lost events.
    """
    old = pull(store, 1, used=time.time() - 90)
    (settings.storage.statedir / layout.EVENTS).mkdir()

    assert main(["--once"], settings) == 0

    assert front.seen
    assert not any(old.is_here(store))
    assert capsys.readouterr().out.count("event not written") == 1


def test_a_lost_index_is_rebuilt_before_eviction(settings: Settings, store: DataDirectory) -> None:
    """If the index was lost, `--once` rebuilds it from the files before it evicts."""
    pulled = pull(store, 1, used=time.time() - 90)
    store.index.close()
    for path in settings.storage.statedir.glob("index.sqlite*"):
        path.unlink()

    main(["--once"], settings)

    assert not needs_rebuild(store.index.notes)
    assert store.index.count() == 3
    assert all(pulled.is_here(store))


@pytest.fixture
def expiring(settings: Settings) -> Settings:
    """Return settings with CLEANER_HOSTED=true and a retention rule of two seconds."""
    cleaner = settings.cleaner.changed(hosted=True)
    rule = HostedRule("team/**", ttl=2)
    return settings.changed(cleaner=cleaner, hosted=(rule,))


@pytest.mark.usefixtures("front")
def test_a_hosted_image_expires_by_its_rule(expiring: Settings, store: DataDirectory) -> None:
    """With CLEANER_HOSTED, a hosted image expires by the rule for its repository.

    If no rule matches, it expires by CLEANER_TTL. Images that were pushed recently stay.
    """
    main(["--once"], expiring)
    # Hosted content counts as used no earlier than at the creation of the index. For this test, the
    # index was created at 0 s, so the content can be older than the TTL.
    store.index.notes.put({BORN: "0"})
    old, young = time.time() - 90, time.time() - 30
    ruled = [push_image(store, _made(n), f"v{n}", at) for n, at in enumerate((old, time.time()))]
    others = [
        push_image(store, _made(n), f"v{n}", at, Repository("lone"))
        for n, at in enumerate((old, young), start=2)
    ]

    assert main(["--once"], expiring) == 0

    assert [any(each.is_here(store)) for each in (*ruled, *others)] == [False, True, False, True]
    assert store.repositories.tags(Repository("lone")) == ["v3"]


def test_gc_removes_garbage_and_its_dry_run_lists_it(
    settings: Settings, store: DataDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--gc` removes garbage while the appliance is stopped; `--gc --dry-run` only lists it."""
    rebuild(store.storage, store.index, 0)
    at = time.time() - 2 * settings.cleaner.garbage
    blob, moved = put_blob(store, b"lone", at), push_image(store, _made(1), "latest", at)
    kept = push_image(store, _made(2), "latest", at)

    assert main(["--gc", "--dry-run", "--delete-untagged"], settings) == 0
    assert store.blobs.stat(blob)
    listed = capsys.readouterr().out.splitlines()
    assert main(["--gc", "--delete-untagged"], settings) == 0

    done = capsys.readouterr().out.splitlines()
    assert done[:-1] == listed[:-1]
    assert (listed[-1].split(",")[0], done[-1].split(",")[0]) == ("2 to remove", "2 removed")
    assert store.blobs.stat(blob) is None
    assert not any(moved.is_here(store))
    assert all(kept.is_here(store))


def test_gc_of_untagged_images_needs_the_log_barrier(
    settings: Settings, store: DataDirectory
) -> None:
    """While the appliance runs, `--gc --delete-untagged` removes nothing without the log barrier.

    A client may have pulled an untagged image, and the index may lack this use.
    """
    rebuild(store.storage, store.index, 0)
    moved = push_image(store, _made(1), "", time.time() - 2 * settings.cleaner.garbage)

    with Front(
        settings.run / run_names.FRONT_SOCKET, lambda _: None
    ) as front:  # The function commits nothing, as if the logger did not run.
        news_patience = "entrepot.cleaner.log_barrier._PATIENCE_S"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(news_patience, 0.1)
            assert main(["--gc", "--delete-untagged"], settings) == 1
        assert front.seen

    assert all(moved.is_here(store))


def test_a_ttl_of_seconds_shortens_the_interval(expiring: Settings) -> None:
    """A rule with a TTL of two seconds shortens the interval of rounds to one second."""
    assert CleanerProcess(expiring)._period() == 1


def _made(number: int) -> Image:
    return image([filler(100, number)], command=(str(number),))


def test_missing_settings_end_the_process_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a settings file, the cleaner prints one line with a remedy, and exits with 2."""
    monkeypatch.delenv("ENTREPOT_SETTINGS", raising=False)

    assert main(["--once"]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert "entrepot serve" in line


def test_the_process_cleans_until_sigterm(
    settings: Settings, store: DataDirectory, front: Front
) -> None:
    """The process of the cleaner evicts old content until SIGTERM; hosted images stay.

    After SIGTERM it exits with 0, and removes its wake socket.
    """
    settings_path, wake = settings.run / run_names.SETTINGS, settings.run / run_names.WAKE_SOCKET
    config.dump(settings, settings_path)
    old, pushed = pull(store, 1, used=time.time() - 90), push(store, 2, used=time.time() - 90)
    environ = {**os.environ, "ENTREPOT_SETTINGS": str(settings_path)}
    command = [sys.executable, "-m", "entrepot.cleaner"]

    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as cleaner:
        try:
            eventually(lambda: not any(old.is_here(store)), what="the old image is evicted")
            assert wake.is_socket()
            cleaner.send_signal(signal.SIGTERM)
            output, _ = cleaner.communicate(timeout=_PATIENCE_S)
        finally:
            cleaner.kill()

    assert cleaner.returncode == 0
    assert front.seen
    assert not wake.exists()
    assert all(pushed.is_here(store))
    assert output.count("evicted entries=3") == 1
