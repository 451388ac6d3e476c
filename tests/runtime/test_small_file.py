"""Tests of `read_small_file`, which reads Entrepot's small files without waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.runtime.small_file import read_small_file


def test_the_content_is_read_up_to_the_bound(tmp_path: Path) -> None:
    """A file of the largest permitted size is read; a larger file raises OSError."""
    path = tmp_path / "small.json"
    path.write_bytes(b"12345")

    assert read_small_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="too large"):
        read_small_file(path, 4)


@pytest.mark.timeout(20)
def test_a_pipe_is_an_error_and_no_wait(tmp_path: Path) -> None:
    """A pipe in place of the file raises OSError, because a read could wait forever."""
    path = tmp_path / "small.json"
    os.mkfifo(path)

    with pytest.raises(OSError, match="not a regular file"):
        read_small_file(path)


def test_a_device_without_an_end_is_an_error(tmp_path: Path) -> None:
    """A device in place of the file raises OSError, because a read could be endless."""
    path = tmp_path / "small.json"
    path.symlink_to("/dev/zero")

    with pytest.raises(OSError, match="not a regular file"):
        read_small_file(path)


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    """If the file is missing, FileNotFoundError is raised.

    Callers handle a missing file differently from an unusable file.
    """
    with pytest.raises(FileNotFoundError):
        read_small_file(tmp_path / "absent")
