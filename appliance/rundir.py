"""The run directory: sockets, pipes and the settings of one start; nothing in it outlives a stop.

The state directory's file `run` names it and is locked while the appliance lives: that is how
`entrepot status` finds it, and why one data directory has one appliance.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from entrepot.config.errors import ConfigError, Problem
from entrepot.datastore.errors import DatastoreError, StorageBroken, StorageFull
from entrepot.datastore.locks import LockedFile, is_locked, try_lock

COPIES = "entrepot-files-"
"""How the folders of copied secrets begin; root's, in the image."""

_PREFIX = "entrepot-"
_NAMED = re.compile(r"entrepot-[a-z0-9_]{8}")  # as tempfile.mkdtemp makes it
_ALWAYS = ("settings.json", "access.pipe", "supervisor.sock")  # one of them is in a run directory
_LONGEST_SOCKET = 107  # bytes of a path, unix(7)
_LONGEST_NAME = 28  # /supervisor.sock, and the process id that is behind it for a moment


@contextmanager
def made(state: Path) -> Iterator[Path]:
    """Make a fresh run directory for the appliance of *state*; gone afterwards.

    Raises: ConfigError when another appliance lives there, or a socket's path would be too long.
    """
    with ExitStack() as held:
        held.callback(os.close, _lock_folder(state))
        note = _locked(state / "run")
        if note is not None:
            held.enter_context(note)
            _remove_noted(_text(note))
        remove_abandoned(_PREFIX)
        with claimed(_PREFIX) as run:
            _check_length(run)
            _write(note, run)
            try:
                yield run
            finally:
                with suppress(OSError, DatastoreError):  # the next start overwrites it
                    if note is not None:
                        note.unlink()


def _lock_folder(state: Path) -> int:
    """Lock the state directory itself, which works on a read-only disk too. Raises: ConfigError.

    Where the disk had no room for it, the folder that it is to be in is locked.
    """
    try:
        folder = os.open(state if state.is_dir() else state.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError([Problem(str(state), why, "see that it can be read")]) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        raise _taken(state / "run") from error
    return folder


def _write(note: LockedFile | None, run: Path) -> None:
    """Write where the run directory is; a full or read-only disk goes without (see `found`)."""
    with suppress(OSError):
        if note is not None:
            os.ftruncate(note.fd, 0)
            os.pwrite(note.fd, os.fsencode(run), 0)


def refuse_second(state: Path) -> None:
    """Raise ConfigError when an appliance lives in *state*, before anything there is touched."""
    if _is_locked(state):
        raise _taken(state / "run")


def _is_locked(state: Path) -> bool:
    """Whether an appliance holds the state directory, or the folder that it is to be in."""
    return any(_is_folder_locked(each) for each in (state, state.parent))


def _is_folder_locked(path: Path) -> bool:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(folder)
    return False


@contextmanager
def claimed(prefix: str) -> Iterator[Path]:
    """Make a folder for us alone in the temporary one; it is locked while we live, gone afterwards.

    A process that is forked meanwhile holds the lock too. Raises: ConfigError.
    """
    folder, claim = _claim(prefix)
    try:
        yield folder
    finally:
        os.close(claim)
        shutil.rmtree(folder, ignore_errors=True)


def _claim(prefix: str) -> tuple[Path, int]:
    """Make a folder and lock it; again when another start took it for abandoned in between.

    systemd-tmpfiles passes by what is locked, too (tmpfiles.d(5), "age").
    """
    while True:
        folder = fresh(prefix)
        claim = os.open(folder, os.O_RDONLY)
        fcntl.flock(claim, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(folder.stat(), os.fstat(claim)):
                return folder, claim
        os.close(claim)


def remove_abandoned(prefix: str) -> None:
    """Remove the folders that killed appliances of this user left in the temporary one.

    The lock decides, not a process id: a folder that any process holds stays.
    """
    for folder in _all(prefix):
        if _is_recognised(folder) and not is_claimed(folder):
            shutil.rmtree(folder, ignore_errors=True)


def living(prefix: str) -> list[Path]:
    """Return the folders of this user that a running process has claimed."""
    return [folder for folder in _all(prefix) if is_claimed(folder)]


def is_claimed(folder: Path) -> bool:
    """Whether a running process holds a folder; one that is not this user's counts as held."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_uid != os.geteuid()
    except OSError:
        return True
    finally:
        os.close(fd)


def _all(prefix: str) -> list[Path]:
    with suppress(ConfigError, OSError):
        return sorted(Path(tempfile.gettempdir()).glob(f"{prefix}*"))
    return []


def _is_recognised(folder: Path) -> bool:
    """Whether a folder is one of ours, and not merely called alike by the operator."""
    if folder.name.startswith(COPIES):
        return True
    is_named = _NAMED.fullmatch(folder.name) is not None
    return is_named and any((folder / each).exists() for each in _ALWAYS)


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
        if is_locked(note) and (text := note.read_bytes()):
            return Path(os.fsdecode(text))
        return _searched(state) if _is_locked(state) else None
    except (OSError, DatastoreError):
        return None


def _searched(state: Path) -> Path | None:
    """Find a run directory by what is in it: its appliance could not write where it is."""
    for run in living(_PREFIX):
        with suppress(OSError, ValueError, KeyError, TypeError):
            settings = json.loads((run / "settings.json").read_bytes())
            if settings["storage"]["statedir"] == str(state):
                return run
    return None


def _locked(note: Path) -> LockedFile | None:
    """Lock the note; None on a disk that cannot be written to. Raises: ConfigError."""
    try:
        held = try_lock(note)
    except (StorageFull, StorageBroken):
        return None
    if held is None:
        raise _taken(note)
    return held


def _taken(note: Path) -> ConfigError:
    message = "another appliance uses this data directory"
    return ConfigError([Problem(str(note.parent), message, "stop it, or give REGISTRYDIR")])


def _text(note: LockedFile) -> str:
    return os.fsdecode(os.pread(note.fd, 4096, 0))


def _remove_noted(path: str) -> None:
    """Remove what the appliance that lived here before has left."""
    folder = Path(path)
    if path and folder.name.startswith(_PREFIX) and not is_claimed(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _check_length(run: Path) -> None:
    if len(os.fsencode(run)) + _LONGEST_NAME > _LONGEST_SOCKET:
        folder = run.parent
        raise ConfigError([Problem(f"TMPDIR={folder}", "too long for sockets", "try TMPDIR=/tmp")])
