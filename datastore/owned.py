"""Define a storage that several appliances can reach; one of them at a time owns it and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from entrepot.datastore.snapshot import SnapshotStore

RENEW_S: Final = 15.0
"""The owner renews its claim at this interval, in seconds."""


Sign = Callable[[str, int], str]
"""A `Sign` returns the URL of a value, by its key and the lifetime of the URL in s.

Raises: StorageBroken.
"""


@dataclass(frozen=True, slots=True)
class TriedRequest:
    """A `TriedRequest` is a trial request to a service: its name, and the `seconds` that it took.

    `why` is empty if the service accepted the request. Else `why` is the reason of the refusal, and
    `remedy` is what the operator can do.
    """

    name: str
    seconds: float
    why: str = ""
    remedy: str = ""


class StorageClaim(Protocol):
    """The claim of one appliance on a storage; only one process of the appliance renews it.

    `is_held` is None before the first answer. Raises, each method: StorageFull, StorageBroken.
    """

    is_held: bool | None

    def renew(self) -> bool:
        """Renew the claim, or try to make it; return whether this appliance owns the storage."""
        ...

    def release(self) -> None:
        """End the claim, so that another appliance can own the storage at once."""
        ...


class StorageCopies(Protocol):
    """The local copies of values that the storage may still lose."""

    def begin_repair(self) -> None:
        """Start to write the lost values again, as soon as it is certain which were lost."""
        ...


class OwnedStorage(Protocol):
    """A storage with an owner. Raises, each method: StorageFull, StorageBroken."""

    def claim(self) -> StorageClaim:
        """Return the claim of this appliance."""
        ...

    def copies(self) -> StorageCopies:
        """Return the local copies of values."""
        ...

    def is_of_another(self) -> bool:
        """Return whether another appliance owns the storage; if so, end this appliance's claim."""
        ...

    def forget(self) -> None:
        """Forget which values the storage has, because another program may have changed them."""
        ...

    def report_to(self, report: Callable[..., None]) -> None:
        """Report all requests of this process from now on (`storage.report_requests`)."""
        ...

    def snapshots(self) -> SnapshotStore:
        """Return where the snapshot of the index is stored."""
        ...

    def tried(self, sign: Sign | None = None) -> Iterator[TriedRequest]:
        """Try each kind of request that the appliance needs, up to the first that is refused.

        If *sign* is given, also fetch the URL to which clients would be redirected. Raises:
        StorageBroken if the service does not respond.
        """
        ...
