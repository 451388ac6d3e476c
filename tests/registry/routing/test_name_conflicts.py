"""When an appliance starts, it detects upstreams whose names would hide pushed repositories."""

from __future__ import annotations

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.registry.routing.name_conflicts import shadowed

DIGEST = Digest.of(b"")


class RemoteStorage(MemoryStorage):
    """A storage that simulates a bucket and fails the test if a value is read."""

    is_remote = True

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Raise AssertionError, because each read would be a request to a bucket."""
        raise AssertionError(f"{key} was read up to {max_bytes}")


@pytest.mark.parametrize("driver", [MemoryStorage, RemoteStorage])
def test_only_pushed_repositories_under_an_upstreams_name_conflict(
    driver: type[MemoryStorage],
) -> None:
    """A pushed repository under an upstream's name is a conflict; a pulled repository is not.

    If the storage is a bucket, the appliance does not read the origins of repositories, because it
    would need one request for each repository.
    """
    storage = driver()
    repositories = Repositories(storage)
    for name in ("quay.io/pushed/app", "quay.io/pulled/app", "team/app"):
        storage.write(layout.layer_link(Repository(name), DIGEST), b"")
    repositories.set_origin(Repository("quay.io/pulled/app"), "quay.io")

    assert list(shadowed(storage, "quay.io".__eq__)) == [Repository("quay.io/pushed/app")]
