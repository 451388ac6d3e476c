"""Read the bodies of manifests, tag lists and lists of referrers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from entrepot.datastore import bounded_json
from entrepot.datastore.manifest import ACCEPT, OCI_INDEX, essence, parse
from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.upstream.protocol import RemoteManifest

# Servers that do not know the type of a manifest send these content types; the manifest's field
# `mediaType` then states the type.
_GENERIC = frozenset(
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


class UnsupportedType(ValueError):  # noqa: N818 - the name states the fact
    """The type of a manifest is not in ACCEPT, the list of supported types.

    The message of the exception contains no text from the upstream.
    """


def read_manifest(body: bytes, content_type: str, expected: Digest | None) -> RemoteManifest:
    """Return the manifest in *body*; *expected* is the manifest's digest, if known.

    If *content_type* is in ACCEPT, it is the manifest's type; otherwise the manifest's field
    `mediaType` states the type. Raises: UnsupportedType, InvalidManifest; ValueError if the digest
    differs.
    """
    digest = Digest.of(body, expected.algorithm if expected else "sha256")
    if expected is not None and digest != expected:
        raise ValueError(f"the manifest has the digest {digest}, not {expected}")
    if content_type not in ACCEPT:
        _reject_unsupported(body, content_type)
    found = parse(body, content_type if content_type in ACCEPT else None)
    return RemoteManifest(digest, found.media_type, body)


def _reject_unsupported(body: bytes, content_type: str) -> None:
    """Raise UnsupportedType for JSON of an unsupported type, ValueError for invalid JSON."""
    document = _document(body)
    own = document.get("mediaType")
    known = essence(own) if isinstance(own, str) and own else ""
    if not known and document.get("schemaVersion") == 1:
        known = next(iter(_OUTDATED))
    if known in ACCEPT or (not known and content_type in _GENERIC):
        return
    kind = _OUTDATED.get(known or content_type, "an unknown type")
    raise UnsupportedType(
        f"the upstream's manifest is of a type that is not supported here: {kind}"
    )


def may_be_manifest(content_type: str) -> bool:
    """Return whether a response with this Content-Type can be a manifest."""
    return content_type in _GENERIC or content_type in ACCEPT


def read_tags(body: bytes) -> list[str]:
    """Return the valid tags in one page of a tag list. Raises: ValueError."""
    listed = _document(body).get("tags")
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ValueError("tags is not a list")  # noqa: TRY004 - the upstream's error, not the caller's
    return [tag for tag in listed if isinstance(tag, str) and Tag.is_valid(tag)]


def is_page(listed: Sequence[str], last: str, limit: int | None) -> bool:
    """Return whether *listed* is the requested page: at most *limit* sorted tags after *last*.

    Some registries ignore `n` or `last`, or sort tags differently.
    """
    if limit is not None and len(listed) > limit:
        return False
    return all(before < after for before, after in pairwise((last, *listed)))


def read_referrers(body: bytes) -> list[dict[str, Any]]:
    """Read the descriptors of one page of referrers; if `manifests` is null, there are none.

    Raises: ValueError.
    """
    listed = _document(body).get("manifests") or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("not an index of referrers")
    return listed


def join_referrers(first: bytes, all_of_them: Sequence[dict[str, Any]]) -> RemoteManifest:
    """Return one index with the descriptors *all_of_them* and the other fields of page *first*."""
    body = json.dumps({**_document(first), "manifests": list(all_of_them)}).encode()
    return RemoteManifest(Digest.of(body), OCI_INDEX, body)


def _document(body: bytes) -> dict[str, Any]:
    document = bounded_json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the upstream's error
    return document
