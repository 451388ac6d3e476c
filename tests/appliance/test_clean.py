"""`entrepot gc`: the cleaner by hand, as docker distribution's operators call it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from entrepot import config
from entrepot.appliance import rundir
from entrepot.appliance.__main__ import main
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.index import REBUILT
from entrepot.datastore.rebuild import BORN
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from tests import images
from tests.cleaner.stock import put_blob
from tests.logger.lines import answer, written

_OLD = 1_000_000_000.0


@pytest.fixture
def untagged(tmp_path: Path) -> Digest:
    """Return a manifest that was pushed long ago and lost its tag, in a data directory here."""
    storage = Filesystem(tmp_path)
    body, _ = images.index([])
    digest = Digest.of(body)
    storage.write(layout.blob(digest), body)
    Repositories(storage).link_manifest(Repository("team/app"), digest)
    for key in (layout.blob(digest), layout.revision_link(Repository("team/app"), digest)):
        storage.stamp(key, _OLD)
    return digest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gc", "--dry-run"], "0 to remove"),
        (["gc", "--dry-run", "--delete-untagged"], "1 to remove"),
        (["garbage-collect", "-d", "-m"], "1 to remove"),
        (["gc"], "0 removed"),
    ],
    ids=" ".join,
)
def test_it_tells_what_goes_and_takes_only_what_was_asked_for(
    tmp_path: Path, untagged: Digest, capfd: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """On stdout, a line for all at the end; nobody serves."""
    assert main([*words, f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert capfd.readouterr().out.splitlines()[-1].startswith(told)
    assert (tmp_path / layout.blob(untagged)).exists()


def test_what_the_index_never_saw_used_is_old_from_its_first_day(
    tmp_path: Path, untagged: Digest, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who asks for it by hand means what he has."""
    assert main(["gc", "-m", f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert str(untagged) in capfd.readouterr().out
    assert not (tmp_path / layout.blob(untagged)).exists()


@pytest.fixture
def pulled(tmp_path: Path) -> tuple[Digest, Digest]:
    """Return two blobs, used long ago; the second again, by a log line that is not read yet."""
    state = tmp_path / layout.OWN
    index = SqliteIndex(state / layout.INDEX)
    store = DataDirectory(Filesystem(tmp_path), index, state / layout.SPOOL)
    digests = (put_blob(store, b"one", _OLD), put_blob(store, b"two", _OLD))
    index.touch({}, {REBUILT: "1", BORN: str(_OLD)})
    index.close()
    log = state / layout.ACCESS_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    line = answer(digest=str(digests[1]), start=int(time.time() * 1000))
    log.write_bytes(written(line) + b"\n")
    return digests


def test_it_evicts_while_nothing_runs_and_reads_the_log_before(
    tmp_path: Path, pulled: tuple[Digest, Digest]
) -> None:
    """What a killed appliance had logged counts as used."""
    unused, used = pulled
    assert main(["clean", "--once", f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert not (tmp_path / layout.blob(unused)).exists()
    assert (tmp_path / layout.blob(used)).exists()


@pytest.fixture
def running(tmp_path: Path, pulled: tuple[Digest, Digest]) -> Iterator[Path]:
    """Have an appliance live in the data directory, with a TTL of 20,000 days."""
    assert pulled
    words = [f"--storage.filesystem.rootdirectory={tmp_path}", "--cleaner.ttl=20000d"]
    settings = config.load(words, {}).settings
    with rundir.create(tmp_path / layout.OWN) as run:
        config.dump(settings, run / "settings.json")
        yield run


@pytest.mark.parametrize(
    ("flags", "count"),
    [((), 0), (("--cleaner.ttl=1d",), 2), (("--cleaner.ttl", "1d", "--log.level=debug"), 2)],
    ids=["as it runs", "with a flag", "with two"],
)
def test_flags_count_while_an_appliance_runs(
    running: Path, capfd: pytest.CaptureFixture[str], flags: Sequence[str], count: int
) -> None:
    """Over what it runs with; nothing stays in its run directory."""
    told = json.loads((running / "settings.json").read_bytes())
    root = told["storage"]["filesystem"]["rootdirectory"]
    before = sorted(running.iterdir())

    assert main(["clean", "--dry-run", f"--storage.filesystem.rootdirectory={root}", *flags]) == 0

    said = capfd.readouterr().out
    assert f"{count} to remove" in said
    assert sorted(running.iterdir()) == before


@pytest.mark.usefixtures("running")
def test_a_flag_that_cannot_count_while_it_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was ignored without a word."""
    root = f"--storage.filesystem.rootdirectory={tmp_path}"
    assert main(["clean", "--dry-run", root, "--http.workers=3"]) == 2

    assert "--http.workers: has no effect while an appliance runs" in capsys.readouterr().err
