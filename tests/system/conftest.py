"""The fixtures of the system tests: clients, upstreams and appliances."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.containers import Engine, engine, missing
from tests.system.mounts import Mounts
from tests.system.pushes import ALLOWED
from tests.system.registries import Registry
from tests.upstream import FakeUpstream

# The appliances of these tests store on a real disk: without this line, the folders of pytest would
# be in memory.
os.environ.pop("PYTEST_DEBUG_TEMPROOT", None)

_PODMAN = ("test_image", "test_play_kube")
"""The prefixes of the test files that may use the fixture `podman`.

Only one pytest process at a time can use this fixture, so one process runs all these files.
"""
_MUCH = 4000  # characters of an appliance's log in the report of a failed test
_LONGEST = (
    "test_image",
    "test_s3",
    "test_attacks",
    "test_clients_outage",
    "test_outage",
    "test_clients_pulls",
    "test_supervision",
    "test_expiry",
    "test_suspend",
    "test_logger",
    "test_s3_outages",
    "test_serve",
    "test_patience_outages",
    "test_clients_fallback",
    "test_push",
    "test_clock",
    "test_memory",
    "test_disk_full",
    "test_clients_tls",
    "test_cap",
    "test_takeover",
    "test_half_open",
    "test_single_flight",
    "test_notifications",
    "test_notification_kills",
)
"""The slowest files, which start first so that no slow file runs alone at the end."""
Start = Callable[[Setup], Appliance]


class _ByFile(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types for it
    """Runs each file's tests in one process; the files of `_PODMAN` share one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "podman" if Path(file).name.startswith(_PODMAN) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Distribute the tests by file, so that a fixture for a whole file is started only once."""
    # Otherwise pytest-xdist would sort the files by their number of tests, and ignore _LONGEST.
    config.option.loadscopereorder = False
    return _ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Move the slowest files to the start if several processes run the tests."""
    if hasattr(config, "workerinput"):
        ranks = {name: rank for rank, name in enumerate(_LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test of this folder as a system test, which `make check` does not run."""
    item.add_marker(pytest.mark.system)
    uses_podman = "podman" in getattr(item, "fixturenames", ())
    assert not uses_podman or item.path.name.startswith(_PODMAN), "its file needs a name of _PODMAN"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each appliance's log to the report of a failed test."""
    report = yield
    if report.failed and report.when == "call":
        found = getattr(item, "funcargs", {}).get("tmp_path")
        for log in sorted(found.glob("appliance*/appliance.log")) if found else ():
            report.sections.append((str(log), log.read_text(errors="replace")[-_MUCH:]))
    return report


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Yield the clients of one user; they have no images and no logins yet."""
    # The folder's path is short, because podman allows at most 50 characters.
    folder = Path(tempfile.mkdtemp(prefix="cl-"))
    user = Clients(folder)
    yield user
    user.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    """Return podman with an image store that only the tests use."""
    if os.geteuid() != 0 or (absent := missing()):
        here = "root" if os.geteuid() != 0 else " ".join(absent)
        pytest.skip(f"{here} is needed: as root, sh appliance/packages.sh test")
    with engine() as found:
        yield found


@pytest.fixture(scope="session")
def image(podman: Engine) -> str:
    """Build the container image with `make image`, which needs no registry; return its name."""
    return podman.build("trixie")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounts:
    """Return the folder of files that an operator mounts, with their usual owners and modes."""
    return Mounts(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeUpstream]:
    """Run a fake upstream that behaves correctly until a test changes its behaviour."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Run a docker-registry without authentication for all tests; no test stops it."""
    with Registry(tmp_path_factory.mktemp("public")) as registry:
        yield registry


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts an appliance; the end of the test stops the appliance."""
    with ExitStack() as running:
        numbers = iter(range(1000))

        def begin(setup: Setup) -> Appliance:
            folder = tmp_path / f"appliance{next(numbers)}"
            return running.enter_context(Appliance(folder, setup))

        yield begin


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """Run an appliance for all tests that neither fill its disk nor change its settings."""
    setup = Setup({"one.test": {"url": public.url}})
    with Appliance(tmp_path_factory.mktemp("shared"), setup) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """Run an appliance with two workers for all push tests of a file; deletions are permitted."""
    setup = Setup({"one.test": {"url": public.url}}, ALLOWED, {"ENTREPOT_WORKERS": "2"})
    with Appliance(tmp_path_factory.mktemp("hosting"), setup) as appliance:
        yield appliance
