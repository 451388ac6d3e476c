"""Ways of real registries for a fake upstream: one knob each, and all are off at first."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tests.shelves import error
from tests.wire import Reply, Seen

_OFFERED = {"blobs": "application/octet-stream", "tags": "application/json"}
_KIND = re.compile(r"/v2/.+/(manifests|blobs|tags|referrers)/([^/]+)$")


@dataclass(slots=True)
class Quirks:
    """What differs from the specification, for every request.

    strict_accept   406 where Accept leaves out what it has
    tag_digest      Docker-Content-Digest of a manifest that is asked for by tag
    """

    strict_accept: bool = False
    tag_digest: str | None = None

    def refusal(self, seen: Seen) -> Reply | None:
        """Return what is answered instead of the content, if anything."""
        kind, _ = _asked(seen)
        accept = seen.headers.get("accept", "*/*")
        offered = _OFFERED.get(kind)
        if self.strict_accept and offered and "*/*" not in accept and offered not in accept:
            return error(406, "NOT_ACCEPTABLE")
        return None

    def changed(self, seen: Seen, reply: Reply) -> Reply:
        """Return an answer as this registry sends it."""
        kind, reference = _asked(seen)
        if self.tag_digest and kind == "manifests" and ":" not in reference:
            reply = _with(reply, "Docker-Content-Digest", self.tag_digest)
        return reply


def _asked(seen: Seen) -> tuple[str, str]:
    """Return the kind of what is asked for, and which one; empty for anything else."""
    match = _KIND.fullmatch(seen.path)
    return (match[1], match[2]) if match else ("", "")


def _with(reply: Reply, name: str, text: str) -> Reply:
    return replace(reply, headers={**reply.headers, name: text}) if reply.status < 300 else reply
