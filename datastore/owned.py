"""Define a storage that several appliances can reach; only its owner writes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from entrepot.datastore.snapshot import SnapshotStore

RENEW_S: Final = 15.0
"""The owner renews its claim at this interval, in seconds."""


Sign = Callable[[str, int], str]
"""A `Sign` takes the key of a value and a lifetime in seconds, and returns a URL of the value.

Raises: StorageBroken.
"""


@dataclass(frozen=True, slots=True)
class TriedRequest:
    """A `TriedRequest` is the result of a request that was sent to test the service.

    `seconds` is the time that the request took. `why` is empty if the service accepted the request.
    Otherwise `why` is the reason of the refusal, and `remedy` is the remedy for the operator.
    """

    name: str
    seconds: float
    why: str = ""
    remedy: str = ""


class StorageClaim(Protocol):
    """A `StorageClaim` is the claim with which one appliance owns a storage.

    One process of the appliance renews the claim.

    `is_held` is None until the storage has responded for the first time; then it is True while this
    appliance owns the storage, and otherwise False. Each method can raise StorageFull and
    StorageBroken.
    """

    is_held: bool | None

    def renew(self) -> bool:
        """Renew the claim, or try to claim the storage; return whether this appliance owns it."""
        ...

    def release(self) -> None:
        """Release the claim, so that another appliance can own the storage immediately."""
        ...


class StorageCopies(Protocol):
    """A `StorageCopies` has local copies of values that a late removal request may still delete."""

    def begin_repair(self) -> None:
        """Start to restore deleted values, if no late request can delete them again."""
        ...


class OwnedStorage(Protocol):
    """A storage with an owner. Each method can raise StorageFull and StorageBroken."""

    def claim(self) -> StorageClaim:
        """Return the claim of this appliance."""
        ...

    def copies(self) -> StorageCopies:
        """Return the local copies of values that a late removal request may still delete."""
        ...

    def is_of_another(self) -> bool:
        """Return whether another appliance owns the storage.

        If this appliance owns it, release the claim.
        """
        ...

    def forget(self) -> None:
        """Discard all remembered values, because another program may have changed the storage."""
        ...

    def report_to(self, report: Callable[..., None]) -> None:
        """Call *report* for each request that this process sends from now on."""
        ...

    def snapshots(self) -> SnapshotStore:
        """Return the `SnapshotStore`, which reads and writes the snapshot of the index."""
        ...

    def tried(self, sign: Sign | None = None) -> Iterator[TriedRequest]:
        """Try each kind of request that the appliance sends; end after the first refusal.

        If *sign* is given, also fetch the URL to which clients would be redirected. Raises:
        StorageBroken if the service does not respond.
        """
        ...
