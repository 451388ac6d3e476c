"""The cleaner as it is started: by supervisord, and by an operator who wants to know."""

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
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.rebuild import BORN, needs_rebuild, rebuild
from entrepot.datastore.refs import Repository
from tests.cleaner.front import Front
from tests.cleaner.stock import pull, push, push_image, put_blob
from tests.images import Image, filler, image
from tests.system.waiting import eventually

_PATIENCE_S = 20.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of an appliance with a TTL of a minute, handed over in its run directory."""
    environ = {"REGISTRYDIR": str(tmp_path / "data"), "CLEANER_TTL": "1m"}
    places = config.DefaultPaths(tmp_path / "no.yml", tmp_path / "no.json", tmp_path / "none")
    run = tmp_path / "run"
    run.mkdir()
    return config.load([], environ, places).settings.model_copy(update={"run": run})


@pytest.fixture
def store(settings: Settings) -> Iterator[DataDirectory]:
    """Open what the cleaner works on, as a worker does."""
    state = settings.storage.statedir
    index = SqliteIndex(state / layout.INDEX)
    (state / layout.EVENTS).parent.mkdir(parents=True)
    yield DataDirectory(Filesystem(settings.storage.rootdirectory), index, state / layout.SPOOL)
    index.close()


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Leave the test runner's own logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def front(settings: Settings, store: DataDirectory) -> Iterator[Front]:
    """Answer, and commit the line as the logger does."""

    def commit(probe: str) -> None:
        store.index.touch({}, {"news": probe, "dropped": "0"})

    with Front(settings.run / "front.sock", commit) as answering:
        yield answering


def test_the_dry_run_prints_what_would_go_and_why(
    settings: Settings, store: DataDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each, a line for all, and nothing has changed."""
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
def test_one_round_does_all_that_is_to_be_done(settings: Settings, store: DataDirectory) -> None:
    """With the news that it needs; what was pushed stays, and the logger is told."""
    old, new = pull(store, 1, used=time.time() - 90), pull(store, 2, used=time.time())
    pushed = push(store, 3, used=time.time() - 90)

    assert main(["--once"], settings) == 0

    assert [any(each.is_here(store)) for each in (old, new, pushed)] == [False, True, True]
    events = (settings.storage.statedir / layout.EVENTS).read_bytes().splitlines()
    assert {parse_event(line).fields["digest"] for line in events} == set(map(str, old.digests))


def test_one_round_while_no_appliance_runs_needs_no_news(
    settings: Settings, store: DataDirectory
) -> None:
    """Nothing is used then: what `--dry-run` lists goes."""
    old = pull(store, 1, used=time.time() - 90)

    assert main(["--once", "--stopped"], settings) == 0
    assert not any(store.blobs.stat(digest) for digest in old.digests)


def test_what_goes_next_is_what_may_go_in_its_order(
    settings: Settings, store: DataDirectory
) -> None:
    """Not what was pushed, however long ago, and nothing that something newer needs."""
    now = time.time()
    push(store, 5, used=now - 500)
    newer, older = pull(store, 1, used=now - 10), pull(store, 2, used=now - 30)

    found = [each.entry.digest for each in CleanerProcess(settings).next_to_go(100)]

    assert set(found) == {*older.digests, *newer.digests}
    assert set(found[: len(older.digests)]) == set(older.digests)
    assert [each.entry.digest for each in CleanerProcess(settings).next_to_go(1)] == found[:1]
    assert store.index.used_bytes() > 0


def test_one_round_without_news_fails_and_leaves_all(
    settings: Settings, store: DataDirectory
) -> None:
    """The appliance is down: nobody knows what was used last."""
    old = pull(store, 1, used=time.time() - 90)

    assert main(["--once"], settings) == 1

    assert all(old.is_here(store))


