"""Try each kind of request that the appliance sends to a bucket, with a small temporary object."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.client import Conflict, ObjectClient, Rejected
from entrepot.datastore.errors import StorageBroken
from entrepot.datastore.owned import Sign, TriedRequest

_log = logging.getLogger(__name__)

_OTHER_NAMES = (
    "there is no content below storage.azure.rootdirectory, but there are objects whose names"
    " begin with a slash, as docker distribution 2 and GitLab's registry write them"
)
_RENAME = (
    "copy them to names without the slash (docs/storage.md, azure), or configure another container"
)
_PROBE = b"Entrepot writes and removes this object to check the bucket.\n"

_WITHOUT_OBJECT = ("list", "put", "delete")
_URL_S = 60
_FETCH_S = 10
_LONGEST_ERROR = 64 * 1024

_Attempt = tuple[str, str, Callable[[], object]]
"""An `_Attempt` has a request's name, the name of its permission, and the function that sends it.
"""


def tried_requests(client: ObjectClient, sign: Sign | None = None) -> Iterator[TriedRequest]:
    """Yield each request with the time that it took; end after the first refusal.

    *sign* signs the URL to which a client is redirected; it is None if no client is redirected. If
    all requests succeed, but the objects in the bucket have names that the driver does not read,
    yield one more refusal. Raises: StorageBroken if the service does not respond.
    """
    key = f"{layout.OWN}/check-{secrets.token_hex(8)}"
    for name, kind, act in _attempts(client, key, sign):
        tried = _try(client, name, kind, act)
        if tried.why and kind not in _WITHOUT_OBJECT:
            with suppress(StorageBroken):
                client.delete(key)
        yield tried
        if tried.why:
            return
    if client.service.had_slash and not client.names("docker") and client.has_slash():
        yield TriedRequest("names", 0.0, _OTHER_NAMES, _RENAME)


def _try(client: ObjectClient, name: str, kind: str, act: Callable[[], object]) -> TriedRequest:
    began, why, remedy = time.monotonic(), "", ""
    try:
        act()
    except Rejected as error:
        why, remedy = f"{name}: {error}", client.service.remedy(kind, str(error))
    return TriedRequest(name, time.monotonic() - began, why, remedy)


def _attempts(client: ObjectClient, key: str, sign: Sign | None) -> Iterator[_Attempt]:
    yield "list", "list", lambda: client.names(layout.OWN)
    yield "put", "put", lambda: client.put(key, _PROBE)
    yield "conditional put", "conditional put", lambda: _expect_conflict(client, key)
    yield "get with range", "get", lambda: _get_range(client, key)
    if sign is not None:
        yield "signed URL", "get", lambda: _fetch(client, sign(key, _URL_S))
    yield "delete", "delete", lambda: client.delete(key)


def _expect_conflict(client: ObjectClient, key: str) -> None:
    try:
        client.create(key, _PROBE)
    except Conflict:
        return
    _log.warning(
        "the service ignores If-None-Match: a second appliance on this bucket is not detected"
    )


def _get_range(client: ObjectClient, key: str) -> None:
    found = client.get(key, 1)
    if found is None or bytes(found.bytes()) != _PROBE[1:]:
        raise Rejected("the response to a range request has other bytes")


def _fetch(client: ObjectClient, url: str) -> None:
    """Fetch the object from *url* as a redirected client does. Raises: Rejected.

    If this machine cannot reach the host of *url*, only a warning is logged, because clients may
    still be able to reach it.
    """
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=client.tls_context()))
    try:
        with opener.open(url, timeout=_FETCH_S) as response:
            content = response.read(len(_PROBE) + 1)
    except HTTPError as error:
        code = error.read(_LONGEST_ERROR).decode(errors="replace").partition("<Code>")[2]
        raise Rejected(f"{error.code} {code.partition('</Code>')[0]}".strip()) from error
    except (OSError, HTTPException) as error:
        host = urlsplit(url).hostname
        _log.warning("no response from a signed URL", extra={"host": host, "error": error})
        return
    if content != _PROBE:
        raise Rejected("the response from the signed URL has other bytes")
