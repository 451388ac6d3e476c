"""Create the folders of the data directory that a start needs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PRIVATE: Final = 0o750
"""Only the owner and the group can enter a new folder."""


def folders(data: Path, state: Path) -> tuple[Path, ...]:
    """Return the folders that a start needs; *state* is the state directory."""
    return data, state, log_folder(state)


def log_folder(state: Path) -> Path:
    """Return the folder of the logs."""
    return state / "log"


def make(folder: Path) -> None:
    """Create a folder and its parents; an existing folder keeps its mode. Raises: OSError."""
    # mkdir gives the mode to the last folder of a path only.
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