def test_a_full_log_does_not_keep_anything_from_going(
    settings: Settings, store: DataDirectory, front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    """Room is what it needs; that events are lost is told once."""
    old = pull(store, 1, used=time.time() - 90)
    (settings.storage.statedir / layout.EVENTS).mkdir()

    assert main(["--once"], settings) == 0

    assert front.seen
    assert not any(old.is_here(store))
    assert capsys.readouterr().out.count("event not written") == 1


def test_a_lost_index_comes_back_before_anything_goes(
    settings: Settings, store: DataDirectory
) -> None:
    """Deleted while it was stopped: rows and order are those of the files."""
    pulled = pull(store, 1, used=time.time() - 90)
    assert isinstance(store.index, SqliteIndex)
    store.index.close()
    for path in settings.storage.statedir.glob("index.sqlite*"):
        path.unlink()

    main(["--once"], settings)

    assert not needs_rebuild(store.index)
    assert store.index.count() == 3
    assert all(pulled.is_here(store))


@pytest.fixture
def expiring(settings: Settings) -> Settings:
    """Return the same settings, with CLEANER_HOSTED=true and a rule of two seconds."""
    cleaner = settings.cleaner.model_copy(update={"hosted": True})
    rule = HostedRule("team/**", ttl=2)
    return settings.model_copy(update={"cleaner": cleaner, "hosted": (rule,)})


@pytest.mark.usefixtures("front")
def test_what_was_pushed_goes_by_its_rule(expiring: Settings, store: DataDirectory) -> None:
    """Or by the TTL of all, where there is none; what was used stays, and what is new."""
    main(["--once"], expiring)
    store.index.touch({}, {BORN: "0"})  # it has seen all uses for ever
    old, young = time.time() - 90, time.time() - 30
    ruled = [push_image(store, _made(n), f"v{n}", at) for n, at in enumerate((old, time.time()))]
    others = [
        push_image(store, _made(n), f"v{n}", at, Repository("lone"))
        for n, at in enumerate((old, young), start=2)
    ]

    assert main(["--once"], expiring) == 0

    assert [any(each.is_here(store)) for each in (*ruled, *others)] == [False, True, False, True]
    assert store.repositories.tags(Repository("lone")) == ["v3"]


def test_garbage_is_told_and_taken_by_hand(
    settings: Settings, store: DataDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while nobody serves; a dry run tells the same and takes nothing."""
    rebuild(store.storage, store.index, 0)
    at = time.time() - 2 * settings.cleaner.garbage
    blob, moved = put_blob(store, b"lone", at), push_image(store, _made(1), "latest", at)
    kept = push_image(store, _made(2), "latest", at)

    assert main(["--gc", "--dry-run", "--delete-untagged"], settings) == 0
    assert store.blobs.stat(blob)
    told = capsys.readouterr().out.splitlines()
    assert main(["--gc", "--delete-untagged"], settings) == 0

    done = capsys.readouterr().out.splitlines()
    assert done[:-1] == told[:-1]
    assert (told[-1].split(",")[0], done[-1].split(",")[0]) == ("2 to remove", "2 removed")
    assert store.blobs.stat(blob) is None
    assert not any(moved.is_here(store))
    assert all(kept.is_here(store))


def test_what_lost_its_tags_goes_only_on_good_news(
    settings: Settings, store: DataDirectory
) -> None:
    """Somebody may have pulled it by its digest a moment ago."""
    rebuild(store.storage, store.index, 0)
    moved = push_image(store, _made(1), "", time.time() - 2 * settings.cleaner.garbage)

    with Front(settings.run / "front.sock", lambda _: None) as front:  # the logger is dead
        news_patience = "entrepot.cleaner.log_barrier._PATIENCE_S"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(news_patience, 0.1)
            assert main(["--gc", "--delete-untagged"], settings) == 1
        assert front.seen

    assert all(moved.is_here(store))


def test_a_ttl_of_seconds_is_looked_after_in_seconds(expiring: Settings) -> None:
    """However rarely rounds are asked for."""
    assert CleanerProcess(expiring)._period() == 1


def _made(number: int) -> Image:
    return image([filler(100, number)], command=(str(number),))


def test_without_settings_it_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with a remedy, and the code for bad input."""
    monkeypatch.delenv("ENTREPOT_SETTINGS", raising=False)

    assert main(["--once"]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert "entrepot serve" in line


def test_it_cleans_until_sigterm(settings: Settings, store: DataDirectory, front: Front) -> None:
    """What is old goes, what was pushed stays; then it ends with 0 and leaves no socket."""
    settings_path, wake = settings.run / "settings.json", settings.run / "cleaner.sock"
    config.dump(settings, settings_path)
    old, pushed = pull(store, 1, used=time.time() - 90), push(store, 2, used=time.time() - 90)
    environ = {**os.environ, "ENTREPOT_SETTINGS": str(settings_path)}
    command = [sys.executable, "-m", "entrepot.cleaner"]

    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as cleaner:
        try:
            eventually(lambda: not any(old.is_here(store)), what="the old image goes")
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
