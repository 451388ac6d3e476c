"""List the drivers of storage and index, and open the configured storage and the index.

Every program opens its storage with `open_storage` and its index with `open_index`. The contract
suites in `tests/contract/` run for each driver except `oss`, which sends the same requests as `s3`.
Each entry of a table is a function that imports its driver, so that a process imports only the
driver that it uses.
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
"""A `Now` returns the time of the appliance in seconds since the UTC epoch."""

Parameters = Mapping[str, object]
"""A `Parameters` has the parsed settings of a driver: its section below `storage:`."""


class DriverSettings(Protocol):
    """A `DriverSettings` has a storage driver's name and parameters, as `settings.storage` has."""

    @property
    def driver(self) -> str:
        """Return the name of the driver, a key of `STORAGES`."""
        ...

    @property
    def parameters(self) -> Parameters:
        """Return the parameters of the selected driver."""
        ...


@dataclass(frozen=True, slots=True)
class DriverChoice:
    """A `DriverChoice` is a driver with its parameters, for a program that reads no settings."""

    driver: str
    parameters: Parameters


def on_disk(root: Path) -> DriverChoice:
    """Return the driver `filesystem` with the data directory *root*."""
    return DriverChoice("filesystem", {"rootdirectory": root})


def _filesystem(parameters: Parameters, clock: Now | None) -> Storage:
    from entrepot.datastore.drivers.filesystem import Filesystem  # noqa: PLC0415 - only if used

    root = parameters["rootdirectory"]
    assert isinstance(root, Path)  # noqa: S101 - the schema has parsed it
    return Filesystem(root, clock)


def _in_memory(parameters: Parameters, clock: Now | None) -> Storage:
    # All processes of the appliance must share the storage, and the memory of a process is private.
    # So the folder of the in-memory storage is on a tmpfs.
    return _filesystem(parameters, clock)


def _azure(parameters: Parameters, clock: Now | None) -> Storage:
    return _bucket("azure", parameters, clock)


def _oss(parameters: Parameters, clock: Now | None) -> Storage:
    return _bucket("oss", parameters, clock)


def _s3(parameters: Parameters, clock: Now | None) -> Storage:
    return _bucket("s3", parameters, clock)


def _bucket(driver: str, parameters: Parameters, clock: Now | None) -> Storage:
    from entrepot.datastore.drivers.objects.setup import parts_of  # noqa: PLC0415 - only if used

    return parts_of(driver, parameters, clock or time.time).storage()


def _sqlite(state: Path, clock: Now) -> Index:
    from entrepot.datastore.drivers.sqlite import SqliteIndex  # noqa: PLC0415 - only if used

    return SqliteIndex(state / layout.INDEX, clock=clock)


STORAGES: Final[Mapping[str, Callable[[Parameters, Now | None], Storage]]] = {
    "filesystem": _filesystem,
    "inmemory": _in_memory,
    "azure": _azure,
    "oss": _oss,
    "s3": _s3,
}
"""This map contains the function that opens each driver under the driver's name in `storage:`.

Each function takes the parameters of the driver, and the clock or None.
"""

SIGNING: Final = frozenset({"azure", "s3"})
"""With these drivers, a client can fetch a blob directly from the storage, by a signed URL."""

INDEXES: Final[Mapping[str, Callable[[Path, Now], Index]]] = {"sqlite": _sqlite}
"""This map contains the function that opens each driver of the index in the state directory."""


def open_storage(settings: DriverSettings, clock: Now | None = None) -> Storage:
    """Return the storage that *settings* select, without reading or writing.

    *clock* returns the times of written values, in seconds since the UTC epoch. If *clock* is None,
    the driver uses its own clock. Raises: KeyError if the driver is unknown; the checks of the
    settings have already refused such a driver.
    """
    return STORAGES[settings.driver](settings.parameters, clock)


def open_owned(settings: DriverSettings, clock: Now) -> OwnedStorage:
    """Return the claim, the snapshot and the other helpers of the bucket that *settings* select.

    The function sends no request. The driver must store values in a bucket. Raises: StorageBroken
    if a file that the settings name cannot be read.
    """
    from entrepot.datastore.drivers.objects.setup import parts_of  # noqa: PLC0415 - only if used

    return parts_of(settings.driver, settings.parameters, clock)


def open_signer(settings: DriverSettings, endpoint: str | None) -> Callable[[str, int], str] | None:
    """Return a function that takes the key of a value and a number of seconds, and signs a URL.

    A client can fetch the value from the URL for that number of seconds. The URL begins with
    *endpoint*, or with the endpoint of the driver if *endpoint* is None. Return None for a driver
    that signs no URLs. Raises: StorageBroken if a file that the settings name cannot be read.
    """
    if settings.driver not in SIGNING:
        return None
    from entrepot.datastore.drivers.objects.setup import signer_of  # noqa: PLC0415 - only if used

    return signer_of(settings.driver, settings.parameters, endpoint)


def open_index(state: Path, clock: Now = time.time) -> Index:
    """Return the index in the state directory *state*; its first method call opens the file."""
    return INDEXES["sqlite"](state, clock)
