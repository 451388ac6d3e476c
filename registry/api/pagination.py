"""Send lists in pages: at most `n` entries after the entry `last`, with a Link to the next page."""

from __future__ import annotations

from urllib.parse import urlencode

import falcon

from entrepot.registry.errors import InvalidPageSize

_DIGITS = 9


def page_size(req: falcon.Request) -> int | None:
    """Return the parameter `n` of a request for a list, or None if the request does not have it.

    Raises: InvalidPageSize if `n` is not a decimal number of at most 9 digits.
    """
    text = req.get_param("n")
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise InvalidPageSize(f"n is not a count: {text[:32]!r}")
    return int(text)


def next_page(req: falcon.Request, last: str, *kept: str) -> str:
    """Return the Link header (RFC 8288) that points to the entries after *last*.

    The link repeats the request's parameters `n`, `ns` and *kept*, sorted by name as in docker
    distribution.
    """
    parameters = {name: req.get_param(name) for name in ("n", "ns", *kept)}
    query = {name: text for name, text in parameters.items() if text} | {"last": last}
    return f'<{req.path}?{urlencode(sorted(query.items()))}>; rel="next"'
