"""Pass the settings from `entrepot serve` to the programs that it starts, in a file."""

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

    The mode of the file is 0600 because the settings contain passwords. The file omits `log.hooks`,
    which contain the passwords of mail servers, because only `entrepot serve` sends mail.

    Raises: OSError.
    """
    tree = settings.as_tree()
    del tree["log"]["hooks"]
    write_atomically(path, json.dumps(tree, indent=1).encode(), mode=0o600, is_durable=True)


def resolved(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings file that `dump` wrote; the variable ENTREPOT_SETTINGS contains its path.

    The file is in the run directory, so the setting `run` of the result is the file's folder.

    Raises: ConfigError.
    """
    named = (os.environ if environ is None else environ).get(SETTINGS, "")
    path = Path(named).absolute()
    try:
        settings = _parsed(read_small_file(path))
    except (OSError, ValueError) as error:
        problem = Problem(f"{SETTINGS}={named}", "no readable settings", "start `entrepot serve`")
        raise ConfigError([problem]) from error
    return settings.changed(run=path.parent)


@lru_cache(maxsize=1)
def _parsed(content: bytes) -> Settings:
    """Parse the content of the settings file. Raises: ValueError.

    PERF: the parsed settings take 2 MB. The result is cached, so that processes forked from this
    one share the memory.
    """
    return Settings.from_tree(json.loads(content))
