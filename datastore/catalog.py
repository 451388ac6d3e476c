"""The names of all repositories in the order of their text, no folder read before it is due.

A page costs the folders on its way, not those before it or behind it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from datastore import layout
from datastore.refs import Repository
from datastore.storage import Storage

_LINKS = {"_layers", "_manifests"}

Enters = Callable[[str], bool]
"""Tells of a name's first component, by itself or with its slash, whether to look there."""


def names(storage: Storage, after: str = "", *, enters: Enters) -> Iterator[Repository]:
    """Yield the repositories that link something and whose names come after *after*."""
    yield from _below(storage, "", after, enters)


def _below(storage: Storage, prefix: str, after: str, enters: Enters) -> Iterator[Repository]:
    """Yield those whose names start with *prefix*, which is empty or ends with a slash."""
    for name in _ahead(_children(storage, prefix), after):
        if not (name > after or after.startswith(name)) or not (prefix or enters(name)):
            continue
        if not name.endswith("/"):
            if after < name and not _LINKS.isdisjoint(_folders(storage, prefix + name)):
                yield Repository(prefix + name)
            continue
        rest = after.removeprefix(name) if after.startswith(name) else ""
        yield from _below(storage, prefix + name, rest, enters)


def _children(storage: Storage, prefix: str) -> list[str]:
    return [name for name in _folders(storage, prefix) if not name.startswith("_")]


def _folders(storage: Storage, name: str) -> Iterator[str]:
    return storage.list(f"{layout.REPOSITORIES}/{name}".rstrip("/"))


def _ahead(children: list[str], after: str) -> Iterator[str]:
    """Yield each child, and each with its slash for what is below it, by text, from *after* on.

    `a`, `a-b`, `a-b/`, `a/`: what is below a name may come after another name.
    """
    first = after.partition("/")[0]
    waiting = [f"{name}/" for name in _prefixes(children, first)]
    for name in children[bisect_left(children, first) :]:
        while waiting and waiting[0] < name:
            yield heappop(waiting)
        yield name
        heappush(waiting, f"{name}/")
    while waiting:
        yield heappop(waiting)


def _prefixes(children: list[str], name: str) -> list[str]:
    """Return the children that *name* starts with, itself left out, in the order of a heap."""
    shorter = (name[:length] for length in range(1, len(name)))
    return sorted(
        each for each in shorter if bisect_left(children, each) < bisect_right(children, each)
    )
