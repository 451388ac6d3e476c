"""What the bodies of tag lists, manifests and referrers mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from datastore import bounded_json
from datastore.errors import InvalidTag
from datastore.manifest import ACCEPT, OCI_INDEX, parse
from datastore.refs import Digest, Tag
from registry.upstream.protocol import RemoteManifest

# What a server says that does not know what it serves; then the manifest tells by itself
_VAGUE = frozenset({"", "application/json", "application/octet-stream", "text/plain"})


def read_manifest(body: bytes, said: str, expected: Digest | None) -> RemoteManifest:
    """Make a manifest of a body that came as type *said*; *expected* is its digest, if known.

    Raises: InvalidManifest, ValueError when the digest is another.
    """
    found = parse(body, None if said in _VAGUE else said)
    digest = Digest.of(body, expected.algorithm if expected else "sha256")
    if expected is not None and digest != expected:
        raise ValueError(f"a manifest of digest {digest} instead of {expected}")
    return RemoteManifest(digest, found.media_type, body)


def may_be_manifest(said: str) -> bool:
    """Tell whether a Content-Type can be a manifest's."""
    return said in _VAGUE or said in ACCEPT


def read_tags(body: bytes) -> list[str]:
    """Read one page of a tag list; what is no tag is left out. Raises: ValueError."""
    listed = _document(body).get("tags")
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ValueError("no list of tags")  # noqa: TRY004 - it is what came, not what we passed
    return [tag for tag in listed if isinstance(tag, str) and _is_tag(tag)]


def read_referrers(body: bytes) -> list[dict[str, Any]]:
    """Read the descriptors on one page of referrers. Raises: ValueError."""
    listed = _document(body).get("manifests", [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("no index of referrers")
    return listed


def join_referrers(first: bytes, all_of_them: Sequence[dict[str, Any]]) -> RemoteManifest:
    """Make one index of all pages; *first* tells everything but the list."""
    body = json.dumps({**_document(first), "manifests": list(all_of_them)}).encode()
    return RemoteManifest(Digest.of(body), OCI_INDEX, body)


def _document(body: bytes) -> dict[str, Any]:
    document = bounded_json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - it is what came
    return document


def _is_tag(text: str) -> bool:
    try:
        Tag.parse(text)
    except InvalidTag:
        return False
    return True
