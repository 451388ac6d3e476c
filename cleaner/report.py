"""What a dry run prints: a line for each thing that goes, and why it does."""

from __future__ import annotations

from collections.abc import Iterator

from entrepot.cleaner import readable_units
from entrepot.cleaner.maintenance.garbage import Litter, StaleUpload, UnreferencedLink
from entrepot.cleaner.policy import Eviction, Removal


def lines(litter: Litter) -> Iterator[str]:
    """Yield the lines about one step of a plan: what, of which kind, how large, why."""
    if isinstance(litter, StaleUpload):
        yield _line(litter.upload.name, "upload", litter.upload.size, litter.words)
    elif isinstance(litter, UnreferencedLink):
        yield _line(f"{litter.name}@{litter.digest}", "link", 0, litter.words)
    else:
        if isinstance(litter, Removal):
            yield from _image(litter)
        yield from map(_eviction, litter.evictions)


def _image(removal: Removal) -> Iterator[str]:
    """Yield a line for each tag that goes, or one for an image that has none."""
    removal_plan = removal.removal_plan
    name, root = removal_plan.image.name, removal_plan.image.root
    size = sum(entry.size for entry in removal_plan.entries)
    tags = sorted(f"{name}:{tag}" for tag, _ in removal_plan.tags) or [f"{name}@{root}"]
    for tag in tags:
        yield _line(tag, "image", size, removal.why.words)


def _eviction(eviction: Eviction) -> str:
    entry = eviction.entry
    return _line(str(entry.digest), entry.kind.name.lower(), entry.size, eviction.words)


def _line(what: str, kind: str, size: int, why: str) -> str:
    return f"{what}  {kind:8}  {readable_units.size(size):>8}  {why}"
