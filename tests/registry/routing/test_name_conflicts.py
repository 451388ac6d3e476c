"""The check for upstreams whose name would hide repositories that clients have pushed."""

from __future__ import annotations

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.registry.routing.name_conflicts import shadowed

DIGEST = Digest.of(b"")


def test_only_pushed_repositories_under_an_upstreams_name_conflict() -> None:
    """A pushed repository under an upstream's name conflicts; one pulled from there does not."""
    storage = MemoryStorage()
    repositories = Repositories(storage)
    for name in ("quay.io/pushed/app", "quay.io/pulled/app", "team/app"):
        repositories.link_blob(Repository(name), DIGEST)
    repositories.set_origin(Repository("quay.io/pulled/app"), "quay.io")

    assert list(shadowed(storage, "quay.io".__eq__)) == [Repository("quay.io/pushed/app")]
