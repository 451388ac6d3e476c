"""List repositories in the lexical order of their names.

A client usually requests one page of the list. The generators of this module read only the folders
that lead to the names on that page.
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
    """Yield the repositories that have links and whose names sort after *after*.

    *without* has first components of names, each with a slash at its end. Skip the repositories
    below these components.
    """
    for name in _entries_from(_children(storage, ""), after):
        if name not in without:
            yield from _repositories_at(storage, "", name, after)


def names_below(storage: Storage, first: str, after: str = "") -> Iterator[Repository]:
    """Yield the repositories below the component *first* whose names sort after *after*."""
    if _may_follow(f"{first}/", after):
        yield from _repositories_at(storage, "", f"{first}/", after)


def _repositories_at(storage: Storage, prefix: str, name: str, after: str) -> Iterator[Repository]:
    """Yield the repository *prefix* + *name*, if it has links and sorts after *after*.

    If *name* ends with a slash, yield the repositories below it instead.
    """
    if name.endswith("/"):
        rest = after.removeprefix(name) if after.startswith(name) else ""
        for below in _entries_from(_children(storage, prefix + name), rest):
            yield from _repositories_at(storage, prefix + name, below, rest)
    elif after < name and not _LINKS.isdisjoint(_folders(storage, prefix + name)):
        yield Repository(prefix + name)


def _may_follow(name: str, after: str) -> bool:
    """Return whether *name*, or a repository whose name begins with *name*, sorts after *after*."""
    return name > after or after.startswith(name)


def _children(storage: Storage, prefix: str) -> list[str]:
    return [name for name in _folders(storage, prefix) if not name.startswith("_")]


def _folders(storage: Storage, name: str) -> Iterator[str]:
    return storage.list(f"{layout.REPOSITORIES}/{name}".rstrip("/"))


def _entries_from(children: list[str], after: str) -> Iterator[str]:
    """Yield each child twice, from *after* on: unchanged, and with a slash for its subfolders.

    Both forms are sorted together, as the full names of repositories are: `a`, `a-b`, `a-b/`, `a/`.
    A repository below `a` sorts after `a-b`, because a slash sorts after a hyphen.
    """
    return (
        name for name in _in_order(children, after.partition("/")[0]) if _may_follow(name, after)
    )


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
    """Return the children that are proper prefixes of *name*, sorted as `heapq` needs them."""
    shorter = (name[:length] for length in range(1, len(name)))
    return sorted(
        each for each in shorter if bisect_left(children, each) < bisect_right(children, each)
    )
