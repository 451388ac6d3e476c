"""The table of drivers: no other module names the implementations of storage and index.

Every program opens its storage with `open_storage` and its index with `open_index`. The contract
suites in `tests/contract/` run for each row of the table. A row is a function that imports its
driver, so that a process imports only the driver that it uses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from entrepot.datastore import layout
from entrepot.datastore.index import Index
from entrepot.datastore.storage import Storage

if TYPE_CHECKING:
    from entrepot.datastore.owned import OwnedStorage

Now = Callable[[], float]
"""A `Now` returns the time of the appliance (s, UTC epoch)."""

Parameters = Mapping[str, object]
"""A `Parameters` has the keys of a driver's section below `storage:`, as the schema parsed them."""


class DriverSettings(Protocol):
    """A `DriverSettings` selects and configures a storage driver, as `settings.storage` does."""

    @property
    def driver(self) -> str:
        """Return the name of the driver, a key of `STORAGES`."""
        ...

    @property
    def parameters(self) -> Parameters:
        """The parameters of the selected driver."""
        ...


@dataclass(frozen=True, slots=True)
class DriverChoice:
    """A `DriverChoice` is a driver with its parameters, for a program that has no settings."""

    driver: str
    parameters: Parameters


def on_disk(root: Path) -> DriverChoice:
    """Return the choice of the driver `filesystem` with the data directory *root*."""
    return DriverChoice("filesystem", {"rootdirectory": root})


def _filesystem(parameters: Parameters, clock: Now | None) -> Storage:
    from entrepot.datastore.drivers.filesystem import Filesystem  # noqa: PLC0415 - see the module

    root = parameters["rootdirectory"]
    assert isinstance(root, Path)  # noqa: S101 - the schema has parsed it
    return Filesystem(root, clock)


def _in_memory(parameters: Parameters, clock: Now | None) -> Storage:
    # The folder of the in-memory storage is on a tmpfs, so all processes of the appliance share the
    # folder.
    return _filesystem(parameters, clock)


def _azure(parameters: Parameters, clock: Now | None) -> Storage:
    return _bucket("azure", parameters, clock)


def _oss(parameters: Parameters, clock: Now | None) -> Storage:
    return _bucket("oss", parameters, clock)


def _s3(parameters: Parameters, clock: Now | None) -> Storage:
    return _bucket("s3", parameters, clock)


def _bucket(driver: str, parameters: Parameters, clock: Now | None) -> Storage:
    from entrepot.datastore.drivers.objects.setup import parts_of  # noqa: PLC0415 - see the module

    return parts_of(driver, parameters, clock or time.time).storage()


def _sqlite(state: Path, clock: Now) -> Index:
    from entrepot.datastore.drivers.sqlite import SqliteIndex  # noqa: PLC0415 - see the module

    return SqliteIndex(state / layout.INDEX, clock=clock)


STORAGES: Final[Mapping[str, Callable[[Parameters, Now | None], Storage]]] = {
    "filesystem": _filesystem,
    "inmemory": _in_memory,
    "azure": _azure,
    "oss": _oss,
    "s3": _s3,
}
"""Each function opens a storage; the names are those of docker distribution's `storage:`."""

SIGNING: Final = frozenset({"azure", "s3"})
"""With these drivers a client can fetch a blob from the storage itself, by a signed URL."""

INDEXES: Final[Mapping[str, Callable[[Path, Now], Index]]] = {"sqlite": _sqlite}
"""Each function opens an index in the state directory."""


def open_storage(settings: DriverSettings, clock: Now | None = None) -> Storage:
    """Return the storage that *settings* select, without reading or writing.

    *clock* gives the times of written values; None: the driver's own clock gives them. Raises:
    KeyError if the driver is unknown, which the checks of the settings rule out.
    """
    return STORAGES[settings.driver](settings.parameters, clock)


def open_owned(settings: DriverSettings, clock: Now) -> OwnedStorage:
    """Return the storage that *settings* select with its owner, without a request.

    Only the drivers for buckets have one. Raises: StorageBroken if a file of the settings cannot be
    read.
    """
    from entrepot.datastore.drivers.objects.setup import parts_of  # noqa: PLC0415 - see the module

    return parts_of(settings.driver, settings.parameters, clock)


def open_signer(settings: DriverSettings, endpoint: str | None) -> Callable[[str, int], str] | None:
    """Return the function that signs a URL of a value, for its key and a number of seconds.

    The URL begins with *endpoint*; None: with the endpoint of the driver. Return None for a driver
    that signs no URLs. Raises: StorageBroken if a file of the settings cannot be read.
    """
    if settings.driver not in SIGNING:
        return None
    from entrepot.datastore.drivers.objects.setup import signer_of  # noqa: PLC0415 - see the module

    return signer_of(settings.driver, settings.parameters, endpoint)


def open_index(state: Path, clock: Now = time.time) -> Index:
    """Return the index in the state directory *state*; the first use opens its file."""
    return INDEXES["sqlite"](state, clock)
