"""Define the settings of `storage.redirect:`, which let clients fetch blobs from the bucket."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from entrepot.config import readers, units, value_types
from entrepot.config.errors import Unreadable
from entrepot.config.section import ReadBy, Section, setting

_SHORTEST_S: Final = 10.0
_LONGEST_S: Final = 20 * 60.0
_AUTHORITY = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)


def service_url(given: object) -> str:
    """Read the URL of a storage service and return it without a trailing slash.

    Raises: Unreadable.
    """
    text = readers.text(given).strip().rstrip("/")
    parts = urlsplit(text)
    is_plain = not (parts.path or parts.query or parts.fragment)
    if parts.scheme not in {"http", "https"} or not _AUTHORITY.fullmatch(parts.netloc):
        raise Unreadable("not the URL of a storage service", "try https://s3.example")
    if not is_plain:
        raise Unreadable("a URL with a path or a query", f"try {parts.scheme}://{parts.netloc}")
    return text


def lifetime(given: object) -> float:
    """Read a time span from 10 s to 20 min and return it in seconds. Raises: Unreadable."""
    found = units.span(given)
    if not _SHORTEST_S <= found <= _LONGEST_S:
        raise Unreadable("not from 10s to 20m", "try 10m")
    return found


_ServiceUrl = Annotated[str | None, ReadBy(readers.optional(service_url))]
_Lifetime = Annotated[float, ReadBy(lifetime), value_types.SECONDS]


class RedirectSettings(Section):
    """The settings of `storage.redirect:`; `expiry` is in seconds."""

    disable: value_types.Switch = setting(
        "false", "true: the appliance itself sends every blob, even a large one in a bucket"
    )
    endpoint: _ServiceUrl = setting(
        None,
        "the URL by which clients reach the storage service; the URLs of redirects begin with it",
        shown="the URL that the driver uses",
    )
    expiry: _Lifetime = setting(
        "10m",
        "how long the URL of a redirect is valid, 10s to 20m; a client with the URL can read the"
        " blob for this time, even after it loses the right to read it",
    )
