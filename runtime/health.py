"""Read and write the file of failing health checks: one writer, any number of readers.

The file of failing checks has a JSON object from the name of each failing check to its message, as
docker distribution sends it at /debug/health. The writer replaces the file atomically. If the file
of failing checks does not exist, no check fails.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from entrepot.runtime.run_names import HEALTH
from entrepot.runtime.small_file import read_small_file

_LARGEST: Final = 64 * 1024
"""A file with more bytes is not read."""


def failing_checks(run: Path) -> dict[str, str]:
    """Return the message of each failing check by its name; empty if all checks pass.

    A file that cannot be read is itself a failing check, because its content might be a failure.
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
