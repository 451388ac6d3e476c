"""What was used, read off the answer itself where no access log tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon

from entrepot.datastore.accesslog import is_access
from entrepot.datastore.refs import Digest
from entrepot.registry.api.authorize import KIND, REPOSITORY

_OURS = "x-entrepot-"
_BLOBS = ("blob", "upload")
_WHOLE = 200


@dataclass(frozen=True, slots=True)
class Use:
    """Something was used under the name `repository`; `size` in bytes, where the answer says it."""

    digest: Digest
    repository: str
    is_blob: bool
    size: int | None


class AccessHook:
    """Falcon middleware: tells *used* of each use.

    What a worker says to HAProxy in headers is not for clients: *hides* takes it out of answers.
    """

    def __init__(self, used: Callable[[Use], None] | None, *, hides: bool) -> None:
        self._used = used
        self._hides = hides

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
        """Look at an answer that is ready to be sent."""
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
            for name in [each for each in resp.headers if each.startswith(_OURS)]:
                resp.delete_header(name)


def _announced(resp: falcon.Response) -> int | None:
    length = resp.get_header("Content-Length")
    return int(length) if length and resp.status_code == _WHOLE else None
