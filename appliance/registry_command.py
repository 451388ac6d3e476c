"""Translate the command line of docker distribution's image, which compose files and charts use.

This module imports no other module of Entrepot. `entrepot` calls `translated` for every command
line, also for that of `entrepot healthy`, which must be fast.
"""

from __future__ import annotations

from collections.abc import Sequence

_PROGRAMS = frozenset({"registry", "entrypoint.sh", "docker-entrypoint.sh"})
_FILES = (".yml", ".yaml")


def translated(words: Sequence[str]) -> list[str]:
    """Translate *words*, the arguments of the container, to arguments of `entrepot`.

    docker distribution's image accepts `registry serve FILE` and `/bin/registry serve FILE`. It
    also accepts `FILE` alone, which has the same effect as `serve FILE`.
    """
    found = list(words)
    if found and found[0].rpartition("/")[2] in _PROGRAMS:
        found = found[1:]
    if found and found[0].endswith(_FILES):
        found = ["serve", *found]
    return found
