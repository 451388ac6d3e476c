"""What was pushed and would be hidden by an upstream of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entrepot.datastore import layout
from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage
from entrepot.runtime.hostnames import unfold


def shadowed(storage: Storage, is_upstream: Callable[[str], bool]) -> Iterator[Repository]:
    """Yield every hosted repository whose first component, in either spelling, `is_upstream`.

    Such a name leads to the upstream: what was pushed under it could no longer be pulled, and
    what comes from there would lie in the same folder.
    """
    repositories = Repositories(storage)
    for first in storage.list(layout.REPOSITORIES):
        if is_upstream(first) or is_upstream(unfold(first)):
            below = repositories.below(first)
            yield from (name for name in below if repositories.origin(name) is None)


def leaves_out(name: Repository) -> str:
    """Return the setting that leaves out the upstream which would hide a repository."""
    return f"upstreams.{unfold(name.name.partition('/')[0])}.enabled: false"
