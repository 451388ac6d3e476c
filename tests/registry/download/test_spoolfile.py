"""Partial downloads outlive a restart of the appliance, but not a boot of the machine."""

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
    """Return what lies in the spool folder."""
    return {path.name for path in spool.iterdir()} - {"boot", "uploads"}


def test_an_earlier_boots_are_discarded(tmp_path: Path, spool: Path) -> None:
    """Readers would be sent bytes that never reached the disk."""
    discard_partial_downloads(tmp_path, "a")

    assert files(spool) == set()
    assert (spool / "uploads" / "upload").read_bytes() == b"pushed"


def test_those_of_this_boot_are_kept(tmp_path: Path, spool: Path) -> None:
    """The next writer goes on where they end."""
    discard_partial_downloads(tmp_path, "a")
    (spool / layout.spool(LAYER)).write_bytes(b"lay")
    discard_partial_downloads(tmp_path, "a")
    assert files(spool) == {layout.spool(LAYER)}

    discard_partial_downloads(tmp_path, "b")
    assert files(spool) == set()


def test_a_download_that_is_written_is_left_alone(tmp_path: Path, spool: Path) -> None:
    """Another process holds it."""
    held = try_lock(spool / layout.spool(LAYER))
    assert held is not None

    with held:
        discard_partial_downloads(tmp_path, "a")

    assert layout.spool(LAYER) in files(spool)


def test_a_disk_that_refuses_it_stops_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""
    (tmp_path / layout.SPOOL).write_text("no folder")
    discard_partial_downloads(tmp_path, "a")

    assert [each.levelno for each in caplog.records] == [logging.WARNING]


def test_without_a_boot_nothing_is_discarded(tmp_path: Path, spool: Path) -> None:
    """Nothing tells whether the machine was started again."""
    discard_partial_downloads(tmp_path, "")

    assert len(files(spool)) == 2
