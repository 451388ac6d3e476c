"""Summarize the evictions of a round as log fields: bytes, reasons, and names of images."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

from entrepot.cleaner.policy import Eviction
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories

_MOST_MANIFESTS = 10
# The names of evicted images are searched in at most this many repositories.
_MOST_REPOSITORIES = 1000
_MOST_TAGS = 50


def summary(evicted: Sequence[Eviction], repositories: Repositories) -> dict[str, str | int]:
    """Return the fields `bytes`, `reasons` and `images` for the log line of a round.

    `images` has the names of the first ten evicted manifests: repository and tag, or repository and
    digest. The function finds the names by the links to the manifests, which an eviction does not
    remove. It searches at most a thousand repositories.
    """
    reasons = Counter(each.reason.value for each in evicted)
    roots = [each.entry.digest for each in evicted if each.entry.kind is not ContentKind.BLOB]
    images: list[str] = []
    with suppress(DatastoreError):
        images = list(_images(roots[:_MOST_MANIFESTS], repositories)) if roots else []
    fields: dict[str, str | int] = {
        "bytes": sum(each.entry.size for each in evicted),
        "reasons": " ".join(f"{reason}:{count}" for reason, count in sorted(reasons.items())),
    }
    return fields | ({"images": " ".join(images)} if images else {})


def _images(roots: Sequence[Digest], repositories: Repositories) -> Iterator[str]:
    left = set(roots)
    for name in itertools.islice(repositories.below(""), _MOST_REPOSITORIES):
        linked = {each for each in left if repositories.links_manifest(name, each)}
        if linked:
            yield from _names(name, linked, repositories)
            left -= linked
        if not left:
            return


def _names(name: Repository, linked: set[Digest], repositories: Repositories) -> Iterator[str]:
    tags = [
        (tag, state.digest)
        for tag in itertools.islice(repositories.tags_after(name), _MOST_TAGS)
        if (state := repositories.tag(name, Tag(tag))) is not None
    ]
    tagged = {digest: tag for tag, digest in tags}
    for digest in sorted(linked, key=str):
        yield f"{name}:{tagged[digest]}" if digest in tagged else f"{name}@{digest}"
