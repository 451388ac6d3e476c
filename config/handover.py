"""Passes the resolved settings from `entrepot serve` to the programs that it starts."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.config.sources.environment import SETTINGS


def dump(settings: Settings, path: Path) -> None:
    """Write the settings to *path* atomically. The mode is 0600 because they contain passwords.

    Raises: OSError.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(settings.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def resolved(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file that `dump` wrote and ENTREPOT_SETTINGS names; `run` is the file's folder.

    Raises: ConfigError.
    """
    named = (os.environ if environ is None else environ).get(SETTINGS, "")
    path = Path(named).absolute()
    try:
        written = json.loads(path.read_bytes())
        settings = Settings.model_validate(written)
    except (OSError, ValueError) as error:
        problem = Problem(f"{SETTINGS}={named}", "no readable settings", "start `entrepot serve`")
        raise ConfigError([problem]) from error
    return settings.model_copy(update={"run": path.parent})
