"""Report each access to content to the program that embeds the registry.

An embedded registry has no access log, so the hook derives each access from the response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon

from entrepot.datastore.accesslog import is_access
from entrepot.datastore.refs import Digest
from entrepot.registry.api.authorize import KIND, REPOSITORY

_EDGE_HEADERS = "x-entrepot-"
_BLOBS = ("blob", "upload")
_OK = 200


@dataclass(frozen=True, slots=True)
class Use:
    """A `Use` is one access to content in `repository`.

    `size` is in bytes, or None if the response has no size.
    """

    digest: Digest
    repository: str
    is_blob: bool
    size: int | None


class AccessHook:
    """An `AccessHook` is Falcon middleware that calls *used* for each access.

    If *hides* is set, the middleware removes the headers that a worker sends to HAProxy, which are
    not for clients.
    """

    def __init__(self, used: Callable[[Use], None] | None, *, hides: bool) -> None:
        self._used = used
        self._hides = hides

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
        """Report an access to content, just before the response is sent."""
        kind = resp.get_header(KIND)
        digest = resp.get_header("Docker-Content-Digest")
        if self._used and kind and digest and is_access(req.method, kind, resp.status_code):
            self._used(
                Use(
                    digest=Digest.parse(digest),
                    repository=resp.get_header(REPOSITORY) or "",
                    is_blob=kind in _BLOBS,
                    size=_announced(resp),
                )
            )
        if self._hides:
            for name in [each for each in resp.headers if each.startswith(_EDGE_HEADERS)]:
                resp.delete_header(name)


def _announced(resp: falcon.Response) -> int | None:
    length = resp.get_header("Content-Length")
    return int(length) if length and resp.status_code == _OK else None
