"""Which answers are a use of what they are about: it is wanted, and goes later.

The logger asks it of each line; where an application runs in somebody's own process, it is asked
of the answer itself.
"""

from __future__ import annotations

_MANIFESTS = ("manifest", "index")
_READ = (200, 206, 304)
_WRITTEN = 201
_USES = frozenset(
    [("GET", "blob", status) for status in _READ]
    + [
        (method, kind, status)
        for method in ("GET", "HEAD")
        for kind in _MANIFESTS
        for status in _READ
    ]
    + [("PUT", kind, _WRITTEN) for kind in _MANIFESTS]
    + [(method, kind, _WRITTEN) for method in ("PUT", "POST") for kind in ("blob", "upload")]
)

SOON_S = 0.25
"""How long, in s, a process of its own may keep a use to itself until the index knows of it."""


def is_use(method: str, kind: str, status: int) -> bool:
    """Say whether an answer is a use, whether or not the client stays for it."""
    return (method, kind, status) in _USES
