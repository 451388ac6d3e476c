"""Each failure has its own upstream, because a failure opens the upstream's breaker."""

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
    """A test case has its own upstream, which no other case uses."""

    appliance: Appliance
    fake: FakeUpstream
    host: str

    @property
    def name(self) -> str:
        """Return the name of the only repository of this case's upstream."""
        return f"{self.host}/app"

    @property
    def seed(self) -> int:
        """Return a seed for content that no other upstream has; no such content is stored yet."""
        return zlib.crc32(self.host.encode())

    def put(self) -> Image:
        """Add an image as app:v1."""
        return self.fake.put_image("app", "v1", of_size(KB, self.seed))

    def put_blob(self) -> Digest:
        """Add a blob of SIZE bytes."""
        return self.fake.add_blob("app", filler(SIZE, self.seed))
