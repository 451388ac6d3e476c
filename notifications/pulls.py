"""Create the events of pulls from lines of the access log.

If clients with the same user and user agent pull the same content, their events differ only in the
ID, the time, and the address and port of the client. So a template with the rest of the JSON is
created once and then reused.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from entrepot.datastore import request_line
from entrepot.datastore.accesslog import AccessLine
from entrepot.datastore.errors import InvalidDigest, InvalidLine
from entrepot.datastore.refs import Digest
from entrepot.datastore.request_line import RequestLine
from entrepot.notifications import pull_texts
from entrepot.notifications.endpoint import Source
from entrepot.notifications.events import (
    BLOB_TYPE,
    PULL,
    EventTarget,
    Notification,
    NotifiedRequest,
)

log = logging.getLogger(__name__)

_READ: Final = ("GET", "HEAD")
_MANIFESTS: Final = ("manifest", "index")
# If the client already has the content (304), docker distribution sends an event for a blob, but
# none for a manifest.
_SERVED: Final[Mapping[str, tuple[int, ...]]] = {
    "manifest": (200,),
    "index": (200,),
    "blob": (200, 206, 304, 307),
}
_TAG = re.compile(r"/manifests/([A-Za-z0-9_][A-Za-z0-9._-]{0,127})(?:\?|$)")
_MOST_KEPT: Final = 4096
_MOST_KEPT_BYTES: Final = 8 * 1024 * 1024


class Contents(Protocol):
    """A `Contents` returns facts about stored content that are not in the access log."""

    def size(self, digest: Digest) -> int | None:
        """Return the size of stored content in bytes; None if the content is not stored."""
        ...

    def references(self, digest: Digest) -> Sequence[Mapping[str, Any]] | None:
        """Return the descriptors of a stored manifest; None if the manifest is not stored."""
        ...


class _Template(NamedTuple):
    """A `_Template` has the template of an event's JSON, and the media type that filters check."""

    media_type: str
    text: str


class PullEvents:
    """A `PullEvents` creates events of pulls; only one thread can use it."""

    def __init__(self, source: Source, contents: Contents) -> None:
        self._source = source
        self._contents = contents
        self._kept: dict[bytes, _Template | None] = {}
        self._kept_bytes = 0

    def of(self, lines: Iterable[bytes]) -> list[Notification]:
        """Return an event for each line about a pull, in the order of the lines.

        The time of an event is the end of the response, and its ID is computed from the ID of the
        request. So if the logger reads a line twice, the two events are equal.
        """
        events = []
        kept = self._kept
        for values, rest in request_line.split(lines):
            template = kept.get(rest) or self._template(rest)
            if template is not None:
                events.append(Notification(PULL, *template, values))
        return events

    def _template(self, rest: bytes) -> _Template | None:
        if rest in self._kept:
            return self._kept[rest]
        try:
            access, request = request_line.parse_rest(rest)
            template, is_final = self._make(access, request)
        except InvalidLine:  # The logger counts and logs such a line.
            template, is_final = None, False
        if is_final:
            self._keep(rest, template)
        return template

    def _keep(self, rest: bytes, template: _Template | None) -> None:
        if len(self._kept) >= _MOST_KEPT or self._kept_bytes > _MOST_KEPT_BYTES:
            self._kept.clear()
            self._kept_bytes = 0
        self._kept[rest] = template
        self._kept_bytes += len(rest) + (len(template.text) if template else 0)

    def _make(self, access: AccessLine, request: RequestLine) -> tuple[_Template | None, bool]:
        """Return the template, and whether it stays valid if stored content changes.

        The template is None if the line is not about a pull.
        """
        is_served = access.status in _SERVED.get(access.kind, ()) and access.method in _READ
        if not is_served or not access.digest or not access.repository:
            return None, True
        target, is_final = self._target(access, request)
        kind = "manifests" if access.kind in _MANIFESTS else "blobs"
        path = f"/v2/{access.repository}/{kind}/{access.digest}"
        scheme = request.scheme or "http"
        url = self._source.url(scheme, request.host, path)
        asked = NotifiedRequest(
            "", "", request.host, scheme, access.method, request.agent, access.user
        )
        rest = {name: value for name, value in asked.record().items() if name != "id"}
        actor = {"name": access.user} if access.user else {}
        text = pull_texts.template(
            target=f'"action":"{PULL}","target":{_json(target.record(url))},"request":{{',
            rest=f'{_json(rest)[1:]},"actor":{_json(actor)},"source":{_json(self._source.record())}}}',
        )
        return _Template(target.media_type, text), is_final

    def _target(self, access: AccessLine, request: RequestLine) -> tuple[EventTarget, bool]:
        is_manifest = access.kind in _MANIFESTS
        size = int(request.size) if request.size.isdecimal() else None
        size = self._known(self._contents.size, access.digest) if size is None else size
        listed = None
        if is_manifest and self._source.references:
            listed = self._known(self._contents.references, access.digest)
        tag = _TAG.search(access.uri) if is_manifest else None
        is_final = size is not None and (listed is not None or not self._source.references)
        return EventTarget(
            access.repository,
            request.type if is_manifest else BLOB_TYPE,
            size or 0,
            access.digest,
            tag=tag[1] if tag else "",
            references=listed or (),
        ), is_final or (not is_manifest and size is not None)

    def _known(self, look_up: Callable[[Digest], Any], digest: str) -> Any:  # noqa: ANN401 - varies
        try:
            return look_up(Digest.parse(digest))
        except InvalidDigest:
            return None


def host_in_address(host: str) -> str:
    """Return an IP address in the form that it has before a port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
