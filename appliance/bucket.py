"""Check and claim the bucket when the appliance starts, and release the claim when it exits.

The claim is an object in the bucket that names this appliance as the owner. While the appliance
runs, the cleaner renews the claim (`cleaner/bucket_owner.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Final

from entrepot.cleaner.maintenance.index_snapshot import IndexSnapshot
from entrepot.cleaner.store import DataDirectory
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.disk_space import disk_space
from entrepot.datastore.drivers.table import open_index, open_owned, open_signer, open_storage
from entrepot.datastore.errors import DatastoreError, StorageBroken
from entrepot.datastore.owned import OwnedStorage, TriedRequest
from entrepot.runtime.clock import Clock

_log = logging.getLogger(__name__)

_SNAPSHOT_S: Final = 5.0
"""At most this many seconds are spent on the snapshot of the index when the appliance exits."""
_SPOOL_PERCENT: Final = 80
_ENDPOINTS: Final = {
    "azure": "storage.azure.accountname, realm or serviceurl",
    "oss": "storage.oss.region or endpoint",
    "s3": "storage.s3.regionendpoint",
}
"""A map from each driver to the settings that select the host of the storage service."""


def begin(settings: Settings) -> None:
    """Check the bucket, and claim it unless another appliance owns it.

    With `storage.shared`, do not claim the bucket, but check that no appliance without
    `storage.shared` owns it. If the storage service does not respond, log a warning; pulls are then
    passed through until the service responds.

    Raises: ConfigError if the service refuses a request, or if `storage.shared` is set and an
    appliance without `storage.shared` owns the bucket.
    """
    bucket, place = _open(settings), settings.storage.place
    try:
        bucket.forget()
        if found := list(problems(settings)):
            raise ConfigError(found)
        if settings.storage.shared:
            _check_unowned(bucket, settings)
        elif bucket.claim().renew():
            _log.info("this appliance owns the bucket", extra={"bucket": place})
    except DatastoreError as error:
        _log.warning(
            "the bucket does not respond, so nothing can be stored yet",
            extra={"bucket": place, "error": error},
        )


def _check_unowned(bucket: OwnedStorage, settings: Settings) -> None:
    if bucket.is_of_another():
        why = "another appliance, without storage.shared, owns the bucket"
        remedy = "stop that appliance, or delete the object entrepot/owner if it no longer runs"
        raise ConfigError([Problem(_source(settings), why, remedy)])


def end(settings: Settings) -> None:
    """Write the snapshot of the index, and release the claim on the bucket.

    Call this function only after all programs have exited, because the logger records access times
    in the index until it exits.
    """
    if settings.storage.shared:
        return
    _write_snapshot(settings)
    try:
        _open(settings).claim().release()
    except (DatastoreError, ConfigError) as error:
        _log.warning(
            "bucket not released: another appliance can claim it only after 90 s",
            extra={"bucket": settings.storage.place, "error": error},
        )


def _write_snapshot(settings: Settings) -> None:
    """Write the changed parts of the index's snapshot to the bucket; stop after 5 s."""
    until = time.monotonic() + _SNAPSHOT_S
    state = settings.storage.statedir
    clock = Clock(state / layout.CLOCK)
    index = open_index(state, clock)
    try:
        store = DataDirectory(open_storage(settings.storage, clock), index, state / layout.SPOOL)
        snapshots = _open(settings).snapshots()
        IndexSnapshot(store, snapshots, clock, lambda: time.monotonic() > until).write()
    except (DatastoreError, ConfigError) as error:
        _log.warning("snapshot of the index not written", extra={"error": error})
    finally:
        index.close()


def with_spool_size(settings: Settings) -> Settings:
    """Return *settings* with a value for `storage.spoolsize`.

    The default is 80 % of the free space of the state directory.
    """
    storage = settings.storage
    if storage.spoolsize is None:
        try:
            size = disk_space(storage.statedir).free * _SPOOL_PERCENT // 100
        except OSError:  # Each download or upload will report this error.
            return settings
        storage = storage.changed(spoolsize=size)
    _log.info("size limit of the state directory set", extra={"bytes": storage.spoolsize})
    return settings.changed(storage=storage)


def problems(settings: Settings) -> Iterator[Problem]:
    """Send test requests (list, put, get, ...) until the service refuses one; yield the problem.

    Raises: ConfigError if a file cannot be read; StorageBroken if the service does not respond.
    """
    for each in _open(settings).tried():
        if each.why:
            yield problem(settings, each)


def tried(settings: Settings) -> Iterator[TriedRequest]:
    """Send test requests (list, put, get, ...) to the bucket; yield each with its duration.

    After the first request that the service refuses, send no other request. If redirects are on,
    also fetch the URL to which a client would be redirected. Raises: ConfigError if a file cannot
    be read; StorageBroken if the service does not respond.
    """
    bucket, storage, sign = _open(settings), settings.storage, None
    if storage.has_redirects:
        sign = open_signer(storage, storage.redirect.endpoint)
    yield from bucket.tried(sign)


def problem(settings: Settings, refused: TriedRequest) -> Problem:
    """Return a problem that states which request the service refused and why."""
    return Problem(_source(settings), refused.why, refused.remedy)


def no_answer(settings: Settings, error: StorageBroken) -> Problem:
    """Return a problem that states that the service did not respond."""
    key = _ENDPOINTS[settings.storage.driver]
    return Problem(_source(settings), f"no answer: {error}", f"correct {key}")


def _open(settings: Settings) -> OwnedStorage:
    clock = Clock(settings.storage.statedir / layout.CLOCK)
    try:
        return open_owned(settings.storage, clock)
    except StorageBroken as error:
        problem = Problem(_source(settings), str(error), "name a file that can be read")
        raise ConfigError([problem]) from error


def _source(settings: Settings) -> str:
    return f"storage.{settings.storage.driver}={settings.storage.place}"
