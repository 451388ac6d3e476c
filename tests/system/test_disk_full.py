"""Tests appliances whose disk is full or read-only, or whose run directory is deleted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.pulls import blob_path
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

MB = 1_000_000
ENVIRONMENT = {"ENTREPOT_WORKERS": "2", "ENTREPOT_PREFETCH": "0", "CLEANER_MAXSIZE": "1G"}
Mount = Callable[[str], Path]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Return a function that mounts a small file system in memory and returns its path."""
    places: list[Path] = []

    def made(options: str) -> Path:
        # The path is short, because the length of a socket's path is limited.
        place = Path(tempfile.mkdtemp(prefix="m-"))
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            place.rmdir()
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield made
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


def _remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


def _fill(place: Path) -> Path:
    """Write a file that fills the disk, and return its path."""
    with suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return place / "filler"


def _get(appliance: Appliance, digest: Digest) -> bytes:
    response = appliance.http.get(blob_path("one.test/app", digest))
    assert response.status == 200, response
    return response.body


def _is_stored(appliance: Appliance, fake: FakeUpstream, digest: Digest) -> bool:
    """Return True if a pull of the blob causes no upstream request."""
    before = len(fake.find("GET", str(digest)))
    assert _get(appliance, digest)
    return len(fake.find("GET", str(digest))) == before


@pytest.mark.parametrize("trouble", ["read-only", "full"])
def test_it_starts_serves_and_recovers_on_a_disk_that_takes_nothing(
    mount: Mount, start: Start, fake: FakeUpstream, trouble: str
) -> None:
    """On a full or read-only disk the appliance starts, and clients can pull all content.

    The appliance stores content again as soon as the disk has space or is writable.
    """
    disk = mount("size=32m")
    stored = [fake.add_blob("app", filler(2 * MB, number)) for number in range(6)]
    missing = fake.add_blob("app", filler(2 * MB, 99))
    setup = Setup({"one.test": {"url": fake.url}}, {}, ENVIRONMENT, data=disk / "data")
    appliance = start(setup)
    for digest in stored:
        _get(appliance, digest)
    assert appliance.stop() == 0
    if trouble == "full":
        _fill(disk)
    else:
        _remount(disk, "ro")

    appliance.start()
    shown = appliance.entrepot("status").stdout

    assert _is_stored(appliance, fake, stored[-1])
    assert _get(appliance, missing) == filler(2 * MB, 99)
    assert f"disk={trouble}" in appliance.output()
    if trouble == "read-only":
        assert f"{disk / 'data'} is read-only" in shown
        eventually(lambda: _writable(appliance) == 0, what="the metric reports the read-only disk")
        _remount(disk, "rw")
    eventually(
        lambda: _is_stored(appliance, fake, missing), what="a blob is stored", within=20, pause=0.3
    )
    if trouble == "full":
        eventually(
            lambda: appliance.metric("entrepot_evictions_total", reason="disk"), what="an eviction"
        )
    eventually(lambda: _writable(appliance) == 1, what="the metric reports a writable disk")
    assert "Traceback" not in appliance.output()


def _writable(appliance: Appliance) -> float | None:
    if appliance.http.get("/metrics").status != 200:
        return None
    return appliance.metric("entrepot_disk_writable")


def test_programs_that_must_restart_in_a_full_temporary_folder_wait_for_room(
    fake: FakeUpstream, mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a program exits while the folder for temporary files is full, its restart waits for space.

    The appliance logs one line about the wait.
    """
    disk = mount("size=1m,nr_inodes=80")
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    digest = fake.add_blob("app", filler(1000, 1))
    setup = Setup({"one.test": {"url": fake.url}}, {}, ENVIRONMENT)
    with Appliance(tmp_path / "appliance", setup) as appliance:
        eventually(lambda: "serving" in appliance.output(), what="the appliance serves")
        with suppress(OSError):
            for number in range(80):
                (disk / f"f{number}").touch()
        appliance.kill_program("haproxy")
        said = "programs wait for disk space"
        eventually(lambda: said in appliance.output(), what=said, within=30)
        for each in disk.glob("f*"):
            each.unlink()

        eventually(lambda: _answers(appliance, digest), what="pulls succeed again", within=20)
    assert "Traceback" not in appliance.output()


def _answers(appliance: Appliance, digest: Digest) -> bool:
    try:
        return bool(_get(appliance, digest))
    except (OSError, HTTPException):
        return False


def test_a_deleted_run_directory_ends_it_at_once_with_a_message(start: Start) -> None:
    """If the run directory is deleted, the appliance exits with a message.

    Without the run directory the appliance could restart none of its programs. After the exit, the
    service manager can start the whole appliance again.
    """
    appliance = start(Setup({}, {}, ENVIRONMENT))
    eventually(lambda: "serving" in appliance.output(), what="the appliance serves")
    run = Path(os.fsdecode((appliance.state / "run").read_bytes()))
    shutil.rmtree(run)

    code = appliance.ended(within=15)

    assert code == 1
    assert f"the sockets in {run} were deleted" in appliance.output()
