"""Read the file of failing health checks, which `entrepot serve` writes.

The file contains the JSON object that docker distribution sends at /debug/health: a map from the
name of each failing check to its message. If the file does not exist, no check fails.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from entrepot.runtime.run_names import HEALTH
from entrepot.runtime.small_file import read_small_file

_LARGEST: Final = 64 * 1024
"""The file may have at most this many bytes. A larger file is not read."""


def failing_checks(run: Path) -> dict[str, str]:
    """Return the message of each failing check by its name, or an empty map if all checks pass.

    If the file cannot be read, the result is a failing check, because the file may list failures.
    """
    try:
        found = json.loads(read_small_file(run / HEALTH, _LARGEST))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        return {HEALTH: f"{os.fspath(run / HEALTH)} cannot be read"}
    return {str(name): str(message) for name, message in found.items()}
