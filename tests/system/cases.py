"""Gives each test its own upstream.

A failure in a test opens the circuit breaker of the test's upstream. Another test with this
upstream would then fail.
"""

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
    """An upstream of a shared appliance; only one test uses this upstream."""

    appliance: Appliance
    fake: FakeUpstream
    host: str

    @property
    def name(self) -> str:
        """Return the name of the repository `app` of this upstream in the appliance."""
        return f"{self.host}/app"

    @property
    def seed(self) -> int:
        """Return a seed for content that only this upstream has, and that is not stored yet."""
        return zlib.crc32(self.host.encode())

    def put(self) -> Image:
        """Add an image to the upstream as `app:v1`, and return it."""
        return self.fake.put_image("app", "v1", of_size(KB, self.seed))

    def put_blob(self) -> Digest:
        """Add a blob of SIZE bytes to the upstream's repository `app`, and return its digest."""
        return self.fake.add_blob("app", filler(SIZE, self.seed))
