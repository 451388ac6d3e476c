"""Writes a file atomically, with a given mode."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from entrepot.config.errors import ConfigError, Problem

PUBLIC = 0o644
SECRET = 0o600


def write(path: Path, text: bytes, mode: int = PUBLIC) -> None:
    """Write *path* and create its parent folders.

    A process that reads *path* meanwhile gets the old content or the new content, never a part.

    Raises: ConfigError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).rename(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError([Problem(str(path), why, "name another folder: --out DIR")]) from error
