"""Create, find and remove the run directory, which has the sockets, pipes and settings.

The run directory exists while the appliance runs. The file `run` in the state directory contains
the path of the run directory, so that `entrepot status` can find the run directory. The appliance
keeps this file locked, so that a second appliance on the same data directory is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from entrepot.appliance import held_run
from entrepot.appliance.held_run import HeldRunDirectory
from entrepot.config.errors import ConfigError, Problem
from entrepot.datastore.errors import DatastoreError, StorageBroken, StorageFull
from entrepot.datastore.locks import LockedFile, is_locked, try_lock
from entrepot.runtime.run_names import LOG_PIPES, PREFIX, SETTINGS, SUPERVISOR_SOCKET
from entrepot.runtime.small_file import read_small_file

COPIES = f"{PREFIX}files-"
"""The prefix of folders with copies of secret files. In the image these folders belong to root."""

# The names of run directories, which tempfile.mkdtemp generates, match this pattern.
_NAMED = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
# Every run directory has at least one of these files.
_ALWAYS = (SETTINGS, LOG_PIPES[0], SUPERVISOR_SOCKET)
_LONGEST_PATH = 4096  # The largest number of bytes in a path.
_LONGEST_SOCKET = 107  # The largest number of bytes in the path of a unix socket, unix(7).
# The number of bytes in the longest name of a socket: "/supervisor.sock" with the process id that
# supervisord appends to it for a moment.
_LONGEST_NAME = 28


@contextmanager
def create(state: Path) -> Iterator[Path]:
    """Create a run directory for the appliance with the state directory *state*.

    The run directory is removed at the end of the `with` block. Raises: ConfigError if another
    appliance uses *state*, or if a socket's path would be too long.
    """
    held = hold_new(state)
    try:
        yield held.path
    finally:
        held.release()


def hold_new(state: Path) -> HeldRunDirectory:
    """Create a run directory for the appliance with the state directory *state*.

    The caller must call `release` of the result. Raises: ConfigError if another appliance uses
    *state*, or if a socket's path would be too long.
    """
    with ExitStack() as undo:
        state_lock = _lock_folder(state)
        undo.callback(os.close, state_lock)
        note = _locked(state / "run")
        if note is not None:
            undo.enter_context(note)
            _remove_noted(_text(note))
        remove_abandoned(PREFIX)
        run, run_lock = _create_locked(PREFIX)
        held = HeldRunDirectory(run, run_lock, state_lock, state / "run", note.fd if note else -1)
        undo.pop_all()
        undo.callback(held.release)
        _check_length(run)
        _write(note, run)
        undo.pop_all()
    return held


def _lock_folder(state: Path) -> int:
    """Lock the state directory itself, and return its descriptor. Raises: ConfigError.

    Unlike the file `run`, a folder can be locked even on a read-only disk. If the state directory
    could not be created because the disk is full, its parent folder is locked.
    """
    try:
        folder = os.open(state if state.is_dir() else state.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError([Problem(str(state), why, "make it readable")]) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        raise _taken(state / "run") from error
    return folder


@contextmanager
def hold(state: Path) -> Iterator[None]:
    """Lock the state directory *state* during a `with` block, so that no appliance can use it.

    The lock needs no write to the disk. Raises: ConfigError if an appliance uses *state*.
    """
    folder = _lock_folder(state)
    try:
        yield
    finally:
        os.close(folder)


def _write(note: LockedFile | None, run: Path) -> None:
    """Write the path of the run directory into the file `run`.

    On a full or read-only disk the path cannot be written; then `find` searches the temporary
    folder for the run directory.
    """
    with suppress(OSError):
        if note is not None:
            os.ftruncate(note.fd, 0)
            os.pwrite(note.fd, os.fsencode(run), 0)


def refuse_second(state: Path) -> None:
    """Raise ConfigError if an appliance uses the state directory *state*.

    Call this function before files in the data directory are changed.
    """
    if _is_locked(state):
        raise _taken(state / "run")


def _is_locked(state: Path) -> bool:
    """Return whether an appliance or `migrate` has locked the state directory or its parent."""
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
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Create a private folder in the system's temporary folder, and remove it afterwards.

    The folder stays locked until this process, and every process that it forks meanwhile, have
    closed the lock's descriptor. Raises: ConfigError.
    """
    with locked_folder(prefix) as (folder, _):
        yield folder


@contextmanager
def locked_folder(prefix: str) -> Iterator[tuple[Path, int]]:
    """Create a folder as `temporary_folder` does; also yield the descriptor that locks it."""
    folder, lock = _create_locked(prefix)
    try:
        yield folder, lock
    finally:
        os.close(lock)
        held_run.remove(folder)


