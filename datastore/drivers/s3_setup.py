"""Connect the parts of the driver `s3`: the client, the journal and the owner of one bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.datastore import layout
from entrepot.datastore.drivers.s3 import S3Storage
from entrepot.datastore.drivers.s3_bucket import bucket_of
from entrepot.datastore.drivers.s3_check import refused_requests
from entrepot.datastore.drivers.s3_client import S3Client
from entrepot.datastore.drivers.s3_journal import S3Journal
from entrepot.datastore.drivers.s3_owner import Claim, Lease
from entrepot.datastore.drivers.table import Parameters
from entrepot.datastore.owned import RefusedRequest


@dataclass(frozen=True, slots=True)
class BucketParts:
    """The parts of one bucket; `state` is the state directory."""

    client: S3Client
    journal: S3Journal
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

    def storage(self) -> S3Storage:
        """Return the storage, for any number of processes."""
        return S3Storage(self.client, self.journal, Lease(self.state / layout.BUCKET_OWNER))


def parts_of(parameters: Parameters, clock: Callable[[], float]) -> BucketParts:
    """Return the parts that *parameters* select, without a request.

    Raises: StorageBroken if a file that they name cannot be read.
    """
    given: dict[str, Any] = dict(parameters)
    state: Path = given["statedir"]
    return BucketParts(
        S3Client(bucket_of(given)), S3Journal(state / layout.BUCKET_JOURNAL, clock), state
    )


def open_bucket(parameters: Parameters, clock: Callable[[], float]) -> S3Storage:
    """Return the storage that *parameters* select, without a request."""
    return parts_of(parameters, clock).storage()
