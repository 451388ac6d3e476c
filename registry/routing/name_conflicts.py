"""Find hosted repositories that an upstream hides, because their names begin with its host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entrepot.datastore import layout
from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage, is_remote
from entrepot.runtime.hostnames import unfold


def shadowed(storage: Storage, is_upstream: Callable[[str], bool]) -> Iterator[Repository]:
    """Yield every hosted repository whose first path component is the host of an upstream.

    *is_upstream* is called with both spellings of a host with a port, `host_port` and `host:port`.
    The name of such a repository resolves to the upstream: images that were pushed to the
    repository could no longer be pulled, and images of the upstream would be stored in the same
    folder.
    """
    repositories = Repositories(storage)
    folders = storage.list(layout.REPOSITORIES)
    found = [each for each in folders if is_upstream(each) or is_upstream(unfold(each))]
    if not found:
        return
    is_hosted = _is_hosted(storage, repositories)
    for first in found:
        yield from filter(is_hosted, repositories.below(first))


def _is_hosted(storage: Storage, repositories: Repositories) -> Callable[[Repository], bool]:
    """Return a function that returns True for a hosted repository, which has no stored origin.

    In a bucket, all origins are listed in advance: a listing returns 1,000 origins per request,
    while a look-up would need a request for each repository.
    """
    if not is_remote(storage):
        return lambda name: repositories.origin(name) is None
    proxied = {layout.origin_of(stat.key) for stat in storage.walk(layout.ORIGINS)}
    return lambda name: name not in proxied


def leaves_out(name: Repository) -> str:
    """Return the setting that disables the upstream which would hide repository *name*."""
    return f"upstreams.{unfold(name.name.partition('/')[0])}.enabled: false"
