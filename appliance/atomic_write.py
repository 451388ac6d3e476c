"""Write the output files of commands atomically; refuse folders that are not safe for root."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from entrepot.appliance.privileges import trusted_path, users
from entrepot.appliance.privileges.trusted_path import UntrustedPath
from entrepot.config.errors import ConfigError, Problem
from entrepot.runtime.atomic_write import write_atomically

PUBLIC = 0o644
SECRET = 0o600


def write(path: Path, text: bytes, mode: int = PUBLIC) -> None:
    """Write the file *path* and create its parent folders.

    A process that reads *path* during the write gets either all of the old content or all of the
    new content.

    Raises: ConfigError if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text, mode=mode, is_durable=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError([Problem(str(path), why, "name another folder: --out DIR")]) from error


def refuse_untrusted(folder: Path, environ: Mapping[str, str]) -> None:
    """Raise ConfigError if this process is root and the service user can change *folder*.

    The service user could put a symlink into such a folder, and root would then write to the place
    to which the symlink points.
    """
    user = users.choose(environ).user
    if user is None:
        return
    try:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            trusted_path.check_output(folder, user)
    except UntrustedPath as error:
        remedy = "name a folder that only root can change: --out DIR"
        raise ConfigError([Problem(str(folder), error.strerror or str(error), remedy)]) from error
