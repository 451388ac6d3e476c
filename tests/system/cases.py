"""An upstream of its own for each failure: another's would open its breaker."""

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
    """One upstream that no other case uses: another's failures would open its breaker."""

    appliance: Appliance
    fake: FakeUpstream
    host: str

    @property
    def name(self) -> str:
        """The one repository that it has."""
        return f"{self.host}/app"

    @property
    def seed(self) -> int:
        """Content of its own: what another upstream showed would be here already."""
        return zlib.crc32(self.host.encode())

    def put(self) -> Image:
        """Put an image into it as app:v1."""
        return self.fake.put_image("app", "v1", of_size(KB, self.seed))

    def put_blob(self) -> Digest:
        """Put a blob of SIZE bytes into it."""
        return self.fake.add_blob("app", filler(SIZE, self.seed))
