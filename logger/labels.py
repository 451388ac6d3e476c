"""What a line says, in the few words that a label may have: whatever clients send, it is bounded.

A repository, a digest, a user or an address is never a label; what is not known is `other`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

OTHER = "other"
HOSTED = "hosted"

_HANDLERS = {
    "blob": "blob",
    "manifest": "manifest",
    "index": "manifest",
    "tags": "tags",
    "referrers": "referrers",
    "catalog": "catalog",
    "upload": "blob_upload",
}
_METHODS = frozenset(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"])
_KINDS = frozenset(_HANDLERS)
_STATUSES = range(100, 600)
_BASE = ("/v2", "/v2/")
_HOST = re.compile(r"localhost|.*[.:].*|.*[^_]_[0-9]{2,5}", re.ASCII)
# RFC 9211, 2: a member's parameters; a value is a token or a string
_PARAMETER = re.compile(r';\s*([a-z*][a-z0-9_.*-]*)(?:=("(?:[^"\\]|\\.)*"|[^;,\s]*))?', re.ASCII)
_REASONS = frozenset(
    [
        *("denied", "error", "gone", "limited", "offline"),
        *("refused", "resting", "timeout", "unavailable", "unreachable"),
    ]
)
_MOST_UPSTREAMS = 64


class Upstreams:
    """The upstreams that are told apart: the first so many of them, beginning with *known*."""

    def __init__(self, known: Iterable[str] = (), *, limit: int = _MOST_UPSTREAMS) -> None:
        self._known = {_folded(each) for each in known} - {HOSTED, OTHER, ""}
        self._limit = limit

    def of_repository(self, name: str) -> str:
        """Return the upstream that a repository's whole name begins with; empty for no name."""
        first = name.partition("/")[0]
        if not first:
            return ""
        is_host = first in self._known or _HOST.fullmatch(first)
        return self.of_host(first) if is_host else HOSTED

    def of_host(self, host: str) -> str:
        """Return a host as repositories name it, or OTHER when there are too many."""
        folded = _folded(host)
        if folded not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(folded)
        return folded


def _folded(host: str) -> str:
    return host.lower().replace(":", "_")


def handler(kind: str, uri: str) -> str:
    """Return distribution's name of what answered."""
    if kind:
        return _HANDLERS.get(kind, OTHER)
    return "base" if uri.partition("?")[0] in _BASE else OTHER


def method(text: str) -> str:
    """Return a method as distribution's metrics write it."""
    return text.lower() if text in _METHODS else "unknown"


def code(status: int) -> str:
    """Return a status; `none` where the client left before there was one."""
    return str(status) if status in _STATUSES else "none"


def kind(text: str) -> str:
    """Return what was asked for."""
    return text if text in _KINDS else OTHER


def result(cache: str) -> str:
    """Return in one word what Cache-Status says; `none` for an answer without it."""
    if not cache:
        return "none"
    said = _parameters(cache)
    if "collapsed" in said:
        return "collapsed"
    if "hit" in said:
        return "stale" if said.get("ttl", "").startswith("-") else "hit"
    return _forwarded(said)


def _forwarded(said: dict[str, str]) -> str:
    match said.get("fwd"):
        case "stale" if said.get("fwd-status") == "304":
            return "revalidated"
        case "uri-miss" if said.get("detail") == "linked":
            return "linked"
        case "uri-miss" | "stale":
            return "miss" if "stored" in said or said["fwd"] == "stale" else "unstored"
        case "partial" | "bypass" | "request" as why:
            return str(why)
    return OTHER


def reason(cache: str) -> str:
    """Return why a stale answer was given."""
    return word(_parameters(cache).get("detail", ""), _REASONS)


def word(text: object, known: Iterable[str]) -> str:
    """Return *text* if it is one of the *known* ones."""
    return text if isinstance(text, str) and text in known else OTHER


def _parameters(cache: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _PARAMETER.findall(cache)}
