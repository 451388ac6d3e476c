"""Connect the parts of the driver `s3`: the client, the journal and the owner of one bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.check import refused_requests
from entrepot.datastore.drivers.objects.client import ObjectClient
from entrepot.datastore.drivers.objects.journal import BucketJournal
from entrepot.datastore.drivers.objects.owner import Claim, Lease
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.drivers.s3 import bucket_of
from entrepot.datastore.drivers.table import Parameters
from entrepot.datastore.owned import RefusedRequest


@dataclass(frozen=True, slots=True)
class BucketParts:
    """The parts of one bucket; `state` is the state directory."""

    client: ObjectClient
    journal: BucketJournal
    state: Path

    def claim(self) -> Claim:
        """Return the claim of this appliance, for the one process that renews it."""
        return Claim(self.client, self.state / layout.BUCKET_OWNER, self.journal.clear)

    def forget(self) -> None:
        """Forget what is remembered of the bucket. Raises: StorageFull, StorageBroken."""
        self.journal.clear()

    def refused(self) -> Iterator[RefusedRequest]:
        """Yield the first request that the service refuses. Raises: StorageBroken."""
        return refused_requests(self.client)

    def storage(self) -> ObjectStorage:
        """Return the storage, for any number of processes."""
        return ObjectStorage(self.client, self.journal, Lease(self.state / layout.BUCKET_OWNER))


def parts_of(parameters: Parameters, clock: Callable[[], float]) -> BucketParts:
    """Return the parts that *parameters* select, without a request.

    Raises: StorageBroken if a file that they name cannot be read.
    """
    given: dict[str, Any] = dict(parameters)
    state: Path = given["statedir"]
    return BucketParts(
        ObjectClient(bucket_of(given)), BucketJournal(state / layout.BUCKET_JOURNAL, clock), state
    )


def open_bucket(parameters: Parameters, clock: Callable[[], float]) -> ObjectStorage:
    """Return the storage that *parameters* select, without a request."""
    return parts_of(parameters, clock).storage()
