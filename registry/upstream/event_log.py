"""What upstreams tell of their work: the events that `datastore.accesslog.Event` lists."""

from __future__ import annotations

from typing import Protocol


class EventLog(Protocol):
    """Takes an event and its fields; it is called by any thread and must not raise."""

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Note one event."""
        ...


def silent(_event: str, /, **_fields: str | float) -> None:
    """Note nothing."""
