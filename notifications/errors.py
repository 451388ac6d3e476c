"""Define the errors of this package.

NotificationError
├── QueueUnavailable    the queue on disk cannot be read or written now
└── NotDelivered        an endpoint did not accept an envelope
"""

from __future__ import annotations


class NotificationError(Exception):
    """`NotificationError` is the base class of the errors of this package."""


class QueueUnavailable(NotificationError):  # noqa: N818 - the name states the fact
    """The queue on disk cannot be read or written now."""


class NotDelivered(NotificationError):  # noqa: N818 - the name states the fact
    """An endpoint did not accept an envelope; `status` is None if it sent no response."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
