"""Test `entrepot gc` and `entrepot clean`, which run the cleaner once."""

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
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import BORN, REBUILT
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import set_time
from entrepot.runtime import run_names
from tests import images
from tests.cleaner.stock import put_blob
from tests.disk_storage import disk_storage
from tests.logger.lines import answer, written

pytestmark = pytest.mark.slow

_OLD = 1_000_000_000.0


@pytest.fixture
def untagged(tmp_path: Path) -> Digest:
    """Store a manifest without a tag that was pushed long ago, and return its digest."""
    storage = disk_storage(tmp_path)
    body, _ = images.index([])
    digest = Digest.of(body)
    storage.write(layout.blob(digest), body)
    Repositories(storage).link_manifest(Repository("team/app"), digest)
    for key in (layout.blob(digest), layout.revision_link(Repository("team/app"), digest)):
        set_time(storage, key, _OLD)
    return digest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gc", "--dry-run"], "0 to remove"),
        (["gc", "--dry-run", "--delete-untagged"], "1 to remove"),
        (["garbage-collect", "-d", "-m"], "1 to remove"),
        (["garbage-collect", "-dm"], "1 to remove"),
        (["garbage-collect", "--dry-run=true", "--delete-untagged=false"], "0 to remove"),
        (["gc"], "0 removed"),
    ],
    ids=" ".join,
)
def test_gc_lists_garbage_and_removes_only_what_its_options_allow(
    tmp_path: Path,
    untagged: Digest,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    """While no appliance runs, `gc` lists and removes garbage; the options select the garbage."""
    assert main([*words, f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert capfd.readouterr().out.splitlines()[-1].startswith(expected)
    assert (tmp_path / layout.blob(untagged)).exists()


def test_quiet_prints_nothing(
    tmp_path: Path, untagged: Digest, capfd: pytest.CaptureFixture[str]
) -> None:
    """`garbage-collect -q` removes the same garbage as without -q, and prints no list."""
    words = ["garbage-collect", "-mq", f"--storage.filesystem.rootdirectory={tmp_path}"]
    assert main(words) == 0

    assert capfd.readouterr().out == ""
    assert not (tmp_path / layout.blob(untagged)).exists()


def test_content_without_a_recorded_use_counts_as_old(
    tmp_path: Path, untagged: Digest, capfd: pytest.CaptureFixture[str]
) -> None:
    """`gc -m` removes content without a recorded use, because such content counts as old."""
    assert main(["gc", "-m", f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert str(untagged) in capfd.readouterr().out
    assert not (tmp_path / layout.blob(untagged)).exists()


@pytest.fixture
def pulled(tmp_path: Path) -> tuple[Digest, Digest]:
    """Store two blobs that were last used long ago, and return their digests.

    The access log has a line with a new use of the second blob, which the logger has not read yet.
    """
    state = tmp_path / layout.OWN
    index = open_index(state)
    store = DataDirectory(disk_storage(tmp_path), index, state / layout.SPOOL)
    digests = (put_blob(store, b"one", _OLD), put_blob(store, b"two", _OLD))
    index.notes.put({REBUILT: "1", BORN: str(_OLD)})
    index.close()
    log = state / layout.ACCESS_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    line = answer(digest=str(digests[1]), start=int(time.time() * 1000))
    log.write_bytes(written(line) + b"\n")
    return digests


def test_clean_evicts_while_no_appliance_runs_after_reading_the_access_log(
    tmp_path: Path, pulled: tuple[Digest, Digest]
) -> None:
    """`entrepot clean` reads the access log before it evicts, so recently used content stays."""
    unused, used = pulled
    assert main(["clean", "--once", f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert not (tmp_path / layout.blob(unused)).exists()
    assert (tmp_path / layout.blob(used)).exists()


@pytest.fixture
def running(tmp_path: Path, pulled: tuple[Digest, Digest]) -> Iterator[Path]:
    """Create a run directory like that of a running appliance with a TTL of 20,000 days."""
    assert pulled
    words = [f"--storage.filesystem.rootdirectory={tmp_path}", "--cleaner.ttl=20000d"]
    settings = config.load(words, {}).settings
    with rundir.create(tmp_path / layout.OWN) as run:
        config.dump(settings, run / run_names.SETTINGS)
        yield run


@pytest.mark.parametrize(
    ("flags", "count"),
    [((), 0), (("--cleaner.ttl=1d",), 2), (("--cleaner.ttl", "1d", "--log.level=debug"), 2)],
    ids=["as it runs", "with a flag", "with two"],
)
def test_flags_override_the_settings_of_a_running_appliance(
    running: Path, capfd: pytest.CaptureFixture[str], flags: Sequence[str], count: int
) -> None:
    """Flags of `clean` override the settings of the running appliance."""
    expected = json.loads((running / run_names.SETTINGS).read_bytes())
    root = expected["storage"]["filesystem"]["rootdirectory"]
    before = sorted(running.iterdir())

    assert main(["clean", "--dry-run", f"--storage.filesystem.rootdirectory={root}", *flags]) == 0

    output = capfd.readouterr().out
    assert f"{count} to remove" in output
    assert sorted(running.iterdir()) == before


@pytest.mark.usefixtures("running")
def test_a_flag_without_effect_on_a_running_appliance_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`entrepot clean` refuses a flag that has no effect on the running appliance.

    Otherwise the operator would not notice that the flag is ignored.
    """
    root = f"--storage.filesystem.rootdirectory={tmp_path}"
    assert main(["clean", "--dry-run", root, "--http.workers=3"]) == 2

    assert (
        "--http.workers: the flag has no effect while an appliance runs" in capsys.readouterr().err
    )
