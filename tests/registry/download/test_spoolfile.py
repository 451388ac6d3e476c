"""Partial downloads survive a restart of the appliance, but not a reboot of the machine."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Digest
from entrepot.registry.download.spoolfile import discard_partial_downloads

LAYER = Digest.of(b"layer")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return a spool folder with a partial download and an unfinished upload."""
    folder = tmp_path / layout.SPOOL
    (tmp_path / layout.UPLOADS).mkdir(parents=True)
    (tmp_path / layout.UPLOADS / "upload").write_bytes(b"pushed")
    (folder / layout.spool(LAYER)).write_bytes(b"lay\0")
    (folder / layout.spool_size(LAYER)).write_text("5")
    return folder


def files(spool: Path) -> set[str]:
    """Return the names of the files of partial downloads in the spool folder."""
    return {path.name for path in spool.iterdir()} - {"boot", "uploads"}


def test_partial_downloads_of_an_earlier_boot_are_discarded(tmp_path: Path, spool: Path) -> None:
    """When a worker starts, it deletes partial downloads that were written before the last reboot.

    The last bytes of such a file may not have reached the disk. Clients would get zeros in place of
    these bytes.
    """
    discard_partial_downloads(tmp_path, "a")

    assert files(spool) == set()
    assert (spool / "uploads" / "upload").read_bytes() == b"pushed"


def test_partial_downloads_of_this_boot_are_kept(tmp_path: Path, spool: Path) -> None:
    """Without a reboot, the worker keeps partial downloads, and the next writer continues them."""
    discard_partial_downloads(tmp_path, "a")
    (spool / layout.spool(LAYER)).write_bytes(b"lay")
    discard_partial_downloads(tmp_path, "a")
    assert files(spool) == {layout.spool(LAYER)}

    discard_partial_downloads(tmp_path, "b")
    assert files(spool) == set()


def test_a_locked_download_is_kept(tmp_path: Path, spool: Path) -> None:
    """A partial download that another process has locked is in use, so it is not deleted."""
    held = try_lock(spool / layout.spool(LAYER))
    assert held is not None

    with held:
        discard_partial_downloads(tmp_path, "a")

    assert layout.spool(LAYER) in files(spool)


def test_a_disk_error_does_not_stop_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the spool folder cannot be read, the worker logs a warning and still starts."""
    (tmp_path / layout.SPOOL).write_text("no folder")
    discard_partial_downloads(tmp_path, "a")

    assert [each.levelno for each in caplog.records] == [logging.WARNING]


def test_without_a_boot_id_nothing_is_discarded(tmp_path: Path, spool: Path) -> None:
    """Without a boot ID a worker cannot detect a reboot, so it deletes no partial download."""
    discard_partial_downloads(tmp_path, "")

    assert len(files(spool)) == 2
