"""Open the source and the target of a migration; refuse a storage that an appliance uses.

During the migration, no other appliance can start on the state directory of source or target. If
the target is a bucket, this process claims it as an appliance would, so that no appliance on
another machine writes to it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from entrepot import config
from entrepot.appliance import rundir
from entrepot.appliance.migrate.migration import Side
from entrepot.appliance.privileges import ownership
from entrepot.cleaner.bucket_owner import BucketOwner
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.bucket_rebuild import restore_snapshot
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.table import DriverChoice, open_index, open_owned, open_storage
from entrepot.datastore.errors import DatastoreError, StorageBroken
from entrepot.datastore.index import Index
from entrepot.datastore.owned import RENEW_S, OwnedStorage, StorageClaim
from entrepot.datastore.storage import Storage
from entrepot.runtime.clock import Clock
from entrepot.runtime.run_names import SETTINGS

OWNER: Final = f"{layout.OWN}/owner"
"""The key of the object by which an appliance claims a bucket. The owner renews this object."""
_WATCH_S: Final = 2 * RENEW_S + 5
_LOOK_S: Final = 1.0

Wait = Callable[[float], bool]
"""A function that waits for some seconds, and returns True if the migration is interrupted."""


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """An `OpenedSource` is the source of a migration.

    `owner` is the content that the object `entrepot/owner` had when the source was opened. If
    `is_served` is true, a read-only appliance on this machine serves the source during the
    migration.
    """

    side: Side
    owner: bytes | None
    is_served: bool

    def was_used(self) -> bool:
        """Return whether an appliance has claimed the source since it was opened."""
        return not self.is_served and owner_of(self.side.storage) != self.owner


def has_owner(settings: Settings) -> bool:
    """Return whether the storage is a bucket. Only one appliance at a time owns a bucket."""
    return settings.storage.bucket is not None


def refuse_same(source: Settings, target: Settings) -> None:
    """Raise ConfigError if source and target share a data directory, state directory or bucket."""
    one, other = source.storage, target.storage
    if (one.driver, one.place) == (other.driver, other.place):
        problem = Problem(other.place, "source and target are the same", "name another target")
        raise ConfigError([problem])
    if one.statedir.resolve() == other.statedir.resolve():
        message = "this is the state directory of the source too"
        remedy = "set another storage.statedir for the target"
        raise ConfigError([Problem(str(other.statedir), message, remedy)])


@contextmanager
def opened_source(settings: Settings, scratch: Path, wait: Wait) -> Iterator[OpenedSource]:
    """Open the source for reading.

    *scratch* is a folder for the files of the driver, such as the journal of a bucket.

    Raises: ConfigError if the source is empty, or if an appliance uses it. A read-only appliance on
    this machine may use the source.
    """
    storage = settings.storage
    with ExitStack() as left:
        is_served = _is_served_read_only(settings)
        if not is_served:
            _hold_source(storage.statedir, left)
        parameters = {**storage.parameters}
        if has_owner(settings):
            parameters["statedir"] = scratch
        content = _opened(storage.place, DriverChoice(storage.driver, parameters))
        _refuse_empty(storage.place, content)
        if not is_served:
            refuse_renewed_owner(storage.place, content, wait)
        index = _index_of(storage.statedir)
        if index is None and has_owner(settings):
            index = _index_of_snapshot(DriverChoice(storage.driver, parameters), scratch)
        if index is not None:
            left.callback(index.close)
        side = Side(storage.place, content, index)
        yield OpenedSource(side, owner_of(content), is_served)


def owner_of(storage: Storage) -> bytes | None:
    """Return the content of the object `entrepot/owner`, by which an appliance claims a bucket.

    Return None if the object is absent or the bucket does not respond. If the bucket does not
    respond, the next request of the migration fails too and reports the error.
    """
    try:
        return storage.read(OWNER, 64 * 1024)
    except DatastoreError:
        return None


@contextmanager
def opened_target(settings: Settings, clock: Clock) -> Iterator[Side]:
    """Open the target for writing, and claim it if it is a bucket. Raises: ConfigError."""
    storage = settings.storage
    with ExitStack() as left:
        left.enter_context(rundir.hold(storage.statedir))
        if has_owner(settings):
            left.enter_context(_owned(settings, open_owned(storage, clock)))
        index = open_index(storage.statedir, clock)
        left.callback(index.close)
        budget = Budget(settings.cleaner.maxsize, settings.cleaner.threshold)
        folder = None if has_owner(settings) else storage.rootdirectory
        yield Side(storage.place, open_storage(storage, clock), index, folder, budget.target)


def make_folders(settings: Settings) -> None:
    """Create the folders of the target. Raises: ConfigError."""
    if settings.storage.inmemory:
        message = "content in memory is deleted when an appliance starts"
        remedy = "name a target with another driver"
        raise ConfigError([Problem(settings.storage.place, message, remedy)])
    ownership.make_folders(settings)


# ---- the source


def _is_served_read_only(settings: Settings) -> bool:
    """Return whether a read-only appliance on this machine serves the source."""
    run = rundir.find(settings.storage.statedir)
    if run is None:
        return False
    running = config.resolved({"ENTREPOT_SETTINGS": str(run / SETTINGS)})
    return running.storage.maintenance.readonly.enabled


def _hold_source(state: Path, left: ExitStack) -> None:
    """Lock the state directory of the source, if it is on this machine. Raises: ConfigError."""
    if not (state.is_dir() or state.parent.is_dir()):
        return
    try:
        left.enter_context(rundir.hold(state))
    except ConfigError as error:
        message = "an appliance uses the source"
        remedy = "stop it, or restart it with storage.maintenance.readonly.enabled: true"
        raise ConfigError([Problem(str(state), message, remedy)]) from error


def _opened(place: str, choice: DriverChoice) -> Storage:
    try:
        return open_storage(choice)
    except StorageBroken as error:
        raise ConfigError([Problem(place, str(error), "name a file that can be read")]) from error


def _refuse_empty(place: str, storage: Storage) -> None:
    try:
        found = (next(storage.walk(key), None) for key in (layout.BLOBS, layout.REPOSITORIES))
        is_empty = all(each is None for each in found)
    except DatastoreError as error:
        remedy = "correct the source; the permissions to list and to read are needed"
        raise ConfigError([Problem(place, f"it cannot be read: {error}", remedy)]) from error
    if is_empty:
        remedy = "correct the folder, or the bucket and storage.*.rootdirectory, of the source"
        raise ConfigError([Problem(place, "the source has no content", remedy)])


def refuse_renewed_owner(
    place: str, storage: Storage, wait: Wait, timer: Callable[[], float] = time.monotonic
) -> None:
    """Raise ConfigError if a running appliance, on any machine, owns the source.

    A running appliance renews its claim every few seconds, and a killed appliance leaves a claim
    that nothing renews. So this function watches the claim for up to 35 s.
    """
    before = owner_of(storage)
    if before is None:
        return
    _note(f"{place} has an owner: watching for {_WATCH_S:.0f} s whether that appliance still runs")
    deadline = timer() + _WATCH_S
    while timer() < deadline and not wait(_LOOK_S):
        now = owner_of(storage)
        if now is None:
            return
        if now != before:
            problem = Problem(place, "an appliance owns the source", "stop that appliance")
            raise ConfigError([problem])


def _index_of(state: Path) -> Index | None:
    """Open the index of the source; return None, and create no index, if the source has none."""
    return open_index(state) if (state / layout.INDEX).is_file() else None


def _index_of_snapshot(choice: DriverChoice, scratch: Path) -> Index | None:
    """Create an index in *scratch* from the snapshot of the index in the bucket."""
    folder = scratch / "index"
    folder.mkdir()
    index = open_index(folder)
    try:
        snapshots = open_owned(choice, time.time).snapshots()
        for _ in restore_snapshot(index, snapshots, time.time()):
            pass
    except DatastoreError as error:
        _note(
            f"the last uses are unknown, because the snapshot of the index is unreadable: {error}"
        )
    return index


# ---- the target


@contextmanager
def _owned(settings: Settings, bucket: OwnedStorage) -> Iterator[None]:
    """Check the bucket of the target, and own the bucket during a `with` block.

    Raises: ConfigError.
    """
    place = settings.storage.place
    claim = bucket.claim()
    try:
        if found := [Problem(place, each.why, each.remedy) for each in bucket.tried() if each.why]:
            raise ConfigError(found)
        is_held = claim.renew()
    except StorageBroken as error:
        raise ConfigError([Problem(place, f"no answer: {error}", "correct the target")]) from error
    if not is_held:
        message = "an appliance owns the target"
        remedy = f"stop that appliance, or delete the object {OWNER} if it no longer runs"
        raise ConfigError([Problem(place, message, remedy)])
    with _renewing(claim):
        yield


@contextmanager
def _renewing(claim: StorageClaim) -> Iterator[None]:
    """Renew a claim in a thread during a `with` block, and release the claim afterwards."""
    ended = threading.Event()
    owner = BucketOwner(claim, ended)

    def run() -> None:
        pause = RENEW_S
        while not ended.wait(pause):
            pause = owner.turn()

    thread = threading.Thread(target=run, name="bucket owner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        try:
            claim.release()
        except DatastoreError as error:
            _note(
                f"the target was not released: an appliance can claim it only after 90 s: {error}"
            )


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
