"""Queue the events of pushes, mounts and deletions for delivery to notification endpoints.

Workers import this module only if an endpoint is configured. The events contain the ID of the
request and the client's address, which HAProxy sends in a header of every request but GET.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Final

import falcon

from entrepot.datastore.content import StoredManifest
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.notifications import events
from entrepot.notifications.events import EventTarget, NotifiedRequest
from entrepot.notifications.pulls import host_in_address
from entrepot.registry.push.uploads import Mounted

REQUEST: Final = "X-Entrepot-Request"
"""HAProxy's header with the request's ID, and the client's port and address."""

_SCHEME: Final = "X-Client-Scheme"

Record = Callable[[NotifiedRequest, Sequence[tuple[str, EventTarget]]], None]
"""A `Record` queues an event for each pair of an action and its target."""


class Notifier:
    """A `Notifier` implements the protocol WriteEvents.

    If *has_references* is True, the event of a manifest lists the parts of the manifest.
    """

    def __init__(self, record: Record, *, has_references: bool) -> None:
        self._record = record
        self._has_references = has_references

    def manifest_pushed(
        self, req: falcon.Request, name: Repository, pushed: StoredManifest, tags: Sequence[Tag]
    ) -> None:
        """Queue an event for each tag of a pushed manifest, or one event if it has no tag."""
        references = events.references(pushed.body) if self._has_references else ()
        targets = [
            EventTarget(
                name.name,
                pushed.media_type,
                len(pushed.body),
                str(pushed.digest),
                tag=str(tag),
                references=references,
            )
            for tag in tags or ("",)
        ]
        self._record(_request(req), [(events.PUSH, target) for target in targets])

    def blob_pushed(self, req: falcon.Request, name: Repository, digest: Digest, size: int) -> None:
        """Queue the event of a pushed blob of *size* bytes."""
        target = EventTarget(name.name, events.BLOB_TYPE, size, str(digest))
        self._record(_request(req), [(events.PUSH, target)])

    def blob_mounted(
        self, req: falcon.Request, name: Repository, digest: Digest, mounted: Mounted
    ) -> None:
        """Queue the event of a blob that was linked from another repository."""
        target = EventTarget(
            name.name,
            events.BLOB_TYPE,
            mounted.size,
            str(digest),
            mounted_from=mounted.source.name,
        )
        self._record(_request(req), [(events.MOUNT, target)])

    def manifest_deleted(
        self, req: falcon.Request, name: Repository, digest: Digest, tags: Sequence[Tag]
    ) -> None:
        """Queue an event for the deleted manifest, and an event for each removed tag."""
        targets = [
            EventTarget(name.name, digest=str(digest)),
            *(EventTarget(name.name, tag=str(tag)) for tag in tags),
        ]
        self._record(_request(req), [(events.DELETE, target) for target in targets])

    def tag_deleted(self, req: falcon.Request, name: Repository, tag: Tag) -> None:
        """Queue the event of a removed tag."""
        self._record(_request(req), [(events.DELETE, EventTarget(name.name, tag=str(tag)))])

    def blob_deleted(self, req: falcon.Request, name: Repository, digest: Digest) -> None:
        """Queue the event of a blob whose link was removed."""
        self._record(_request(req), [(events.DELETE, EventTarget(name.name, digest=str(digest)))])


def _request(req: falcon.Request) -> NotifiedRequest:
    number, port, host = [*(req.get_header(REQUEST) or "").split(" "), "", ""][:3]
    user: str | None = req.context.identity.user
    return NotifiedRequest(
        id=number or str(uuid.uuid4()),
        address=f"{host_in_address(host)}:{port}" if host else "",
        host=req.get_header("Host") or "",
        scheme=req.get_header(_SCHEME) or "http",
        method=req.method,
        agent=req.user_agent or "",
        user=user or "",
    )
