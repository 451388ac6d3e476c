"""Describe removals, with one line for each tag, link, upload and row of the index."""

from __future__ import annotations

from collections.abc import Iterator

from entrepot.cleaner import readable_units
from entrepot.cleaner.maintenance.garbage import Litter, StaleUpload, UnreferencedLink
from entrepot.cleaner.policy import Eviction, Removal


def lines(item: Litter) -> Iterator[str]:
    """Yield the lines about one removal, each with a name, kind, size and reason."""
    if isinstance(item, StaleUpload):
        yield _line(item.upload.name, "upload", item.upload.size, item.words)
    elif isinstance(item, UnreferencedLink):
        yield _line(f"{item.name}@{item.digest}", "link", 0, item.words)
    else:
        if isinstance(item, Removal):
            yield from _image(item)
        yield from map(_eviction, item.evictions)


def _image(removal: Removal) -> Iterator[str]:
    """Yield a line for each tag of the image; for an image without a tag, yield one line."""
    removal_plan = removal.removal_plan
    name, root = removal_plan.image.name, removal_plan.image.root
    size = sum(entry.size for entry in removal_plan.entries)
    tags = sorted(f"{name}:{tag}" for tag, _ in removal_plan.tags) or [f"{name}@{root}"]
    for tag in tags:
        yield _line(tag, "image", size, removal.why.words)


def _eviction(eviction: Eviction) -> str:
    entry = eviction.entry
    return _line(str(entry.digest), entry.kind.name.lower(), entry.size, eviction.words)


def _line(name: str, kind: str, size: int, why: str) -> str:
    return f"{name}  {kind:8}  {readable_units.size(size):>8}  {why}"
