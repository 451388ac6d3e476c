"""The names of all repositories in the order of their text, no folder read before it is due.

A page costs the folders on its way, not those before it or behind it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterator
from heapq import heappop, heappush

from entrepot.datastore import layout
from entrepot.datastore.refs import Repository
from entrepot.datastore.storage import Storage

_LINKS = {"_layers", "_manifests"}


def names(
    storage: Storage, after: str = "", *, without: Container[str] = ()
) -> Iterator[Repository]:
    """Yield the repositories that link something and whose names come after *after*.

    What starts with one of *without*, components with their slash, is left out.
    """
    for name in _ahead(_children(storage, ""), after):
        if name not in without:
            yield from _at(storage, "", name, after)


def names_below(storage: Storage, first: str, after: str = "") -> Iterator[Repository]:
    """Yield those whose names have *first* as their first component, and more."""
    if _is_ahead(f"{first}/", after):
        yield from _at(storage, "", f"{first}/", after)


def _at(storage: Storage, prefix: str, name: str, after: str) -> Iterator[Repository]:
    """Yield what *name* below *prefix* leads to: a repository or, with a slash, those below it."""
    if name.endswith("/"):
        rest = after.removeprefix(name) if after.startswith(name) else ""
        for below in _ahead(_children(storage, prefix + name), rest):
            yield from _at(storage, prefix + name, below, rest)
    elif after < name and not _LINKS.isdisjoint(_folders(storage, prefix + name)):
        yield Repository(prefix + name)


def _is_ahead(name: str, after: str) -> bool:
    """Whether what *name* leads to comes after *after*, or some of it."""
    return name > after or after.startswith(name)


def _children(storage: Storage, prefix: str) -> list[str]:
    return [name for name in _folders(storage, prefix) if not name.startswith("_")]


def _folders(storage: Storage, name: str) -> Iterator[str]:
    return storage.list(f"{layout.REPOSITORIES}/{name}".rstrip("/"))


def _ahead(children: list[str], after: str) -> Iterator[str]:
    """Yield each child, and each with its slash for what is below it, by text, from *after* on.

    `a`, `a-b`, `a-b/`, `a/`: what is below a name may come after another name.
    """
    return (name for name in _in_order(children, after.partition("/")[0]) if _is_ahead(name, after))


def _in_order(children: list[str], first: str) -> Iterator[str]:
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
