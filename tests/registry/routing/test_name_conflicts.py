"""A configuration must not hide what was pushed."""

from __future__ import annotations

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.registry.routing.name_conflicts import shadowed

DIGEST = Digest.of(b"")


def test_only_what_was_pushed_under_an_upstreams_name_is_shadowed() -> None:
    """What came from the upstream itself is at home there."""
    storage = MemoryStorage()
    repositories = Repositories(storage)
    for name in ("quay.io/pushed/app", "quay.io/pulled/app", "team/app"):
        repositories.link_blob(Repository(name), DIGEST)
    repositories.keep_origin(Repository("quay.io/pulled/app"), "quay.io")

    assert list(shadowed(storage, "quay.io".__eq__)) == [Repository("quay.io/pushed/app")]
