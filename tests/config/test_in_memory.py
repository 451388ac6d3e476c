"""Test `storage.inmemory`: how it is selected, and settings that contradict it."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot import config
from entrepot.runtime.memory_limit import memory_limit
from tests.config.config_folder import ConfigFolder

_STATE = (
    "ENTREPOT_STATEDIR=/state: with storage.inmemory, the index and the logs are in memory too;"
    " take it out"
)


@pytest.mark.parametrize("text", ["storage: inmemory", "storage: {inmemory: }"])
def test_the_driver_needs_no_key(config_folder: ConfigFolder, text: str) -> None:
    """`storage.inmemory` needs no key: the folder and the limit have defaults."""
    config_folder.write(text)

    storage = config_folder.settings().storage

    root = Path("/dev/shm/entrepot")
    assert (storage.driver, storage.parameters) == ("inmemory", {"rootdirectory": root})
    assert storage.statedir == root / "entrepot"
    assert config_folder.settings().cleaner.maxsize == memory_limit() // 2
    assert config_folder.settings(CLEANER_MAXSIZE="2G").cleaner.maxsize == 2 * 2**30


def test_the_environment_selects_the_driver(config_folder: ConfigFolder) -> None:
    """REGISTRY_STORAGE=inmemory replaces the driver of the file and all keys of that driver."""
    config_folder.write("storage: {filesystem: {rootdirectory: /data}}")

    assert config_folder.settings(REGISTRY_STORAGE="inmemory").storage.driver == "inmemory"
    in_folder = config_folder.settings(
        REGISTRY_STORAGE="inmemory", REGISTRY_STORAGE_INMEMORY_ROOTDIRECTORY="/m"
    )
    assert in_folder.storage.rootdirectory == Path("/m")


def test_two_drivers_are_a_problem(config_folder: ConfigFolder) -> None:
    """Two storage drivers are a problem: the appliance must not guess where content belongs."""
    config_folder.write("storage: {filesystem: {rootdirectory: /data}, inmemory: }")

    (problem,) = config_folder.problems()

    assert problem == "config.yml:1: storage.inmemory: a second storage driver; keep one"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ENTREPOT_STATEDIR": "/state"}, _STATE),
        (
            {"CLEANER_MAXSIZE": "0"},
            "CLEANER_MAXSIZE=0: storage.inmemory needs a size limit; try 1G",
        ),
    ],
)
def test_settings_that_contradict_it_are_problems(
    config_folder: ConfigFolder, environ: dict[str, str], expected: str
) -> None:
    """Settings that contradict `storage.inmemory` are problems.

    Without a size limit the content would fill the memory, and an index on a disk would outlive the
    content that it lists.
    """
    assert config_folder.problems(REGISTRY_STORAGE="inmemory", **environ) == [expected]


def test_a_folder_on_a_disk_is_refused(config_folder: ConfigFolder) -> None:
    """A folder of `inmemory` on a file system that is not in memory, such as /proc, is refused."""
    settings = config_folder.settings(REGISTRY_STORAGE_INMEMORY_ROOTDIRECTORY="/proc/entrepot")

    (problem,) = config.check(settings)

    assert str(problem).startswith(
        "storage.inmemory.rootdirectory=/proc/entrepot: the file system of the folder is proc;"
    )
