"""The request target of a URL, sent as it was written: RFC 9110, 10.2.2, and RFC 9112, 3.2.

A URL that an answer supplied may be signed over its bytes. Parsers change them: `%3a` becomes
`%3A`, `|`, `{` and `"` are encoded, an empty query is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urljoin

_ABSOLUTE = re.compile(r"https?://[^/?#\\\s]+(?=[/?#]|$)", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# What could end the request line, or begin another header
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_target: ContextVar[str | None] = ContextVar("target", default=None)


def split_target(url: str) -> tuple[str, str]:
    """Return the origin of a URL and its target, in the bytes (as Latin-1) in which it was written.

    A blank, which cannot be sent, is `%20`; the fragment is left out. Raises: ValueError.
    """
    match = _ABSOLUTE.match(url)
    if match is None or _CONTROL.search(url):
        raise ValueError("not an HTTP URL")
    target = url[match.end() :].partition("#")[0].replace(" ", "%20")
    return match[0], target if target.startswith("/") else f"/{target}"


def resolve(base: str, location: str) -> str:
    """Return where a Location leads from *base*; only a relative path is rewritten.

    Raises: ValueError for control characters, which some parsers leave out silently.
    """
    if _CONTROL.search(location):
        raise ValueError("a control character in a URL")
    location = location.strip(" ")
    if _SCHEME.match(location):
        if location.lower().startswith("http") and not _ABSOLUTE.match(location):
            raise ValueError("not an HTTP URL")
        return location
    origin = split_target(base)[0]
    if location.startswith("//"):
        return f"{origin.partition(':')[0]}:{location}"
    return f"{origin}{location}" if location.startswith("/") else urljoin(base, location)


@contextmanager
def sending(target: str) -> Iterator[None]:
    """Let this thread's connection send *target*, instead of what urllib3 makes of a URL."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def as_written(url: str) -> str:
    """Return the target of the request that is sent now; *url* is urllib3's, with an empty path.

    A proxy is sent the absolute form.
    """
    target = _target.get()
    return url if target is None else f"{url.removesuffix('/')}{target}"
