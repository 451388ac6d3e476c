"""Run each contract test with every driver in the driver table and with the in-memory drivers.

For a new driver, add a row to the driver table and add the driver's parameters to this module.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.drivers.memory_parts import (
    MemoryLinkTimes,
    MemoryNotes,
    MemoryPins,
    MemoryReservations,
)
from entrepot.datastore.drivers.table import INDEXES, STORAGES, Parameters, open_index
from entrepot.datastore.index import (
    REBUILT,
    Index,
    KeyValueStore,
    LinkTimes,
    PinStore,
    ReservationStore,
)
from entrepot.datastore.storage import Storage
from tests import azure_storage
from tests.azure_front import AzureFront
from tests.azurite import Azurite
from tests.clock import Clock
from tests.s3_front import S3Front
from tests.s3_storage import always_owned

_MEMORY = "memory"
_MIXED = "mixed"
_PARAMETERS: dict[str, Callable[[Path], Parameters]] = {
    "filesystem": lambda folder: {"rootdirectory": folder / "root"},
    "inmemory": lambda folder: {"rootdirectory": folder / "root"},
}


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an index other than its rows: reservations, pins, notes and link times."""

    reservations: ReservationStore
    pins: PinStore
    notes: KeyValueStore
    link_times: LinkTimes


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Front]:
    """Run an S3 server for all tests of one process."""
    with S3Front() as front:
        yield front


_DRIVERS = [
    *(
        pytest.param(name, marks=pytest.mark.slow) if name in {"s3", "azure"} else name
        for name in STORAGES
        if name != "oss"
    ),
    pytest.param("azurite", marks=pytest.mark.soak),  # Azurite must be installed with npm
    _MEMORY,
]
"""The drivers of a storage. `oss` is left out, because it sends the same requests as `s3`."""


@pytest.fixture(scope="session")
def azure() -> Iterator[AzureFront]:
    """Run a small Azure server for all tests of one process."""
    with AzureFront() as front:
        yield front


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Run Azurite, Microsoft's emulator of Azure, for all tests of one process."""
    with Azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture(params=_DRIVERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Return an empty storage of one driver."""
    if request.param == _MEMORY:
        return MemoryStorage()
    if request.param == "s3":
        front: S3Front = request.getfixturevalue("s3")
        return always_owned(front, tmp_path, rootdirectory=f"/{uuid.uuid4().hex}/registry")
    if request.param in {"azure", "azurite"}:
        server: AzureFront | Azurite = request.getfixturevalue(request.param)
        return azure_storage.always_owned(
            server.url, tmp_path, rootdirectory=f"/{uuid.uuid4().hex}/registry"
        )
    return STORAGES[request.param](_PARAMETERS[request.param](tmp_path), None)


@pytest.fixture
def clock() -> Clock:
    """Return the clock that the tested index uses."""
    return Clock(1000.0)


@pytest.fixture(params=[*INDEXES, _MEMORY, _MIXED])
def new_index(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Index]:
    """Yield an index of one driver that has not been rebuilt yet, as after the loss of an index.

    The index `mixed` keeps its rows in memory, and its pins and notes in an SQLite database.
    """
    made = [each(tmp_path, clock) for name, each in INDEXES.items() if name == request.param]
    if request.param == _MEMORY:
        made.append(MemoryIndex(clock=clock, rebuilt=False))
    if request.param == _MIXED:
        other = open_index(tmp_path, clock)
        made += [MemoryIndex(clock=clock, pins=other.pins, notes=other.notes), other]
    yield made[0]
    for each in made:
        each.close()


@pytest.fixture
def index(new_index: Index) -> Index:
    """Return an empty index of one driver that has already been rebuilt."""
    new_index.notes.put({REBUILT: "0"})
    return new_index


@pytest.fixture(params=[*INDEXES, _MEMORY])
def parts(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Parts]:
    """Yield the empty reservations, pins, notes and link times of one driver's index.

    The in-memory parts are separate objects that do not belong to a common index.
    """
    if request.param == _MEMORY:
        notes = MemoryNotes({REBUILT: "0"})
        held = MemoryReservations(lambda: 0, notes)
        yield Parts(held, MemoryPins(clock), MemoryNotes(), MemoryLinkTimes(clock))
        return
    index = INDEXES[request.param](tmp_path, clock)
    index.notes.put({REBUILT: "0"})
    yield Parts(index.reservations, index.pins, index.notes, index.link_times)
    index.close()


@pytest.fixture
def reservations(parts: Parts) -> ReservationStore:
    """Return the reservations of one driver's index."""
    return parts.reservations


@pytest.fixture
def pins(parts: Parts) -> PinStore:
    """Return the pins of one driver's index; pinned content is not evicted."""
    return parts.pins


@pytest.fixture
def notes(parts: Parts) -> KeyValueStore:
    """Return the notes of one driver's index; each note is a short text under a name."""
    return parts.notes


@pytest.fixture
def link_times(parts: Parts) -> LinkTimes:
    """Return the link times of one driver's index: when each link was last confirmed."""
    return parts.link_times
