"""Writes: until pushing is built, each is answered 405, after the right was checked."""

from __future__ import annotations

import falcon

from registry.api.door import Door
from registry.errors import Unsupported


class UploadResource:
    """`/v2/<name>/blobs/uploads/` and what is below it."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def on_post(
        self, req: falcon.Request, resp: falcon.Response, name: str, upload: str = ""
    ) -> None:
        """Refuse."""
        self._door.enter(req, resp, name, "push")
        raise Unsupported(f"{name}{upload and '/'}{upload} cannot be pushed to", ())

    on_get = on_head = on_put = on_patch = on_delete = on_post
