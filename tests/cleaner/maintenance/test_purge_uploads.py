"""The settings `storage.maintenance.uploadpurging` determine which uploads are purged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.cleaner.__main__ import purging
from entrepot.cleaner.maintenance.abandoned_uploads import UploadPurging
from entrepot.cleaner.maintenance.purge_uploads import PurgeUploads
from entrepot.cleaner.maintenance.schedule import Maintenance, Tools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from tests.cleaner.stock import HOSTED
from tests.clock import Clock

_AGE = 3600.0


def _begin(store: DataDirectory, at: float, number: int = 0) -> Path:
    path = store.state / layout.UPLOADS / layout.upload(HOSTED, f"{number:032}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"some")
    os.utime(path, (at, at))
    return path


def _purge(store: DataDirectory, clock: Clock, given: UploadPurging) -> None:
    PurgeUploads(store, given, clock, lambda: False).run()


def test_an_upload_is_purged_at_the_configured_age(store: DataDirectory, clock: Clock) -> None:
    """An upload is purged if it has received no byte for longer than the setting `age`."""
    old = _begin(store, clock.now - _AGE - 60)
    young = _begin(store, clock.now - _AGE + 60, 1)

    _purge(store, clock, UploadPurging(age=_AGE))

    assert (old.exists(), young.exists()) == (False, True)


def test_a_dry_run_only_logs_each_upload(
    store: DataDirectory, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """With `dryrun: true`, each abandoned upload is logged, and none is removed."""
    old = _begin(store, clock.now - _AGE - 60)

    with caplog.at_level("INFO"):
        _purge(store, clock, UploadPurging(age=_AGE, is_dry=True))

    (record,) = caplog.records
    assert record.message == "an abandoned upload was kept because of dryrun"
    assert record.__dict__["upload"] == old.name
    assert old.exists()


def test_a_purge_that_is_stopped_ends_between_two_uploads(
    store: DataDirectory, clock: Clock
) -> None:
    """If the process must exit, a purge ends before it removes the next upload."""
    old = _begin(store, clock.now - _AGE - 60)

    PurgeUploads(store, UploadPurging(age=_AGE), clock, lambda: True).run()

    assert old.exists()


def test_the_purge_is_a_job_with_its_own_interval(store: DataDirectory, clock: Clock) -> None:
    """The job that purges uploads has the interval of the settings.

    With `enabled: false`, there is no such job.
    """
    spool, sweep = Spool(store, clock), Sweep(store, lambda _: None, clock)
    tools = Tools(store, spool, sweep, clock, lambda: False, lambda: None)

    def intervals(given: UploadPurging) -> list[float]:
        jobs = Maintenance(tools, 1.0, 60.0, given).jobs()
        return [each.every for each in jobs if each.name == "uploads"]

    assert intervals(UploadPurging(interval=7.0)) == [7.0]
    assert intervals(UploadPurging(enabled=False)) == []


def test_the_settings_have_the_defaults_of_docker_distribution() -> None:
    """By default, uploads are purged after 168 hours, once a day.

    If an operator sets the four settings, the cleaner uses their values.
    """
    configured = Settings.from_tree(
        {
            "storage": {
                "maintenance": {
                    "uploadpurging": {
                        "enabled": "false",
                        "age": "24h",
                        "interval": "1h",
                        "dryrun": "true",
                    }
                }
            }
        }
    )

    assert purging(Settings()) == UploadPurging()
    assert UploadPurging() == UploadPurging(True, 604800.0, 86400.0, False)
    assert purging(configured) == UploadPurging(False, 86400.0, 3600.0, True)
