"""Pass the resolved settings from `entrepot serve` to the programs that it starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.config.sources.environment import SETTINGS
from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.small_file import read_small_file


def dump(settings: Settings, path: Path) -> None:
    """Write the settings to *path* atomically.

    The mode of the settings file is 0600 because the settings contain passwords.

    The settings file omits `log.hooks`: only `serve` sends mail, so no other program needs these
    passwords.

    Raises: OSError.
    """
    content = settings.model_dump_json(indent=1, exclude={"log": {"hooks"}}).encode()
    write_atomically(path, content, mode=0o600, is_durable=True)


def resolved(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file that `dump` wrote, from the path in the variable ENTREPOT_SETTINGS.

    The setting `run` becomes the file's folder.

    Raises: ConfigError.
    """
    named = (os.environ if environ is None else environ).get(SETTINGS, "")
    path = Path(named).absolute()
    try:
        settings = _parsed(read_small_file(path))
    except (OSError, ValueError) as error:
        problem = Problem(f"{SETTINGS}={named}", "no readable settings", "start `entrepot serve`")
        raise ConfigError([problem]) from error
    return settings.model_copy(update={"run": path.parent})


@lru_cache(maxsize=1)
def _parsed(content: bytes) -> Settings:
    """Parse the content of the file. Raises: ValueError.

    PERF: the parsed settings are cached, so that forked programs share their 2 MB.
    """
    return Settings.model_validate(json.loads(content))
