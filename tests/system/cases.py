"""A separate upstream for each failure, because a failure opens the upstream's breaker."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from entrepot.datastore.refs import Digest
from tests.images import Image, filler
from tests.system.appliance import Appliance
from tests.system.images import KB, of_size
from tests.upstream import FakeUpstream

SIZE = 512 * KB


@dataclass(frozen=True, slots=True)
class Case:
    """One upstream that no other case uses."""

    appliance: Appliance
    fake: FakeUpstream
    host: str

    @property
    def name(self) -> str:
        """The name of its only repository."""
        return f"{self.host}/app"

    @property
    def seed(self) -> int:
        """A seed for content that no other upstream has, so that it is not in the store yet."""
        return zlib.crc32(self.host.encode())

    def put(self) -> Image:
        """Add an image as app:v1."""
        return self.fake.put_image("app", "v1", of_size(KB, self.seed))

    def put_blob(self) -> Digest:
        """Add a blob of SIZE bytes."""
        return self.fake.add_blob("app", filler(SIZE, self.seed))
