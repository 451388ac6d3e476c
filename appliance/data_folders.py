"""Create the folders that must exist before the programs start."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PRIVATE: Final = 0o750
"""The mode of a new folder: only its owner and its group can enter it."""


def folders(data: Path, state: Path) -> tuple[Path, ...]:
    """Return the data directory, the state directory and the folder of the logs."""
    return data, state, log_folder(state)


def log_folder(state: Path) -> Path:
    """Return the folder of the logs in the state directory *state*."""
    return state / "log"


def make(folder: Path) -> None:
    """Create a folder and its parents; an existing folder keeps its mode. Raises: OSError."""
    # mkdir gives the mode only to the last folder of a path; parents get the usual mode.
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
