"""A table that shows, for each failure of a mirror, how each client reacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Outcome = Literal["mirror", "origin", "both", "fails"]

VERSIONS = {"podman": "4.3.1", "containerd": "1.6.20", "dockerd": "20.10.24"}
"""The client versions of Debian 12, with which the table was measured.

dockerd used its own image store, not containerd's image store.
"""

LAYER = "LAYER"
"""Stands for the digest of the image's layer in the rules of a row."""

_ALL, _MANIFESTS, _BLOBS = "", "/manifests/", "/blobs/"
_BASIC = {"WWW-Authenticate": 'Basic realm="mirror"'}
_TOKEN = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token",service="mirror"'}


@dataclass(frozen=True, slots=True)
class Did:
    """The source from which a client got the image, and the client's use of the mirror.

    `asked` is the largest number of requests for manifests and blobs that the client sends to the
    mirror. `waits` describes a delay that a user would notice. Cases with `is_slow` run only in
    `make soak`.
    """

    outcome: Outcome
    asked: int
    waits: str = ""
    is_slow: bool = False

    def __str__(self) -> str:
        return f"{self.outcome}, {self.asked}{f' ({self.waits})' if self.waits else ''}"


@dataclass(frozen=True, slots=True)
class Row:
    """One failure of the mirror: `rules` maps paths to faults of the fake upstream.

    If `rules` is None, the mirror does not run at all.
    """

    failure: str
    rules: tuple[tuple[str, Mapping[str, Any]], ...] | None
    did: Mapping[str, Did]

    def markdown(self) -> str:
        """Return the row in Markdown, as in the table of docs/clients.md."""
        return f"| {self.failure} | {' | '.join(str(self.did[name]) for name in VERSIONS)} |"


def _row(failure: str, *did: Did, rules: dict[str, dict[str, Any]] | None) -> Row:
    found = MappingProxyType(dict(zip(VERSIONS, did, strict=True)))
    return Row(failure, None if rules is None else tuple(rules.items()), found)


def _origin(asked: int, waits: str = "", *, is_slow: bool = False) -> Did:
    return Did("origin", asked, waits, is_slow)


def _mirror(asked: int, waits: str = "", *, is_slow: bool = False) -> Did:
    return Did("mirror", asked, waits, is_slow)


def _both(asked: int, waits: str = "", *, is_slow: bool = False) -> Did:
    return Did("both", asked, waits, is_slow)


def _fails(asked: int) -> Did:
    return Did("fails", asked)


def _status(status: int) -> dict[str, dict[str, Any]]:
    return {_ALL: {"status": status}}


TABLE = [
    _row("nothing", _mirror(3), _mirror(4), _mirror(4), rules={}),
    _row("port closed", _origin(0), _origin(0), _origin(0), rules=None),
    _row("connection closed", _origin(0), _origin(4), _origin(0), rules={_ALL: {"drop": True}}),
    _row(
        "401, asks for a password",
        *(_origin(1), _origin(4), _origin(0)),
        rules={_ALL: {"status": 401, "headers": _BASIC}},
    ),
    _row(
        "401, its token service is away",
        *(_origin(0), _origin(4), _origin(0)),
        rules={_ALL: {"status": 401, "headers": _TOKEN}},
    ),
    _row("401 without a challenge", _origin(1), _origin(4), _origin(2), rules=_status(401)),
    _row("403", _origin(0), _origin(4), _origin(2), rules=_status(403)),
    _row(
        "404, manifest",
        *(_origin(1), _both(4), _origin(2)),
        rules={_MANIFESTS: {"status": 404}},
    ),
    _row("404, layer", _fails(3), _both(4), _origin(6), rules={LAYER: {"status": 404}}),
    _row(
        "405 to HEAD",
        *(_mirror(3), _mirror(5), _mirror(5)),
        rules={_MANIFESTS: {"status": 405, "method": "HEAD"}},
    ),
    _row("408", _origin(0), _origin(24), _origin(2), rules=_status(408)),
    _row(
        "429, manifest",
        *(_origin(5, "2+4+8+16 s", is_slow=True), _both(14), _origin(2)),
        rules={_MANIFESTS: {"status": 429}},
    ),
    _row(
        "429, Retry-After: 1",
        *(_origin(5, "4 times 1 s"), _both(14), _origin(2)),
        rules={_MANIFESTS: {"status": 429, "headers": {"Retry-After": "1"}}},
    ),
    _row("500", _origin(0), _origin(4), _origin(2), rules=_status(500)),
    _row("502", _origin(0), _origin(4), _origin(2), rules=_status(502)),
    _row("503", _origin(0), _origin(4), _origin(2), rules=_status(503)),
    _row("504", _origin(0), _origin(4), _origin(2), rules=_status(504)),
    _row(
        "503, manifest",
        *(_origin(1), _both(4), _origin(2)),
        rules={_MANIFESTS: {"status": 503}},
    ),
    _row(
        "503, layer",
        *(_fails(3), _both(4), _origin(16, "75 s", is_slow=True)),
        rules={LAYER: {"status": 503}},
    ),
    _row(
        "redirect to a closed port, manifest",
        *(_origin(1), _both(4), _origin(2)),
        rules={_MANIFESTS: {"redirect": "http://127.0.0.1:1/"}},
    ),
    _row(
        "no Docker-Content-Digest",
        *(_mirror(3), _mirror(5), _mirror(5)),
        rules={_MANIFESTS: {"headers": {"Docker-Content-Digest": None}}},
    ),
    _row(
        "Docker-Content-Digest is no digest",
        *(_mirror(3), _fails(1), _origin(2)),
        rules={_MANIFESTS: {"headers": {"Docker-Content-Digest": "nonsense"}}},
    ),
    _row(
        "no Content-Length, manifest",
        *(_mirror(3), _mirror(5), _origin(2)),
        rules={_MANIFESTS: {"chunked": True}},
    ),
    _row(
        "manifest has another digest",
        *(_fails(1), _fails(2), _origin(2)),
        rules={_MANIFESTS: {"corrupt": True}},
    ),
    _row(
        "manifest of no known type",
        *(_fails(1), _fails(2), _origin(2)),
        rules={_MANIFESTS: {"media_type": "text/html"}},
    ),
    _row(
        "layer has another digest",
        *(_fails(3), _fails(4), _origin(6)),
        rules={LAYER: {"corrupt": True}},
    ),
    _row(
        "layer cut once",
        *(_fails(3), _mirror(5), _mirror(5, "5 s", is_slow=True)),
        rules={LAYER: {"times": 1, "cut": 5000}},
    ),
    _row(
        "layer cut at its start, always",
        *(_fails(3), _fails(8), _origin(16, "75 s", is_slow=True)),
        rules={LAYER: {"cut": 0}},
    ),
]
