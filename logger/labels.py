"""Map the values of log lines to label values of metrics.

The number of label values is bounded, because each value costs memory, and clients can choose
values. Repositories, digests, users and addresses are never labels. The number of upstreams with
their own label values is limited. Other values that are not in a fixed list become `other`,
`unknown` or `none`.
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
# This pattern matches a parameter of the header Cache-Status (RFC 9211, 2). The value is a token or
# a quoted string.
_PARAMETER = re.compile(r';\s*([a-z*][a-z0-9_.*-]*)(?:=("(?:[^"\\]|\\.)*"|[^;,\s]*))?', re.ASCII)
_REASONS = frozenset(
    [
        *("denied", "error", "gone", "limited", "offline"),
        *("refused", "resting", "timeout", "unavailable", "unreachable"),
    ]
)
_MOST_UPSTREAMS = 64


class UpstreamLabels:
    """An `UpstreamLabels` decides which upstreams have separate label values.

    The *known* upstreams have label values from the start. Any other upstream gets a label value
    when it first occurs, up to *limit* upstreams in total.
    """

    def __init__(self, known: Iterable[str] = (), *, limit: int = _MOST_UPSTREAMS) -> None:
        self._known = {_folded(each) for each in known} - {HOSTED, OTHER, ""}
        self._limit = limit

    def of_repository(self, name: str) -> str:
        """Return the label value for the upstream of the repository *name*.

        The result is HOSTED for a hosted repository, and "" if *name* is empty.
        """
        first = name.partition("/")[0]
        if not first:
            return ""
        is_host = first in self._known or _HOST.fullmatch(first)
        return self.of_host(first) if is_host else HOSTED

    def of_host(self, host: str) -> str:
        """Return the label value for an upstream, or OTHER if there are too many upstreams."""
        folded = _folded(host)
        if folded not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(folded)
        return folded


def _folded(host: str) -> str:
    return host.lower().replace(":", "_")


def handler(kind: str, uri: str) -> str:
    """Return the name of a request's handler, as in the metrics of docker distribution."""
    if kind:
        return _HANDLERS.get(kind, OTHER)
    return "base" if uri.partition("?")[0] in _BASE else OTHER


def method(text: str) -> str:
    """Return an HTTP method in the form of docker distribution's metrics."""
    return text.lower() if text in _METHODS else "unknown"


def code(status: int) -> str:
    """Return a status as a label value; `none` if the client disconnected before the response."""
    return str(status) if status in _STATUSES else "none"


def kind(text: str) -> str:
    """Return the kind of the requested content as a label value."""
    return text if text in _KINDS else OTHER


def result(cache: str) -> str:
    """Return one word for a Cache-Status header; `none` without the header."""
    if not cache:
        return "none"
    parameters = _parameters(cache)
    if "collapsed" in parameters:
        return "collapsed"
    if "hit" in parameters:
        return "stale" if parameters.get("ttl", "").startswith("-") else "hit"
    return _forwarded(parameters)


def _forwarded(parameters: dict[str, str]) -> str:
    match parameters.get("fwd"):
        case "stale" if parameters.get("fwd-status") == "304":
            return "revalidated"
        case "uri-miss" if parameters.get("detail") == "linked":
            return "linked"
        case "uri-miss" | "stale":
            return "miss" if "stored" in parameters or parameters["fwd"] == "stale" else "unstored"
        case "partial" | "bypass" | "request" as why:
            return str(why)
    return OTHER


def reason(cache: str) -> str:
    """Return why a response was stale, from its Cache-Status header."""
    return word(_parameters(cache).get("detail", ""), _REASONS)


def word(text: object, known: Iterable[str]) -> str:
    """Return *text* if it is one of *known*, otherwise OTHER."""
    return text if isinstance(text, str) and text in known else OTHER


def _parameters(cache: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _PARAMETER.findall(cache)}
