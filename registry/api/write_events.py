"""Define the interface that reports pushes, mounts and deletions to notification endpoints.

The module `notify.py` implements this interface. Workers import `notify.py` only if an endpoint for
notifications is configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import falcon

from entrepot.datastore.content import StoredManifest
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.registry.push.uploads import Mounted


class WriteEvents(Protocol):
    """A `WriteEvents` queues the events of a request durably before the response is sent.

    The methods of a `WriteEvents` raise no exception.
    """

    def manifest_pushed(
        self, req: falcon.Request, name: Repository, pushed: StoredManifest, tags: Sequence[Tag]
    ) -> None:
        """Queue an event for each tag of a pushed manifest, or one event if it has no tag."""
        ...

    def blob_pushed(self, req: falcon.Request, name: Repository, digest: Digest, size: int) -> None:
        """Queue the event of a pushed blob of *size* bytes."""
        ...

    def blob_mounted(
        self, req: falcon.Request, name: Repository, digest: Digest, mounted: Mounted
    ) -> None:
        """Queue the event of a blob that was linked from another repository."""
        ...

    def manifest_deleted(
        self, req: falcon.Request, name: Repository, digest: Digest, tags: Sequence[Tag]
    ) -> None:
        """Queue an event for the deleted manifest, and an event for each removed tag."""
        ...

    def tag_deleted(self, req: falcon.Request, name: Repository, tag: Tag) -> None:
        """Queue the event of a removed tag."""
        ...

    def blob_deleted(self, req: falcon.Request, name: Repository, digest: Digest) -> None:
        """Queue the event of a blob whose link was removed."""
        ...
