"""The body of a blob on its way from another registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class RemoteBlob(Protocol):
    """The open body of a blob, from `start` on (bytes; 0 where a range was ignored).

    `size` is of the whole blob, None where the upstream does not say.
    """

    @property
    def start(self) -> int:
        """Where the body begins in the blob."""
        ...

    @property
    def size(self) -> int | None:
        """How long the whole blob is."""
        ...

    @property
    def stop(self) -> int | None:
        """Where the body ends in the blob (exclusive); None where nobody says."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes in, in pieces of at most 256 KiB.

        Raises: Unavailable when the upstream breaks off before the length that it announced.
        """
        ...


class Fetch(Protocol):
    """Opens a blob at a source, from `start` to `stop` (bytes, exclusive; None: its end)."""

    def __call__(
        self, start: int, stop: int | None = None, /
    ) -> AbstractContextManager[RemoteBlob]:
        """Ask for it. Raises: UpstreamError."""
        ...
