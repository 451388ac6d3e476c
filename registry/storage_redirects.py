"""Make the redirects to the storage that the section `storage.redirect:` configures."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.config.schema import Settings
from entrepot.datastore.drivers.table import open_signer
from entrepot.datastore.index import Index
from entrepot.datastore.storage import RemoteStorage, Storage
from entrepot.registry.pullthrough.redirects import Redirects


def redirects(
    settings: Settings, storage: Storage, index: Index, clock: Callable[[], float]
) -> Redirects | None:
    """Return the redirects of one process, which sends no request before the first one.

    Return None if clients fetch all blobs from the appliance.
    """
    if not settings.storage.has_redirects or not isinstance(storage, RemoteStorage):
        return None
    given = settings.storage.redirect
    sign = open_signer(settings.storage, given.endpoint)
    return sign and Redirects(storage, index, sign, given.expiry, clock=clock)
