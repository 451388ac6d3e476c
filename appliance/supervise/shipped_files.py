"""Find the configuration files of HAProxy and supervisord."""

from __future__ import annotations

import sys
from pathlib import Path


def shipped(name: str) -> Path:
    """Return the path of haproxy.cfg or supervisord.conf, in the repository or the installation."""
    in_clone = Path(__file__).resolve().parents[2] / name
    return in_clone if in_clone.is_file() else Path(sys.prefix) / "share" / "entrepot" / name
