"""Make the redirects that `storage.redirect:` and `middleware.storage:` configure."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.config.schema import Settings
from entrepot.config.storage_middleware import CloudFrontTarget
from entrepot.datastore.drivers.table import open_signer
from entrepot.datastore.index import Index
from entrepot.datastore.storage import RemoteStorage, Stat, Storage
from entrepot.registry.pullthrough.redirects import Redirects, Sign, Storehouse


class _LocalValues:
    """A `_LocalValues` reads the values of a local storage, which always responds."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def look(self, key: str) -> Stat | None:
        """Return the key and size of a value, or None if the value is absent."""
        return self._storage.stat(key)

    def has_answered(self, within_s: float) -> bool:  # noqa: ARG002 - part of the protocol
        """Return True."""
        return True


def redirects(
    settings: Settings, storage: Storage, index: Index, clock: Callable[[], float]
) -> Redirects | None:
    """Return the redirects of one process; this function sends no request to the storage.

    Return None if clients fetch all blobs from the appliance.
    """
    sign = _sign(settings, clock) if settings.has_redirects else None
    if sign is None:
        return None
    values: Storehouse = storage if isinstance(storage, RemoteStorage) else _LocalValues(storage)
    return Redirects(values, index, sign, _lifetime(settings), clock=clock)


def _lifetime(settings: Settings) -> float:
    target = settings.middleware.target
    if isinstance(target, CloudFrontTarget):
        return target.duration
    return settings.storage.redirect.expiry


def _sign(settings: Settings, clock: Callable[[], float]) -> Sign | None:
    target = settings.middleware.target
    if target is None:
        return open_signer(settings.storage, settings.storage.redirect.endpoint)
    if not isinstance(target, CloudFrontTarget):
        base_url = target.base_url
        return lambda key, _: f"{base_url}/{key}"
    from entrepot.registry.cloudfront import cloudfront_signer  # noqa: PLC0415 - loads cryptography

    prefix = (settings.storage.s3.rootdirectory if settings.storage.s3 else None) or ""
    return cloudfront_signer(target.base_url, target.private_key, target.key_pair_id, prefix, clock)
