"""Define the fixtures of the system tests: clients, upstreams, and appliances."""

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

_PODMAN = ("test_image", "test_play_kube")
"""Prefixes of the files whose tests use the engine `podman`; one session has it at a time."""
_MUCH = 4000  # the number of characters of a log that a report shows
_LONGEST = (
    "test_image",
    "test_attacks",
    "test_clients_pulls",
    "test_serve",
    "test_expiry",
    "test_clock",
    "test_logger",
    "test_clients_outage",
    "test_outage",
    "test_push",
    "test_single_flight",
    "test_notifications",
    "test_supervision",
    "test_notification_kills",
)
"""Names of the files that run for the longest time: they start first, so that none starts last."""
Start = Callable[[Setup], Appliance]


class _ByFile(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types for it
    """Run the tests of a file in one process.

    All tests that use podman's store share one process.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "podman" if Path(file).name.startswith(_PODMAN) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Distribute the tests by file, so that an appliance of a file is started once."""
    config.option.loadscopereorder = False  # pytest-xdist would start the file with most tests
    return _ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first where several processes run the files."""
    if hasattr(config, "workerinput"):
        ranks = {name: rank for rank, name in enumerate(_LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test of this folder as a system test; `make check` deselects system tests."""
    item.add_marker(pytest.mark.system)
    uses_podman = "podman" in getattr(item, "fixturenames", ())
    assert not uses_podman or item.path.name.startswith(_PODMAN), "its file needs a name of _PODMAN"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of a failed test's appliances to its report."""
    report = yield
    if report.failed and report.when == "call":
        found = getattr(item, "funcargs", {}).get("tmp_path")
        for log in sorted(found.glob("appliance*/appliance.log")) if found else ():
            report.sections.append((str(log), log.read_text(errors="replace")[-_MUCH:]))
    return report


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Return the clients of one user, which has no images and no logins yet."""
    folder = Path(tempfile.mkdtemp(prefix="cl-"))  # short: podman allows 50 characters
    user = Clients(folder)
    yield user
    user.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    """Return podman with a store that only the tests use."""
    if os.geteuid() != 0 or (absent := missing()):
        here = "root" if os.geteuid() != 0 else " ".join(absent)
        pytest.skip(f"{here} is needed: as root, sh appliance/packages.sh test")
    with engine() as found:
        yield found


@pytest.fixture(scope="session")
def image(podman: Engine) -> str:
    """Return the container image, built by `make image` without a registry."""
    return podman.build("trixie")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounts:
    """Return the files that an operator mounts, each with its usual owner and mode."""
    return Mounts(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeUpstream]:
    """Run a fake upstream that behaves correctly until a test changes its behaviour."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Run a docker-registry without authentication, which no test stops."""
    with Registry(tmp_path_factory.mktemp("public")) as registry:
        yield registry


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts an appliance; each appliance is stopped after the test."""
    with ExitStack() as running:
        numbers = iter(range(1000))

        def begin(setup: Setup) -> Appliance:
            folder = tmp_path / f"appliance{next(numbers)}"
            return running.enter_context(Appliance(folder, setup))

        yield begin


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """Run one appliance for tests that neither fill the store nor change settings."""
    setup = Setup({"one.test": {"url": public.url}})
    with Appliance(tmp_path_factory.mktemp("shared"), setup) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """Run one appliance with two workers for a module's pushes; its clients may delete content."""
    setup = Setup({"one.test": {"url": public.url}}, ALLOWED, {"ENTREPOT_WORKERS": "2"})
    with Appliance(tmp_path_factory.mktemp("hosting"), setup) as appliance:
        yield appliance
