"""With `storage: inmemory` an appliance keeps all content in memory."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.datastore import layout
from tests.system.appliance import Appliance, Setup
from tests.system.driver_checks import CHECKS, SMALL, Check
from tests.system.images import KB, of_size
from tests.system.pulls import pull
from tests.system.pushes import ALLOWED, push, tags
from tests.upstream import FakeUpstream


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder in memory (/dev/shm) that contains a file of another program."""
    made = Path(tempfile.mkdtemp(prefix="ent-memory-", dir="/dev/shm"))
    (made / "other").write_text("kept")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run the upstream for all tests of this file."""
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def setup(folder: Path, upstream: FakeUpstream) -> Setup:
    """Return the configuration of an appliance with `storage: inmemory`."""
    storage = {**ALLOWED["storage"], "inmemory": {"rootdirectory": str(folder)}}
    return Setup(
        {"one.test": {"url": upstream.url}},
        {"storage": storage},
        {**SMALL, "REGISTRYDIR": ""},
        data=folder,
    )


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory, setup: Setup) -> Iterator[Appliance]:
    """Run one appliance in memory, with two workers."""
    with Appliance(tmp_path_factory.mktemp("memory"), setup) as running:
        yield running


@pytest.mark.parametrize("check", CHECKS, ids=lambda each: str(each.__name__))
def test_clients_are_served_from_memory(
    appliance: Appliance, upstream: FakeUpstream, check: Check
) -> None:
    """Each check of the storage drivers passes for an appliance that keeps content in memory."""
    check(appliance, upstream)


def test_the_folder_has_the_content_until_the_appliance_ends(
    appliance: Appliance, folder: Path, setup: Setup, tmp_path: Path
) -> None:
    """The folder has the content of a running appliance, which deletes the content at its exit.

    After a kill, the next start deletes the content. Files of other programs are not deleted.
    """
    assert push(appliance.http, "team/app", "v1", of_size(100 * KB, 570))
    assert (folder / layout.REPOSITORIES / "team/app").is_dir()

    assert appliance.stop() == 0
    assert [each.name for each in folder.iterdir()] == ["other"]

    appliance.start()
    assert push(appliance.http, "team/app", "v1", of_size(100 * KB, 571))
    appliance.kill()
    assert (folder / layout.REPOSITORIES / "team/app").is_dir()
    with Appliance(tmp_path, replace(setup)) as another:
        assert tags(another.http, "team/app") == []
        pull(another.http, "one.test/pull", "v1")
    assert [each.name for each in folder.iterdir()] == ["other"]
    appliance.start()


def test_a_second_appliance_does_not_empty_the_folder(
    appliance: Appliance, setup: Setup, tmp_path: Path
) -> None:
    """A second appliance on the same folder exits with 2, and removes nothing."""
    assert push(appliance.http, "team/first", "v1", of_size(100 * KB, 572))
    second = Appliance(tmp_path, setup)

    code = second.launch().wait(timeout=30)

    assert code == 2
    assert "another appliance uses this data directory" in second.output()
    assert tags(appliance.http, "team/first") == ["v1"]
    assert appliance.stop(signal.SIGINT) == 0
    appliance.start()
