"""Parse manifests and image indexes into media type, kind and descriptors.

This module never changes the bytes of a manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrepot.datastore import bounded_json
from entrepot.datastore.errors import InvalidDigest, InvalidManifest
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

_KINDS = {
    OCI_MANIFEST: ContentKind.MANIFEST,
    OCI_INDEX: ContentKind.INDEX,
    DOCKER_MANIFEST: ContentKind.MANIFEST,
    DOCKER_LIST: ContentKind.INDEX,
}
ACCEPT = tuple(_KINDS)
"""All supported media types, in the order in which the header `Accept` of a request lists them."""

# OCI distribution-spec 1.1, "Pushing manifests": a registry should accept at least 4 MiB.
LARGEST = 4 * 1024 * 1024
"""A manifest with more bytes than this is refused."""

MOST_DESCRIPTORS = 10_000
"""An image can have at most this many layers, and an index this many children.

The number is limited because a pull calls stat for each of them.
"""

_LARGEST_SIZE = 2**63 - 1
"""The field `size` of a descriptor is an int64 (OCI image-spec 1.1, descriptor.md)."""

_FOREIGN = (
    "application/vnd.docker.image.rootfs.foreign.diff",
    "application/vnd.oci.image.layer.nondistributable",
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A `Descriptor` is a reference to content in a manifest (OCI image-spec 1.1, descriptor.md).

    `size` is the length of the content in bytes.
    """

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_elsewhere(self) -> bool:
        """Return whether a registry does not need to store the content.

        A registry does not need to store a non-distributable layer, or content with `urls`.
        """
        return bool(self.urls) or self.media_type.lower().startswith(_FOREIGN)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A `Manifest` is a parsed manifest or index; `descriptors` has its parts in order.

    If `states_type` is True, the bytes state the media type. Otherwise the type was received in a
    header, or follows from the keys of the JSON document. Two repositories can then have the same
    bytes with different types.
    """

    media_type: str
    kind: ContentKind
    descriptors: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    states_type: bool = False
    # PERF: every hit on a cached manifest calls parts().
    _parts: tuple[Digest, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (each.digest for each in self.descriptors if not each.is_elsewhere)
        object.__setattr__(self, "_parts", tuple(dict.fromkeys(parts)))

    def parts(self) -> tuple[Digest, ...]:
        """Return the digest of each part that the registry must store, without repetitions."""
        return self._parts


def parse(data: bytes, media_type: str | None = None) -> Manifest:
    """Parse a manifest; the media type in its bytes has precedence over *media_type*.

    *media_type* is the type that was received with the bytes. Raises: InvalidManifest if the bytes
    are not JSON, do not have a media type from ACCEPT, or are an image and an index at the same
    time.
    """
    document = _document(data)
    stated = _essence_of(document.get("mediaType"))
    is_stated = stated in _KINDS
    chosen = stated if is_stated else essence(media_type or "") or _own_type(document)
    if chosen not in _KINDS:
        raise InvalidManifest(chosen, "not the media type of a manifest")
    # Some clients would read such a document as an image, and others as an index (CVE-2021-41190).
    if "manifests" in document and ("config" in document or "layers" in document):
        raise InvalidManifest(chosen, "both an image and an index")
    return _read(document, chosen, states_type=is_stated)


def essence(media_type: str) -> str:
    """Return a media type in lower case and without its parameters (RFC 9110, 8.3.1)."""
    return media_type.partition(";")[0].strip().lower()


def _essence_of(stated: object) -> str:
    return essence(stated) if isinstance(stated, str) else ""


def media_type_of(data: bytes) -> str:
    """Return the media type that follows from the bytes of a manifest. Raises: InvalidManifest."""
    return parse(data).media_type


# Many clients parse manifests with Go's encoding/json, which ignores the case of keys (and treats
# U+017F as s and U+212A as k). Such a client would read a key `Layers` as `layers`, and this module
# would not. Therefore a manifest with such a key is refused.
_KEYS = frozenset({"schemaVersion", "mediaType", "config", "layers", "manifests", "subject"})
_FOLDED = frozenset(key.casefold() for key in _KEYS)
_PARTS = frozenset(
    {"mediaType", "digest", "size", "urls", "data", "annotations", "artifactType", "platform"}
)
_FOLDED_PARTS = frozenset(key.casefold() for key in _PARTS)


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST:
        raise InvalidManifest("", f"the manifest is longer than {LARGEST} bytes")
    try:
        document = bounded_json.loads(data, unique=True)
    except ValueError as error:
        raise InvalidManifest(data[:64].decode("latin-1"), "not valid JSON") from error
    if not isinstance(document, dict):
        raise InvalidManifest(data[:64].decode("latin-1"), "not a JSON object")
    if _has_other_case(document, _KEYS, _FOLDED):
        raise InvalidManifest("", "a key has another case than in the specification")
    return document


def _has_other_case(found: dict[str, Any], keys: frozenset[str], folded: frozenset[str]) -> bool:
    # PERF: this function is called for each descriptor of each manifest, and usually returns here.
    if keys.issuperset(found):
        return False
    return any(key not in keys and key.casefold() in folded for key in found)


def _own_type(document: dict[str, Any]) -> str:
    """Return the media type of a manifest that was received without the header Content-Type.

    The field `mediaType` is optional in OCI. If it is absent, the other keys show the type.
    """
    stated = document.get("mediaType")
    if isinstance(stated, str) and stated:
        return essence(stated)
    if "manifests" in document:
        return OCI_INDEX
    return OCI_MANIFEST if "config" in document else ""


def _read(document: dict[str, Any], media_type: str, *, states_type: bool) -> Manifest:
    kind = _KINDS[media_type]
    try:
        config = _descriptor(document["config"]) if kind is ContentKind.MANIFEST else None
        below = [_descriptor(item) for item in _below(document, kind)]
        subject = _descriptor(document["subject"]) if document.get("subject") else None
        annotations = dict(document.get("annotations") or {})
        artifact_type = _text(document.get("artifactType"))
    except (KeyError, TypeError, ValueError, AttributeError, InvalidDigest) as error:
        raise InvalidManifest(str(error), "a descriptor is missing or malformed") from error
    return Manifest(
        media_type=media_type,
        kind=kind,
        descriptors=((config, *below) if config else tuple(below)),
        subject=subject,
        artifact_type=artifact_type or (config.media_type if config else None),
        annotations=annotations,
        states_type=states_type,
    )


def _below(document: dict[str, Any], kind: ContentKind) -> list[Any]:
    """Return the descriptors of children or layers as they are in the JSON document.

    An index must have the key `manifests`. An artifact can lack the key `layers`.
    """
    listed = list(
        document["manifests"] if kind is ContentKind.INDEX else document.get("layers") or ()
    )
    if len(listed) > MOST_DESCRIPTORS:
        raise ValueError(f"the manifest has more than {MOST_DESCRIPTORS} descriptors")
    return listed


def _texts(given: object) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise TypeError("not a list of strings")
    return tuple(_text(each) for each in given)


def _text(given: object) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise TypeError("not a string")
    return given


def _descriptor(item: dict[str, Any]) -> Descriptor:
    if _has_other_case(item, _PARTS, _FOLDED_PARTS):
        raise ValueError("a key has another case than in the specification")
    size = item["size"]
    if type(size) is not int or not 0 <= size <= _LARGEST_SIZE:
        raise ValueError("a size that is not a valid integer")
    return Descriptor(
        media_type=str(item["mediaType"]),
        digest=Digest.parse(item["digest"]),
        size=size,
        urls=_texts(item.get("urls") or []),
        annotations=dict(item.get("annotations") or {}),
    )
