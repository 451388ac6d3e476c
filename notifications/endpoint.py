"""Define the receivers of events, and which events each receiver gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EventEndpoint:
    """An `EventEndpoint` is a receiver of events. `timeout` and `backoff` are in s.

    After `threshold` failures one after another, `backoff` passes before each further attempt.
    Events with one of the media types `ignored` or with one of `actions` are not sent to this
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
        """Return whether this receiver gets an event; each of the two filters may exclude it."""
        return action not in self.actions and media_type not in self.ignored


@dataclass(frozen=True, slots=True)
class Source:
    """A `Source` has the facts about this appliance that all its events have.

    `address` is host name and port, `instance` an identifier that changes with each start. `base`
    precedes the paths of URLs; if it is None, scheme and host of the request precede the paths.
    `prefix` precedes the API's paths. `references` states that an event of a manifest lists the
    manifest's parts.
    """

    address: str
    instance: str
    base: str | None = None
    prefix: str = ""
    references: bool = False

    def url(self, scheme: str, host: str, path: str) -> str:
        """Return the absolute URL of *path*, as the client of a request could use it."""
        base = f"{scheme}://{host}" if self.base is None else self.base
        return f"{base}{self.prefix}{path}"

    def record(self) -> Mapping[str, str]:
        """Return the field `source` of an event."""
        return {"addr": self.address, "instanceID": self.instance}
