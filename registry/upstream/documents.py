"""What the bodies of tag lists, manifests and referrers mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from entrepot.datastore import bounded_json
from entrepot.datastore.errors import InvalidTag
from entrepot.datastore.manifest import ACCEPT, OCI_INDEX, essence, parse
from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.upstream.protocol import RemoteManifest

# What a server sends that does not know what it serves; then the manifest tells by itself
_VAGUE = frozenset(
    {
        "",
        "application/json",
        "application/octet-stream",
        "binary/octet-stream",
        "text/json",
        "text/plain",
    }
)
_OUTDATED = {
    "application/vnd.docker.distribution.manifest.v1+json": "Docker schema 1",
    "application/vnd.docker.distribution.manifest.v1+prettyjws": "Docker schema 1",
    "application/vnd.oci.artifact.manifest.v1+json": "an OCI artifact manifest of a draft of 1.1",
    "application/vnd.cncf.oras.artifact.manifest.v1+json": "an ORAS artifact manifest",
}


class UnsupportedType(ValueError):  # noqa: N818 - the class says the fact
    """A manifest of a type that is not in ACCEPT; the message names it only where it is known."""


def read_manifest(body: bytes, said: str, expected: Digest | None) -> RemoteManifest:
    """Make a manifest of a body that came as type *said*; *expected* is its digest, if known.

    A type *said* that is in ACCEPT, or the manifest's own, is taken; others are hints at best.
    Raises: UnsupportedType, InvalidManifest, ValueError when the digest is another.
    """
    digest = Digest.of(body, expected.algorithm if expected else "sha256")
    if expected is not None and digest != expected:
        raise ValueError(f"a manifest of digest {digest} instead of {expected}")
    if said not in ACCEPT:
        _refuse_unsupported(body, said)
    found = parse(body, said if said in ACCEPT else None)
    return RemoteManifest(digest, found.media_type, body)


def _refuse_unsupported(body: bytes, said: str) -> None:
    """Raises: UnsupportedType for JSON of a type that is not supported, ValueError for no JSON."""
    document = _document(body)
    own = document.get("mediaType")
    known = essence(own) if isinstance(own, str) and own else ""
    if not known and document.get("schemaVersion") == 1:
        known = next(iter(_OUTDATED))
    if known in ACCEPT or (not known and said in _VAGUE):
        return
    kind = _OUTDATED.get(known or said, "an unknown type")
    raise UnsupportedType(f"its manifest is of a type that is not supported here: {kind}")


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


def is_page(listed: Sequence[str], last: str, limit: int | None) -> bool:
    """Tell whether tags are what was asked for: at most *limit*, in order, each behind *last*."""
    if limit is not None and len(listed) > limit:
        return False
    return all(before < after for before, after in pairwise((last, *listed)))


def read_referrers(body: bytes) -> list[dict[str, Any]]:
    """Read the descriptors on one page of referrers; null is none. Raises: ValueError."""
    listed = _document(body).get("manifests") or []
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
