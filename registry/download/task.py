"""What a download is: what is asked for, where it ends, and how long it will be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations
from entrepot.registry.download.parallel import ParallelLimits
from entrepot.registry.download.patience import DEFAULT, Limits
from entrepot.registry.download.sources import Sources
from entrepot.registry.upstream.protocol import Fetch

_BY_DIGEST = Digest("", "")


@dataclass(frozen=True, slots=True)
class Task:
    """What to download, and how to ask for it under the name of whoever wants it.

    `fetches` open it at its sources, in order of preference; `limits` bound the patience with them;
    `without` are the numbers of those that sent wrong bytes a while ago.
    `size` is what its manifest says, in bytes, None where that is not known. `shown` is called once
    the upstream has answered for the blob under that name, before anybody else learns of it; then
    `verified`, once its bytes have proven the digest, before they become the blob; then `landed`.
    `is_ahead`: nobody has asked for it yet.

    `key` stands for the download in the spool: tasks of one key join. Where it is not the digest,
    all bytes come from one upstream, and the blob counts as stored only where `is_proven`.
    """

    digest: Digest
    fetches: tuple[Fetch, ...]
    upstream: str
    repository: str
    size: int | None = None
    shown: Callable[[], None] = lambda: None
    verified: Callable[[], None] = lambda: None
    landed: Callable[[], None] = lambda: None
    is_ahead: bool = False
    limits: Limits = DEFAULT
    without: frozenset[int] = frozenset()
    key: Digest = field(default=_BY_DIGEST)
    is_proven: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        if self.key is _BY_DIGEST:
            object.__setattr__(self, "key", self.digest)

    def sources(self) -> Sources:
        """Return the sources, with patience from now on."""
        return Sources(self.fetches, self.limits, without=self.without)


@dataclass(frozen=True, slots=True)
class Landing:
    """Where downloads end; `report` takes the fields of a `download` event."""

    blobs: BlobStore
    index: AccessIndex
    reservations: Reservations
    report: Callable[..., None] = lambda **_: None
    lanes: ParallelLimits = field(default_factory=lambda: ParallelLimits(1))
