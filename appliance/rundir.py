"""The run directory: sockets, pipes and the settings of one start; nothing in it outlives a stop.

The state directory's file `run` names it and is locked while the appliance lives: that is how
`entrepot status` finds it, and why one data directory has one appliance.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.errors import ConfigError, Problem
from datastore.errors import DatastoreError
from datastore.locks import LockedFile, is_locked, try_lock

_PREFIX = "entrepot-"
_LONGEST_SOCKET = 107  # bytes of a path, unix(7)
_LONGEST_NAME = 28  # /supervisor.sock, and the process id that is behind it for a moment


@contextmanager
def made(state: Path) -> Iterator[Path]:
    """Make a fresh run directory for the appliance of *state*; gone afterwards.

    Raises: ConfigError when another appliance lives there, or a socket's path would be too long.
    """
    with _locked(state / "run") as note:
        _remove_stale(_text(note))
        run = fresh(_PREFIX)
        claim = os.open(run, os.O_RDONLY)
        try:
            # who tidies the temporary folder (tmpfiles.d(5), "age") passes by what is locked
            fcntl.flock(claim, fcntl.LOCK_SH)
            _check_length(run)
            os.ftruncate(note.fd, 0)
            os.pwrite(note.fd, os.fsencode(run), 0)
            yield run
        finally:
            os.close(claim)
            shutil.rmtree(run, ignore_errors=True)
            note.unlink()


def fresh(prefix: str) -> Path:
    """Make a folder for us alone in the system's temporary one. Raises: ConfigError."""
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        problem = f"no folder can be made there: {(error.strerror or str(error)).lower()}"
        remedy = "mount one to write to: --tmpfs /tmp, or set TMPDIR"
        raise ConfigError([Problem("temporary folder", problem, remedy)]) from error


def found(state: Path) -> Path | None:
    """Return the run directory of the appliance that lives in *state*; None when none does."""
    note = state / "run"
    try:
        return Path(os.fsdecode(note.read_bytes())) if is_locked(note) else None
    except (OSError, DatastoreError):
        return None


def _locked(note: Path) -> LockedFile:
    try:
        held = try_lock(note)
    except DatastoreError as error:
        raise ConfigError([Problem(str(note), str(error), "see that it can be written")]) from error
    if held is None:
        message = "another appliance uses this data directory"
        raise ConfigError([Problem(str(note.parent), message, "stop it, or give REGISTRYDIR")])
    return held


def _text(note: LockedFile) -> str:
    return os.fsdecode(os.pread(note.fd, 4096, 0))


def _remove_stale(path: str) -> None:
    """Remove what an appliance that was killed has left."""
    if path and Path(path).name.startswith(_PREFIX):
        shutil.rmtree(path, ignore_errors=True)


def _check_length(run: Path) -> None:
    if len(os.fsencode(run)) + _LONGEST_NAME > _LONGEST_SOCKET:
        folder = run.parent
        raise ConfigError([Problem(f"TMPDIR={folder}", "too long for sockets", "try TMPDIR=/tmp")])
