"""Find hosted repositories that an upstream of the same name would hide."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entrepot.datastore import layout
from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage
from entrepot.runtime.hostnames import unfold


def shadowed(storage: Storage, is_upstream: Callable[[str], bool]) -> Iterator[Repository]:
    """Yield every hosted repository whose first path component is the name of an upstream.

    *is_upstream* is called with both spellings of a host with a port, `host_port` and `host:port`.
    The hidden repository's name resolves to the upstream: its pushed images could no longer be
    pulled, and images of the upstream would be stored in the same folder.
    """
    repositories = Repositories(storage)
    for first in storage.list(layout.REPOSITORIES):
        if is_upstream(first) or is_upstream(unfold(first)):
            below = repositories.below(first)
            yield from (name for name in below if repositories.origin(name) is None)


def leaves_out(name: Repository) -> str:
    """Return the setting that disables the upstream which would hide repository *name*."""
    return f"upstreams.{unfold(name.name.partition('/')[0])}.enabled: false"
