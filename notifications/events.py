"""Create events in the format of docker distribution, and their envelope.

The fields and their order are those of `notifications/event.go` in docker distribution 2.8. A field
without a value is omitted, as in docker distribution. Only `actor`, and the ID, the method and the
user agent in `request`, are present even if they are empty.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from entrepot.notifications.endpoint import Source
from entrepot.notifications.pull_texts import PullTexts

MEDIA_TYPE: Final = "application/vnd.docker.distribution.events.v1+json"
"""The media type of an envelope in docker distribution 2.x.

Version 3.x sends the same fields with a media type that contains `v2`.
"""

BLOB_TYPE: Final = "application/octet-stream"
"""Every blob has this media type, because a registry does not know the type of its content."""

MOST_REFERENCED: Final = 64 * 1024
"""The descriptors in one event have at most this many bytes.

Without this limit, each pull of a manifest of 4 MiB would queue an event of that size.
"""

_OF_REFERENCES: Final = ("mediaType", "size", "digest", "urls", "annotations", "platform")

PULL: Final = "pull"
PUSH: Final = "push"
MOUNT: Final = "mount"
DELETE: Final = "delete"


@dataclass(frozen=True, slots=True)
class NotifiedRequest:
    """A `NotifiedRequest` is the request that caused an event.

    `address` is the address of the client, as `host:port`.
    """

    id: str
    address: str
    host: str
    scheme: str
    method: str
    agent: str
    user: str

    def record(self) -> Mapping[str, str]:
        """Return the field `request` of an event."""
        found = {"id": self.id, "addr": self.address, "host": self.host}
        kept = {name: value for name, value in found.items() if value or name == "id"}
        return {**kept, "method": self.method, "useragent": self.agent}


@dataclass(frozen=True, slots=True)
class EventTarget:
    """An `EventTarget` is the content that an event is about; an unknown field is empty."""

    repository: str
    media_type: str = ""
    size: int = 0
    digest: str = ""
    tag: str = ""
    mounted_from: str = ""
    references: Sequence[Mapping[str, Any]] = ()

    def record(self, url: str) -> dict[str, Any]:
        """Return the field `target` of an event."""
        found: dict[str, Any] = {
            "mediaType": self.media_type,
            "size": self.size,
            "digest": self.digest,
            "length": self.size,
            "repository": self.repository,
            "fromRepository": self.mounted_from,
            "url": url,
            "tag": self.tag,
            "references": list(self.references),
        }
        return {name: value for name, value in found.items() if value}


class Notification(NamedTuple):  # PERF: creating a frozen dataclass takes twice as long.
    """A `Notification` is an event: the two fields that filters need, and the JSON of the event.

    If the event is about a pull, `template` is a template of its JSON, and `values` are the values
    that are filled into the template (`pull_texts`). Otherwise `template` is the whole JSON of the
    event.
    """

    action: str
    media_type: str
    template: str
    values: str = ""

    @property
    def text(self) -> str:
        """Return the JSON of the event."""
        return PullTexts(self.template).fill(self.values) if self.values else self.template


def write_event(
    action: str, target: EventTarget, request: NotifiedRequest, source: Source
) -> Notification:
    """Return a new event of a push, a mount or a deletion; its time is the current time."""
    is_delete = action == DELETE
    kind = "blobs" if target.media_type == BLOB_TYPE else "manifests"
    path = f"/v2/{target.repository}/{kind}/{target.digest}"
    url = "" if is_delete else source.url(request.scheme, request.host, path)
    document = {
        "id": str(uuid.uuid4()),
        "timestamp": timestamp(datetime.now(UTC)),
        "action": action,
        "target": target.record(url),
        "request": request.record(),
        "actor": {"name": request.user} if request.user else {},
        "source": source.record(),
    }
    return Notification(action, target.media_type, json.dumps(document, separators=(",", ":")))


def timestamp(at: datetime) -> str:
    """Return a UTC time as a text in the format of RFC 3339."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def envelope(events: Iterable[str]) -> bytes:
    """Return the body of a request that delivers *events*; each of them is a JSON object."""
    return f'{{"events":[{",".join(events)}]}}'.encode()


def references(manifest: bytes) -> list[Mapping[str, Any]]:
    """Return the descriptors of a valid manifest: its config and layers, or its children.

    Omit the last descriptors if all descriptors together have more than MOST_REFERENCED bytes.
    Return an empty list if the JSON of the manifest is nested too deeply.
    """
    try:
        document = json.loads(manifest)
    except RecursionError:  # The push could parse this JSON, because its call stack was less deep.
        return []
    listed = [document.get("config"), *(document.get("layers") or document.get("manifests") or ())]
    found: list[Mapping[str, Any]] = []
    left = MOST_REFERENCED
    for each in filter(None, listed):
        shown = {name: each[name] for name in _OF_REFERENCES if each.get(name)}
        left -= len(json.dumps(shown))
        if left < 0:
            break
        found.append(shown)
    return found