def _create_locked(prefix: str) -> tuple[Path, int]:
    """Create a temporary folder and lock it; return its path and the descriptor of the lock.

    Before the folder is locked, another process may take it for an abandoned folder and remove it;
    then this function creates another folder. The lock also prevents systemd-tmpfiles from deleting
    the folder because of its age (tmpfiles.d(5), "age").
    """
    while True:
        folder = fresh(prefix)
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(folder.stat(), os.fstat(lock)):
                return folder, lock
        os.close(lock)


def remove_abandoned(prefix: str) -> None:
    """Remove the folders of killed appliances of this user from the temporary folder.

    A folder is abandoned if no process has locked it. A process id in the folder's name would not
    be a reliable sign, because another process can get the same id later.
    """
    for folder in _all(prefix):
        if _is_recognised(folder) and not is_locked_folder(folder):
            held_run.remove(folder)


def living(prefix: str) -> list[Path]:
    """Return the folders with *prefix* that a running process has locked.

    Folders of other users are included, because their locks cannot be checked.
    """
    return [folder for folder in _all(prefix) if is_locked_folder(folder)]


def living_of_this_user(prefix: str) -> list[Path]:
    """Return the folders of this user that a running process has locked.

    Every account can create folders with such names in the temporary folder, so a folder of another
    user does not prove that an appliance runs.
    """
    return [folder for folder in living(prefix) if _is_own_folder(folder)]


def _is_own_folder(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def is_locked_folder(folder: Path) -> bool:
    """Return whether a running process has locked a folder, or the folder is another user's."""
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
    """Return whether an appliance created *folder*, and not another program or a person."""
    if folder.name.startswith(COPIES):
        return True
    is_named = _NAMED.fullmatch(folder.name) is not None
    return is_named and any((folder / each).exists() for each in _ALWAYS)


def fresh(prefix: str) -> Path:
    """Create a private folder in the system's temporary folder. Raises: ConfigError."""
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        problem = f"no folder can be created: {(error.strerror or str(error)).lower()}"
        remedy = "mount a writable folder (--tmpfs /tmp), or set TMPDIR"
        raise ConfigError([Problem("temporary folder", problem, remedy)]) from error


def find(state: Path) -> Path | None:
    """Return the run directory of the appliance that uses *state*; None if no appliance runs."""
    note = state / "run"
    try:
        if is_locked(note) and (text := read_small_file(note, _LONGEST_PATH)):
            return Path(os.fsdecode(text))
        return _searched(state) if _is_locked(state) else None
    except (OSError, DatastoreError):
        return None


def _searched(state: Path) -> Path | None:
    """Search the temporary folder for the run directory of the appliance that uses *state*.

    The search is needed if the disk was too full to write the file `run`.
    """
    # Every account on this machine can create a folder with such a name. Only folders of root, of
    # this user and of the owner of the state directory are trusted.
    owners = {0, os.geteuid(), state.stat().st_uid}
    for run in living(PREFIX):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if run.lstat().st_uid not in owners:
                continue
            settings = json.loads(read_small_file(run / SETTINGS))
            if settings["storage"]["statedir"] == str(state):
                return run
    return None


def _locked(note: Path) -> LockedFile | None:
    """Lock the file `run`; return None on a full or read-only disk. Raises: ConfigError."""
    try:
        lock = try_lock(note)
    except (StorageFull, StorageBroken):
        return None
    if lock is None:
        raise _taken(note)
    return lock


def _taken(note: Path) -> ConfigError:
    message = "another appliance uses this data directory"
    return ConfigError(
        [Problem(str(note.parent), message, "stop that appliance, or set another REGISTRYDIR")]
    )


def _text(note: LockedFile) -> str:
    return os.fsdecode(os.pread(note.fd, _LONGEST_PATH, 0))


def _remove_noted(path: str) -> None:
    """Remove the run directory of an earlier appliance, unless a process has locked it."""
    folder = Path(path)
    if path and folder.name.startswith(PREFIX) and not is_locked_folder(folder):
        held_run.remove(folder)


def _check_length(run: Path) -> None:
    if len(os.fsencode(run)) + _LONGEST_NAME > _LONGEST_SOCKET:
        folder = run.parent
        message = "the path is too long for the paths of unix sockets"
        raise ConfigError([Problem(f"TMPDIR={folder}", message, "try TMPDIR=/tmp")])


def unwritable(run: Path, error: OSError) -> ConfigError:
    """Return the error for a file that could not be written into the run directory *run*."""
    why = (error.strerror or str(error)).lower()
    remedy = "free space in that folder, or set TMPDIR to another folder"
    message = f"the temporary folder cannot be written to: {why}"
    return ConfigError([Problem(str(run.parent), message, remedy)])
