"""Try each request that the driver `s3` needs with a small object of its own."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.client import Conflict, ObjectClient, Rejected
from entrepot.datastore.owned import RefusedRequest

_log = logging.getLogger(__name__)

_PROBE = b"Entrepot writes and removes this object to check the bucket.\n"
_REMEDIES = {
    "NoSuchBucket": "create the bucket, or correct storage.s3.bucket",
    "AuthorizationHeaderMalformed": "set storage.s3.region to the bucket's region",
    "PermanentRedirect": "set storage.s3.region to the bucket's region",
    "InvalidAccessKeyId": "correct storage.s3.accesskey",
    "SignatureDoesNotMatch": "correct storage.s3.secretkey",
    "InvalidToken": "correct storage.s3.sessiontoken",
    "RequestTimeTooSkewed": "set the clock of this machine",
}


def refused_requests(client: ObjectClient) -> Iterator[RefusedRequest]:
    """Yield the first request that the service refuses. Raises: StorageBroken without an answer."""
    key = f"{layout.OWN}/check-{secrets.token_hex(8)}"
    for name, permission, act in _attempts(client, key):
        try:
            act()
        except Rejected as error:
            yield RefusedRequest(f"{name}: {error}", _remedy(str(error), permission))
            return


def _attempts(client: ObjectClient, key: str) -> Iterator[tuple[str, str, Callable[[], object]]]:
    yield "list", "s3:ListBucket", lambda: client.names(layout.OWN)
    yield "put", "s3:PutObject", lambda: client.put(key, _PROBE)
    yield "get", "s3:GetObject", lambda: client.get(key, 1)
    yield "conditional put", "s3:PutObject", lambda: _expect_conflict(client, key)
    yield "delete", "s3:DeleteObject", lambda: client.delete(key)


def _expect_conflict(client: ObjectClient, key: str) -> None:
    try:
        client.create(key, _PROBE)
    except Conflict:
        return
    _log.warning(
        "the service ignores If-None-Match: a second appliance on this bucket is not detected"
    )


def _remedy(error: str, permission: str) -> str:
    found = (remedy for code, remedy in _REMEDIES.items() if code in error)
    return next(found, f"allow {permission} on the bucket (docs/storage.md has a policy)")
