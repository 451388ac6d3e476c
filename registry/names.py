"""An upstream's name in its two spellings: `host:port`, and `host_port` where a colon can't be."""

from __future__ import annotations

import re

_FOLDED = re.compile(r"(.+)_([0-9]{1,5})")


def fold(host: str) -> str:
    """Write a host as on disk, in catalogs and in image references: lower case, no colon."""
    return host.lower().replace(":", "_")


def unfold(name: str) -> str:
    """Write a folded host with its port; a name without one stays as it is."""
    match = _FOLDED.fullmatch(name.lower())
    return f"{match[1]}:{match[2]}" if match else name.lower()
