"""Create the client, journal and owner of one bucket from the settings, and connect them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.check import tried_requests
from entrepot.datastore.drivers.objects.client import Bucket, ObjectClient
from entrepot.datastore.drivers.objects.journal import BucketJournal
from entrepot.datastore.drivers.objects.kept import KeptCopies
from entrepot.datastore.drivers.objects.owner import Claim, Lease, Unowned
from entrepot.datastore.drivers.objects.requests import Report
from entrepot.datastore.drivers.objects.snapshots import BucketSnapshots
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.drivers.table import Parameters
from entrepot.datastore.owned import Sign, StorageClaim, TriedRequest


@dataclass(frozen=True, slots=True)
class BucketParts:
    """A `BucketParts` creates the storage, the claim and the other helpers of one bucket.

    `state` is the state directory. If `is_shared` is set, docker distribution writes to the bucket
    too, so no appliance owns it.
    """

    client: ObjectClient
    journal: BucketJournal
    state: Path
    is_shared: bool = False

    def claim(self) -> StorageClaim:
        """Return the claim of this appliance; only the process that renews it calls this method."""
        return Unowned() if self.is_shared else self._claim()

    def _claim(self) -> Claim:
        return Claim(self.client, self.state / layout.BUCKET_OWNER, self.journal.clear)

    def is_of_another(self) -> bool:
        """Return whether another appliance owns the bucket.

        If this appliance owns it, release the claim.
        """
        return self._claim().is_of_another()

    def forget(self) -> None:
        """Delete the values and names in the journal. Raises: StorageFull, StorageBroken."""
        self.journal.clear()

    def tried(self, sign: Sign | None = None) -> Iterator[TriedRequest]:
        """Try each kind of request; end after the first refusal. Raises: StorageBroken."""
        return tried_requests(self.client, sign)

    def report_to(self, report: Report) -> None:
        """Call *report* for each request that this process sends from now on."""
        self.client.report_to(report)

    def snapshots(self) -> BucketSnapshots:
        """Return the `BucketSnapshots`, which reads and writes the snapshot of the index."""
        return BucketSnapshots(self.client, self.journal, Lease(self.state / layout.BUCKET_OWNER))

    def storage(self) -> ObjectStorage:
        """Return the storage; any number of processes can use it at the same time."""
        owner = Unowned() if self.is_shared else Lease(self.state / layout.BUCKET_OWNER)
        return ObjectStorage(self.client, self.journal, owner, is_shared=self.is_shared)

    def copies(self) -> KeptCopies:
        """Return the local copies of values that a late removal request may still delete."""
        return self.storage().copies


def _s3(parameters: Mapping[str, Any]) -> Bucket:
    from entrepot.datastore.drivers import s3  # noqa: PLC0415 - only the driver in use

    return s3.bucket_of(parameters)


def _azure(parameters: Mapping[str, Any]) -> Bucket:
    from entrepot.datastore.drivers import azure  # noqa: PLC0415 - only the driver in use

    return azure.bucket_of(parameters)


def _oss(parameters: Mapping[str, Any]) -> Bucket:
    from entrepot.datastore.drivers import oss  # noqa: PLC0415 - only the driver in use

    return oss.bucket_of(parameters)


_BUCKETS: Final[Mapping[str, Callable[[Mapping[str, Any]], Bucket]]] = {
    "azure": _azure,
    "oss": _oss,
    "s3": _s3,
}


def parts_of(driver: str, parameters: Parameters, clock: Callable[[], float]) -> BucketParts:
    """Return the `BucketParts` of the bucket that *parameters* select; send no request.

    Raises: StorageBroken if a file that the parameters name cannot be read.
    """
    given: dict[str, Any] = dict(parameters)
    state: Path = given["statedir"]
    client = ObjectClient(_BUCKETS[driver](given))
    journal = BucketJournal(state / layout.BUCKET_JOURNAL, clock)
    return BucketParts(client, journal, state, given.get("shared", False))


Signer = Callable[[str, int], str]
"""A `Signer` takes a key and a number of seconds, and returns a URL that is valid for this time."""


def _s3_signer(parameters: Mapping[str, Any], endpoint: str | None) -> Signer:
    given = {**parameters, "regionendpoint": endpoint} if endpoint else parameters
    return ObjectClient(_s3(given)).sign


def _azure_signer(parameters: Mapping[str, Any], endpoint: str | None) -> Signer:
    from entrepot.datastore.drivers import azure  # noqa: PLC0415 - only the driver in use

    return azure.signer_of(parameters, endpoint)


_SIGNERS: Final[Mapping[str, Callable[[Mapping[str, Any], str | None], Signer]]] = {
    "azure": _azure_signer,
    "s3": _s3_signer,
}


def signer_of(driver: str, parameters: Parameters, endpoint: str | None) -> Signer:
    """Return a function that signs the URL of an object, without a request to the storage.

    The URL begins with *endpoint*, or with the endpoint in *parameters* if *endpoint* is None.
    Raises: StorageBroken if a file that the parameters name cannot be read. The returned function
    raises StorageBroken if it gets no credentials for signing.
    """
    return _SIGNERS[driver](dict(parameters), endpoint)
