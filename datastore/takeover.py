"""Finds what another program's pull-through cache fetched, in a data directory that it wrote.

Such a cache keeps names without their upstream, so what it fetched looks like what was pushed, and
what was pushed is kept for ever. docker distribution's proxy lists what it fetched, by
REPOSITORY@DIGEST, in `scheduler-state.json` in the storage root (registry/proxy/scheduler). A
repository of which every link is listed there, and none is younger than the list, was fetched and
not pushed to; its origin is then kept as unknown, which makes it proxied. Anything else stays
hosted: a proxy forgets what has expired, so a link that is not listed proves nothing, and pushed
images must not be evicted by a guess.
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
from entrepot.datastore.storage import Stat, Storage

How = Literal["auto", "evict", "keep"]

LARGEST_LIST: Final = 256 * 1024 * 1024
"""Bytes of a list that is read; a larger one names a million links, and is left alone."""

Spared = Callable[[Repository], bool]
"""Tells which repositories are hosted, whatever the list says."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """How many repositories were marked as fetched, and how many may have been, without proof."""

    marked: int = 0
    unproven: int = 0


def take_over(storage: Storage, how: How, spared: Spared = lambda _: False) -> Takeover:
    """Mark the repositories that another program fetched; done once, then nothing is counted.

    *how* is `auto`, by the list; `evict`, all that have no origin now; `keep`, none: marks of
    before are taken back. Raises: StorageFull, StorageBroken.
    """
    listed = storage.stat(layout.FETCHED_LIST)
    wanted = _name(how, listed)
    if _done(storage) == wanted or (how == "auto" and listed is None):
        return Takeover()
    names = list(_found(storage, how, listed, spared))
    repositories = Repositories(storage)
    for name in names:
        if how == "keep":
            repositories.forget_origin(name)
        else:
            repositories.keep_origin(name, UNKNOWN_ORIGIN)
    storage.write(layout.TAKEOVER, wanted.encode())
    if how == "keep":
        return Takeover()
    return Takeover(len(names), sum(1 for _ in _free(repositories, spared)))


def taken_at(storage: Storage) -> float:
    """Return when the last takeover ended (s, UTC epoch); 0 when there was none.

    Before it no use of what was taken over was seen, so its age counts from there.
    """
    done = storage.stat(layout.TAKEOVER)
    return done.modified if done else 0.0


def _found(storage: Storage, how: How, listed: Stat | None, spared: Spared) -> Iterator[Repository]:
    repositories = Repositories(storage)
    if how == "keep":
        yield from _marked(storage, repositories)
    elif how == "evict":
        yield from _free(repositories, spared)
    elif listed is not None:
        for name, digests in _fetched(storage, listed).items():
            if repositories.origin(name) is None and not spared(name):
                links = list(_links(storage, name))
                if links and all(_is_listed(each, digests, listed) for each in links):
                    yield name


def _free(repositories: Repositories, spared: Spared) -> Iterator[Repository]:
    """Yield the repositories that have no origin, and that the configuration does not name."""
    free = (each for each in repositories.below("") if repositories.origin(each) is None)
    return (each for each in free if not spared(each))


def _marked(storage: Storage, repositories: Repositories) -> Iterator[Repository]:
    for stat in storage.walk(layout.ORIGINS):
        name = layout.origin_of(stat.key)
        if name is not None and repositories.origin(name) == UNKNOWN_ORIGIN:
            yield name


def _links(storage: Storage, name: Repository) -> Iterator[Stat]:
    """Yield every link of a repository to content."""
    yield from storage.walk(layout.layers(name))
    yield from storage.walk(layout.revisions(name))


def _is_listed(link: Stat, digests: set[Digest], listed: Stat) -> bool:
    return layout.linked(link.key) in digests and link.modified <= listed.modified


def _fetched(storage: Storage, listed: Stat) -> Mapping[Repository, set[Digest]]:
    """Read the list; what of it can't be read is left out."""
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


def _name(how: How, listed: Stat | None) -> str:
    """Name what is to be done: a proxy that ran again has written another list."""
    return f"{how} {listed.modified} {listed.size}" if how == "auto" and listed else how


def _done(storage: Storage) -> str:
    try:
        return storage.read(layout.TAKEOVER).decode(errors="replace")
    except NotFound:
        return "keep"
