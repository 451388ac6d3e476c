"""What the system tests share: clients with stores of their own, upstreams, one usual appliance."""

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
"""How the files begin whose tests use the engine `podman`, which one session has at a time."""
_MUCH = 4000  # characters of a log
Start = Callable[[Setup], Appliance]


class _ByFile(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist has no types for it
    """Keeps the tests of a file in one process, and all that use podman's one store."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "podman" if Path(file).name.startswith(_PODMAN) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Share the tests out among processes; an appliance that a file shares is started once."""
    return _ByFile(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test of this folder: `make check` leaves it out."""
    item.add_marker(pytest.mark.system)
    uses_podman = "podman" in getattr(item, "fixturenames", ())
    assert not uses_podman or item.path.name.startswith(_PODMAN), "name it as _PODMAN has it"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a test that failed what its appliances said."""
    report = yield
    if report.failed and report.when == "call":
        found = getattr(item, "funcargs", {}).get("tmp_path")
        for log in sorted(found.glob("appliance*/appliance.log")) if found else ():
            report.sections.append((str(log), log.read_text(errors="replace")[-_MUCH:]))
    return report


@pytest.fixture
def clients() -> Iterator[Clients]:
    """A user with podman and skopeo, no image and no login."""
    folder = Path(tempfile.mkdtemp(prefix="cl-"))  # short: podman wants a runroot of 50 characters
    user = Clients(folder)
    yield user
    user.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    """Podman with a store of the tests' own."""
    if os.geteuid() != 0 or (absent := missing()):
        here = "root" if os.geteuid() != 0 else " ".join(absent)
        pytest.skip(f"{here} is needed: as root, sh appliance/packages.sh test")
    with engine() as found:
        yield found


@pytest.fixture(scope="session")
def image(podman: Engine) -> str:
    """The image, as `make image` builds it, with no registry in reach."""
    return podman.build("trixie")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounts:
    """What an operator mounts, each with the owner and the mode that it has by itself."""
    return Mounts(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeUpstream]:
    """An upstream of our own, honest until told otherwise."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A docker-registry for everybody, which no test stops."""
    with Registry(tmp_path_factory.mktemp("public")) as registry:
        yield registry


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start appliances that end with the test, each with nothing left behind."""
    with ExitStack() as running:
        numbers = iter(range(1000))

        def begin(setup: Setup) -> Appliance:
            folder = tmp_path / f"appliance{next(numbers)}"
            return running.enter_context(Appliance(folder, setup))

        yield begin


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """One appliance for a module's tests that neither fill it nor change how it is set up."""
    setup = Setup({"one.test": {"url": public.url}})
    with Appliance(tmp_path_factory.mktemp("shared"), setup) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """One appliance for a module's pushes, with two workers; clients may delete."""
    setup = Setup({"one.test": {"url": public.url}}, ALLOWED, {"ENTREPOT_WORKERS": "2"})
    with Appliance(tmp_path_factory.mktemp("hosting"), setup) as appliance:
        yield appliance
