"""Test `entrepot status`, which shows the state of the appliance on one screen."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.appliance import rundir
from entrepot.appliance.overall_state import look
from entrepot.appliance.run_state import HitCounts, RunState
from entrepot.appliance.state_file import (
    ClockStatus,
    DamagedFile,
    EndpointStatus,
    NextEviction,
    ProgramStatus,
    Status,
    StoreStatus,
)
from entrepot.appliance.status import screen, status
from entrepot.config.schema import CleanerSettings, Settings
from entrepot.config.storage_settings import FilesystemSettings, StorageSettings
from entrepot.datastore import layout
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import REBUILT, ContentKind
from entrepot.datastore.refs import Digest
from entrepot.runtime import run_names

GIB = 1024**3
SEEN = Status(
    url="http://localhost:5000",
    data="/data",
    up=3700.0,
    processes=(
        ProgramStatus("haproxy", "running", 77, 3699.0, 1),
        ProgramStatus("logger", "fatal", 0, 0.0, 5),
    ),
    store=StoreStatus(2 * GIB, 30, (NextEviction("sha256:abc", "blob", GIB, 86400.0),)),
    maxsize=10 * GIB,
    cap=12 * GIB,
    counted=HitCounts(hits=9, misses=1),
    lag=0.2,
    upstreams={"quay.io": "no problem", "docker.io": "open for 3s (refused)"},
    clock=ClockStatus(0.0, 0),
)


def test_the_screen_shows_everything() -> None:
    """`status` shows all that an operator needs if the appliance is slow, full or unavailable."""
    text = "\n".join(screen(SEEN))

    for expected in (
        "http://localhost:5000, up 1h1m, data in /data",
        "haproxy    running        77",
        "logger     fatal           -",
        "2.0 GiB in 30 blobs; kept below 10 GiB, never more than 12 GiB",
        "9 hits, 1 misses, 90 % hits since the start",
        "docker.io: open for 3s (refused)",
        "sha256:abc  blob      1.0 GiB, unused for 1d",
    ):
        assert expected in text


def test_endpoints_of_notifications_are_listed() -> None:
    """`status` shows how many events wait for each endpoint, and how many were dropped."""
    endpoints = (EndpointStatus("ci", 7, 0), EndpointStatus("audit", 0, 3))

    lines = [line for line in screen(replace(SEEN, endpoints=endpoints)) if "waiting" in line]

    assert lines == [
        "events     ci: 7 waiting, 0 dropped",
        "           audit: 0 waiting, 3 dropped",
    ]


def test_damaged_files_are_listed() -> None:
    """`status` lists damaged files with the repositories whose content is lost."""
    broken = (DamagedFile("sha256:abc", GIB, ("team/app",)), DamagedFile("sha256:def", GIB, ()))

    lines = [line for line in screen(replace(SEEN, damaged=broken)) if "in quarantine" in line]

    assert lines == [
        "damaged    sha256:abc   1.0 GiB in quarantine, lost: pushed to team/app",
        "           sha256:def   1.0 GiB in quarantine",
    ]


def test_failing_checks_are_listed_with_their_reasons() -> None:
    """`status` lists failing checks with their reasons: while a check fails, requests get 503."""
    found = replace(SEEN, checks={"/down": "file exists", "a:1": "connection failed"})

    lines = [line for line in screen(found) if "503" in line]

    assert lines == [
        "health     requests get 503 because a check fails: /down: file exists",
        "           requests get 503 because a check fails: a:1: connection failed",
    ]


def test_unknown_values_are_shown_as_unknown() -> None:
    """`status` shows unknown values as unknown, such as those of an unavailable index."""
    text = "\n".join(screen(replace(SEEN, store=None, lag=None, cap=None, counted=HitCounts())))

    assert "size       unknown, no limit" in text
    assert "traffic    0 hits, 0 misses since the start" in text
    assert "log        not read yet" in text


def test_look_reads_index_run_state_and_breakers(tmp_path: Path) -> None:
    """`status` reads index, run state and breakers; without supervisord it lists no processes."""
    settings = Settings(
        storage=StorageSettings(filesystem=FilesystemSettings(rootdirectory=tmp_path)),
        cleaner=CleanerSettings(maxsize=GIB),
        run=tmp_path,
    )
    index = open_index(settings.storage.statedir)
    index.record(Digest.of(b"x"), 1000, ContentKind.BLOB, 50.0)
    RunState(90.0, HitCounts(), {"logger": 2}).write(tmp_path)
    found = look(settings, now=100.0)

    assert found.up == 10.0
    assert found.processes == ()
    assert found.store is not None
    assert [(each.size, each.idle) for each in found.store.next] == [(1000, 50.0)]
    assert found.upstreams["quay.io"] == "no problem"


@pytest.mark.timeout(30)
def test_pipes_in_place_of_the_appliances_files_do_not_stop_the_command(tmp_path: Path) -> None:
    """`status` does not wait for pipes that the service user has put in place of files."""
    run, data = tmp_path / "run", tmp_path / "data"
    settings = Settings(
        storage=StorageSettings(filesystem=FilesystemSettings(rootdirectory=data)), run=run
    )
    state = settings.storage.statedir
    state.mkdir(parents=True)
    (run / run_names.BREAKERS).mkdir(parents=True)
    names = (
        run_names.RUN_STATE,
        run_names.METRICS,
        run_names.HEALTH,
        f"{run_names.BREAKERS}/a.json",
    )
    for path in (*(run / name for name in names), state / layout.CLOCK, state / "run"):
        os.mkfifo(path)

    assert rundir.find(state) is None
    found = look(settings, now=100.0)
    assert (found.counted, found.lag) == (HitCounts(), None)
    assert list(found.checks) == [run_names.HEALTH]


def test_hits_count_from_the_start() -> None:
    """`status` shows the hits since the start, although the logger's counters survive a restart."""
    assert HitCounts(10, 4).since(HitCounts(7, 4)) == HitCounts(3, 0)
    assert HitCounts(1, 1).since(HitCounts(7, 4)) == HitCounts(1, 1)


def test_without_an_appliance_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If no appliance runs, `entrepot status` exits with 1; scripts rely on this."""
    flag = f"--storage.filesystem.rootdirectory={tmp_path}"

    assert status([flag], {}) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_a_jump_of_the_wall_clock_is_shown() -> None:
    """`status` shows a jump of the wall clock with its effect on eviction.

    `status` has no line about a wall clock that is correct.
    """
    text = "\n".join(screen(replace(SEEN, clock=ClockStatus(-3600.0, 1))))

    assert "the wall clock jumped 1h back: nothing is evicted by age" in text
    assert "clock" not in "\n".join(screen(SEEN))


def test_an_unavailable_index_is_shown(tmp_path: Path) -> None:
    """`status` shows that the index is unavailable, for example while it is rebuilt."""
    text = "\n".join(screen(replace(SEEN, index="being rebuilt")))
    assert "index      being rebuilt: new content is not stored" in text
    assert "\nindex " not in "\n".join(screen(SEEN))
    settings = Settings(
        storage=StorageSettings(filesystem=FilesystemSettings(rootdirectory=tmp_path)), run=tmp_path
    )

    assert look(settings, now=100.0).index == "being rebuilt"
    index = open_index(settings.storage.statedir)
    index.notes.put({REBUILT: "1"})
    assert look(settings, now=100.0).index == ""
