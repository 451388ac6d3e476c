"""Conditional requests (RFC 9110, section 13): an ETag here is the quoted digest.

Content under a digest never changes, so two equal tags are equal bytes.
"""

from __future__ import annotations

import re

import falcon

from entrepot.datastore.refs import Digest

# A bare digest is no entity tag, but some clients send one and docker distribution takes it.
_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s",]+)')


def etag(digest: Digest) -> str:
    """Write the entity tag of a blob or manifest."""
    return f'"{digest}"'


def none_match(header: str | None, digest: Digest) -> bool:
    """Tell whether If-None-Match lets the whole be sent; False means 304.

    The comparison is the weak one (RFC 9110, 13.1.2), and `*` names whatever there is.
    """
    if header is None:
        return True
    if header.strip() == "*":
        return False
    return str(digest) not in {quoted or bare for quoted, bare in _TAG.findall(header)}


def may_range(if_range: str | None, digest: Digest) -> bool:
    """Tell whether If-Range lets a part be sent; False means the whole.

    The comparison is the strong one (RFC 9110, 13.1.5); a date never matches, for none is sent.
    """
    return if_range is None or if_range.strip() in {etag(digest), str(digest)}


def not_modified(resp: falcon.Response) -> None:
    """Answer 304: the client has it, and nothing describes a body (RFC 9110, 15.4.5)."""
    resp.status = falcon.HTTP_304
    resp.delete_header("Content-Type")
