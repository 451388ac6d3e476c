"""Copy the secret files of the settings into a private folder, and remove the folder afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot.appliance import rundir
from entrepot.appliance.privileges.copied_files import SecretCopies
from entrepot.appliance.privileges.users import User
from entrepot.config.errors import ConfigError, Problem


@contextmanager
def create(originals: Iterable[Path], user: User) -> Iterator[SecretCopies]:
    """Copy *originals* into a temporary folder, and remove the folder afterwards.

    Raises: ConfigError if a file cannot be read, or the folder cannot be created.
    """
    # If an earlier `serve` was killed, its copies of secrets are still in the temporary folder.
    rundir.remove_abandoned(rundir.COPIES)
    with rundir.locked_folder(rundir.COPIES) as (folder, lock):
        copied = _copied(originals, folder, user)
        copied.lock = lock
        try:
            yield copied
        finally:
            copied.close()


def _copied(originals: Iterable[Path], folder: Path, user: User) -> SecretCopies:
    try:
        return SecretCopies(originals, folder, user)
    except OSError as error:
        where, why = error.filename or folder, error.strerror or str(error)
        raise ConfigError([Problem(str(where), why.lower(), "make it readable")]) from error
