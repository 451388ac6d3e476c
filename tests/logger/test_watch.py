"""Tests of `FolderWatch` and `Wake`, which end the logger's wait when the log changes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from entrepot.logger.watch import FolderWatch, Wake

_LONG = 30.0


def _wait(wake: Wake) -> bool:
    begun = time.monotonic()
    wake.wait(_LONG)
    return time.monotonic() - begun < _LONG


def test_a_line_and_a_rotation_end_a_wait(tmp_path: Path) -> None:
    """A new line ends the wait, as does a rotation of the log.

    The watch creates the log's folder if it is missing.
    """
    wake = Wake()
    watch = FolderWatch(tmp_path / "log", wake)
    watch.start()
    path = tmp_path / "log" / "access.log"
    path.write_bytes(b"x")
    written = _wait(wake)
    path.rename(path.with_name("access.log.1"))
    renamed = _wait(wake)
    watch.stop()
    path.write_bytes(b"x")
    begun = time.monotonic()
    wake.wait(0.01)
    wake.close()

    assert written
    assert renamed
    assert time.monotonic() - begun >= 0.01


def test_a_wake_before_the_wait_ends_it() -> None:
    """If the log changes while the logger works, the logger's next wait ends at once.

    The following wait has its full length.
    """
    wake = Wake()
    for _ in range(100_000):
        wake.set()
    first = _wait(wake)
    begun = time.monotonic()
    wake.wait(0.01)
    wake.close()

    assert first
    assert time.monotonic() - begun >= 0.01


def test_a_folder_that_cannot_be_watched_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the log's folder cannot be watched, one warning is logged.

    The logger then polls the log.
    """
    (tmp_path / "file").touch()
    wake = Wake()
    watch = FolderWatch(tmp_path / "file" / "log", wake)
    watch.start()
    watch.stop()
    wake.close()

    assert [record.message for record in caplog.records] == ["the log folder cannot be watched"]
