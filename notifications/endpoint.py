"""Define the receivers of events, and which events each of them gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EventEndpoint:
    """An `EventEndpoint` is a receiver of events; `timeout` and `backoff` are in seconds.

    After `threshold` failures in a row, the delivery waits for `backoff` before each later attempt.
    An event whose media type is in `ignored`, or whose action is in `actions`, is not sent to this
    receiver.
    """

    name: str
    url: str = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    timeout: float = 1.0
    threshold: int = 10
    backoff: float = 1.0
    ignored: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()

    def wants(self, action: str, media_type: str) -> bool:
        """Return whether this receiver gets an event with this action and media type."""
        return action not in self.actions and media_type not in self.ignored


@dataclass(frozen=True, slots=True)
class Source:
    """A `Source` has the facts about this appliance that are part of each event.

    `address` is the host name and the port. `instance` is an identifier that changes at each start.
    A URL in an event begins with `base`; if `base` is None, it begins with the scheme and the host
    of the request. `prefix` follows, then the path of the API. If `references` is True, the event
    of a manifest lists the parts of the manifest.
    """

    address: str
    instance: str
    base: str | None = None
    prefix: str = ""
    references: bool = False

    def url(self, scheme: str, host: str, path: str) -> str:
        """Return the URL of *path* that the client of a request could use.

        *scheme* and *host* are those of the request.
        """
        base = f"{scheme}://{host}" if self.base is None else self.base
        return f"{base}{self.prefix}{path}"

    def record(self) -> Mapping[str, str]:
        """Return the field `source` of an event."""
        return {"addr": self.address, "instanceID": self.instance}
