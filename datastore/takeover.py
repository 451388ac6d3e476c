"""Find proxied content in a data directory that the pull-through cache of another program wrote.

Such a program does not store which upstream a repository came from. Therefore its proxied content
looks like pushed content, which by default is not evicted. docker distribution's proxy lists all
content that it fetched, as REPOSITORY@DIGEST, in the file `scheduler-state.json` in the root of the
storage (source: the package registry/proxy/scheduler of docker distribution).

A repository counts as proxied if all of its links are in that list and no link is younger than the
list. An unknown origin is then stored for this repository. All other repositories stay hosted: the
proxy removes expired entries from its list, so content that is not listed may have been pushed or
fetched. A pushed image must not be evicted because of a guess.

If the storage stores no times, nothing shows that a link is older than the list. So all
repositories in such a storage stay hosted, except if the operator chooses the mode `evict`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from entrepot.datastore import layout
from entrepot.datastore.errors import Malformed, NotFound
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import UNKNOWN_ORIGIN, Repositories
from entrepot.datastore.storage import Stat, Storage, time_of

How = Literal["auto", "evict", "keep"]

LARGEST_LIST: Final = 256 * 1024 * 1024
"""A list with more bytes than this is ignored; a list of this size has a million entries."""

Spared = Callable[[Repository], bool]
"""A `Spared` returns True for a repository that must stay hosted even if the list has it."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """A `Takeover` is the result of a takeover.

    `marked` is the number of repositories that were marked as proxied. `possible` is the number of
    repositories that have no origin and stay hosted, although the other program may have fetched
    them.
    """

    marked: int = 0
    possible: int = 0


def take_over(storage: Storage, how: How, spared: Spared = lambda _: False) -> Takeover:
    """Mark the repositories that another program fetched, by storing an unknown origin for each.

    *how* is the mode: `auto` marks repositories by the proxy's list of fetched content, and `evict`
    marks all repositories without an origin. `keep` marks none, and removes earlier marks. Do
    nothing if the previous call had the same mode and list, or if the mode is `auto` and there is
    no list. Raises: StorageFull, StorageBroken.
    """
    listed = storage.stat(layout.FETCHED_LIST)
    mode = _mode(how, listed)
    if _last_mode(storage) == mode or (how == "auto" and listed is None):
        return Takeover()
    names = list(_found(storage, how, listed, spared))
    repositories = Repositories(storage)
    for name in names:
        if how == "keep":
            repositories.remove_origin(name)
        else:
            repositories.set_origin(name, UNKNOWN_ORIGIN)
    storage.write(layout.TAKEOVER, mode.encode())
    if how == "keep":
        return Takeover()
    return Takeover(len(names), sum(1 for _ in _without_origin(repositories, spared)))


def taken_at(storage: Storage) -> float:
    """Return when the latest takeover ended; 0 if that is not recorded.

    The time is in seconds since the UTC epoch. No uses of the content were recorded before the
    takeover. So the cleaner treats content as if it was last used at the takeover or later.
    """
    done = storage.stat(layout.TAKEOVER)
    return (time_of(done) or 0.0) if done else 0.0


def _found(storage: Storage, how: How, listed: Stat | None, spared: Spared) -> Iterator[Repository]:
    repositories = Repositories(storage)
    if how == "keep":
        yield from _marked(storage, repositories)
    elif how == "evict":
        yield from _without_origin(repositories, spared)
    elif listed is not None:
        for name, digests in _fetched(storage, listed).items():
            if repositories.origin(name) is None and not spared(name):
                links = list(_links(storage, name))
                if links and all(_is_listed(each, digests, listed) for each in links):
                    yield name


def _without_origin(repositories: Repositories, spared: Spared) -> Iterator[Repository]:
    """Yield the repositories that have no origin, and for which *spared* returns False."""
    free = (each for each in repositories.below("") if repositories.origin(each) is None)
    return (each for each in free if not spared(each))


def _marked(storage: Storage, repositories: Repositories) -> Iterator[Repository]:
    for stat in storage.walk(layout.ORIGINS):
        name = layout.origin_of(stat.key)
        if name is not None and repositories.origin(name) == UNKNOWN_ORIGIN:
            yield name


def _links(storage: Storage, name: Repository) -> Iterator[Stat]:
    """Yield the links of a repository to blobs and manifests."""
    yield from storage.walk(layout.layers(name))
    yield from storage.walk(layout.revisions(name))


def _is_listed(link: Stat, digests: set[Digest], listed: Stat) -> bool:
    written, listed_at = time_of(link), time_of(listed)
    if written is None or listed_at is None:
        return False
    return layout.linked_digest(link.key) in digests and written <= listed_at


def _fetched(storage: Storage, listed: Stat) -> Mapping[Repository, set[Digest]]:
    """Return the digests in the list of fetched content, by repository; skip malformed entries."""
    found: defaultdict[Repository, set[Digest]] = defaultdict(set)
    if listed.size > LARGEST_LIST:
        return found
    try:
        entries = json.loads(storage.read(layout.FETCHED_LIST))
    except (NotFound, ValueError, RecursionError):
        return found
    for entry in entries if isinstance(entries, dict) else ():
        name, _, digest = entry.partition("@")
        try:
            found[Repository.parse(name)].add(Digest.parse(digest))
        except Malformed:
            continue
    return found


def _mode(how: How, listed: Stat | None) -> str:
    """Return the text by which a later call recognizes that this takeover was done.

    In the mode `auto` the text contains the time and the size of the list. So the takeover is done
    again after the other program has changed the list.
    """
    return f"{how} {time_of(listed)} {listed.size}" if how == "auto" and listed else how


def _last_mode(storage: Storage) -> str:
    try:
        return storage.read(layout.TAKEOVER).decode(errors="replace")
    except NotFound:
        return "keep"
