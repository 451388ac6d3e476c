"""Tests of the table of drivers, through which all programs import and open drivers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.config.distribution import ROWS, KeySupport
from entrepot.config.storage_settings import StorageSettings
from entrepot.datastore.drivers.table import STORAGES, on_disk, open_index, open_storage
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import time_of
from tests.clock import Clock
from tests.packages import PACKAGES

_ROOT = Path(__file__).parent.parent.parent.parent
_PROGRAMS = ("bench", *PACKAGES)
_DRIVERS = _ROOT / "datastore" / "drivers"


def _imported(path: Path) -> set[str]:
    """Return the names that a Python file imports; none if the file does not contain `drivers`."""
    found = set[str]()
    text = path.read_text()
    if "drivers" not in text:
        return found
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{each.name}" for each in node.names)
    return found


def test_only_the_table_names_a_driver() -> None:
    """No program imports a driver of storage or index, except through the table of drivers."""
    named = {
        f"{path.relative_to(_ROOT)}: {module}"
        for program in _PROGRAMS
        for path in (_ROOT / program).rglob("*.py")
        if _DRIVERS not in path.parents
        for module in _imported(path)
        if module.startswith("entrepot.datastore.drivers")
        and not module.startswith("entrepot.datastore.drivers.table.")
    }

    assert named == set()


def test_the_settings_select_a_driver_of_the_table(tmp_path: Path) -> None:
    """The driver that the settings select is opened with the parameters of its section."""
    settings = StorageSettings.from_tree({"filesystem": {"rootdirectory": tmp_path}})

    open_storage(settings).write("a/key", b"value")

    assert (tmp_path / "a" / "key").read_bytes() == b"value"


@pytest.mark.parametrize("driver", STORAGES)
def test_each_driver_has_a_section_that_the_settings_accept(driver: str) -> None:
    """For each driver in the table, the settings accept a section with its name."""
    honoured = {
        each.key.split(".")[1]
        for each in ROWS
        if each.verdict is KeySupport.HONOURED and each.key.startswith("storage.")
    }

    assert driver in honoured


def test_a_driver_writes_the_times_of_the_given_clock(tmp_path: Path) -> None:
    """If a driver gets a clock, it writes values with the times of this clock."""
    storage = open_storage(on_disk(tmp_path), Clock(1234.0))

    storage.write("a/key", b"value")

    stat = storage.stat("a/key")
    assert stat is not None
    assert time_of(stat) == 1234.0


def test_two_programs_that_open_the_index_of_a_state_directory_share_it(tmp_path: Path) -> None:
    """If two programs open the index of the same state directory, they use the same rows."""
    digest = Digest.of(b"content")
    first, second = open_index(tmp_path), open_index(tmp_path)

    first.record(digest, 7, ContentKind.BLOB, 1.0)

    entry = second.entry(digest)
    assert entry is not None
    assert entry.size == 7
    first.close()
    second.close()


_ON_A_DISK = """
import sys, threading
from pathlib import Path
from entrepot import config
import entrepot.appliance.serve
from entrepot.cleaner.__main__ import CleanerProcess
from entrepot.datastore import layout
from entrepot.edge import cache_epoch
from entrepot.edge.invalidation import Invalidation
from entrepot.logger.__main__ import work
from entrepot.registry.__main__ import parts
from entrepot.runtime.clock import Clock
from tests.packages import PACKAGES

root = Path(sys.argv[1])
loaded = config.load([f"--storage.filesystem.rootdirectory={root}"], {}).settings
state = loaded.storage.statedir
state.mkdir(parents=True)
config.dump(loaded, root / "settings.json")
settings = config.resolved({"ENTREPOT_SETTINGS": str(root / "settings.json")})
cache_epoch.begin(root)
epoch = cache_epoch.CacheEpoch(root)
made = parts(settings, epoch, Invalidation(epoch))
CleanerProcess(settings)
work(settings, Clock(state / layout.CLOCK))
names = ("obstore", "drivers.s3", "drivers.azure", "drivers.oss", "drivers.gcs", "drivers.objects")
names += ("datastore.owned", "datastore.snapshot", "bucket", "pullthrough.redirects")
names += ("storage_redirects", "appliance.migrate", "own_process")
print(*(each for each in sys.modules if any(name in each for name in names)))
print(*(each.name for each in threading.enumerate()))
"""


@pytest.mark.slow
def test_content_on_a_disk_costs_no_import_and_no_thread_of_another_driver(tmp_path: Path) -> None:
    """If content is on a disk, no program imports a module for buckets or starts a thread for them.

    So the support of buckets costs these programs no memory and no CPU.
    """
    found = subprocess.run(
        [sys.executable, "-c", _ON_A_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert found.returncode == 0, found.stderr
    modules, threads = found.stdout.split("\n")[:2]
    assert modules.split() == []
    assert threads == "MainThread"
