"""Try each request that the appliance needs with a small object of its own."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.client import Conflict, ObjectClient, Rejected
from entrepot.datastore.owned import RefusedRequest

_log = logging.getLogger(__name__)

_OTHER_NAMES = (
    "there is no content below storage.azure.rootdirectory, and names begin with /, as docker"
    " distribution 2 and GitLab's registry write them"
)
_RENAME = "copy them to names without that / (docs/storage.md, azure), or name another container"
_PROBE = b"Entrepot writes and removes this object to check the bucket.\n"


def refused_requests(client: ObjectClient) -> Iterator[RefusedRequest]:
    """Yield the first request that the service refuses, or that content is under other names.

    Raises: StorageBroken without an answer.
    """
    key = f"{layout.OWN}/check-{secrets.token_hex(8)}"
    for name, act in _attempts(client, key):
        try:
            act()
        except Rejected as error:
            yield RefusedRequest(f"{name}: {error}", client.service.remedy(name, str(error)))
            return
    if client.service.had_slash and not client.names("docker") and client.has_slash():
        yield RefusedRequest(_OTHER_NAMES, _RENAME)


def _attempts(client: ObjectClient, key: str) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "list", lambda: client.names(layout.OWN)
    yield "put", lambda: client.put(key, _PROBE)
    yield "get", lambda: client.get(key, 1)
    yield "conditional put", lambda: _expect_conflict(client, key)
    yield "delete", lambda: client.delete(key)


def _expect_conflict(client: ObjectClient, key: str) -> None:
    try:
        client.create(key, _PROBE)
    except Conflict:
        return
    _log.warning(
        "the service ignores If-None-Match: a second appliance on this bucket is not detected"
    )
