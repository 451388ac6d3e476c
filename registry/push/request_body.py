"""The body of a request, as whoever stores it sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Body(Protocol):
    """Bytes that come in: `length` of them, None where the client has not said."""

    @property
    def length(self) -> int | None:
        """Return how many bytes there will be."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield them, once. Raises: BodyBroken when they end too early."""
        ...
