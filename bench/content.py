"""Make the images that the benchmark pulls. Their random bytes are the same in each run."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# The value of the header Accept with which containerd 1.6 requests a manifest
ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
)

MB = 10**6
SMALL = 4_000
MIDDLE = 300_000
MEDIUM = 4 * MB
LARGE = 100 * MB
_TINY = (120, 340, 560, 1_100)
# The sizes of the layers in bytes. If a client pulls three layers at a time, at 20 MB/s each, the
# whole pull takes about four seconds.
LINE_LAYERS = tuple(size * MB for size in (40, 20, 52, 60, 5, 16, 1, 2))


@dataclass(frozen=True, slots=True)
class Image:
    """An image with the name `repository`:latest; `blobs` are its config, then its layers."""

    repository: str
    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """Return the manifest's digest."""
        return digest_of(self.manifest)

    def blob(self, size: int) -> str:
        """Return the digest of the image's blob that has *size* bytes."""
        return next(digest_of(each) for each in self.blobs if len(each) == size)


def warm_image() -> Image:
    """Return the image for the warm rows; its blobs have sizes from 120 bytes to 100 MB."""
    return image("library/app", (LARGE, MEDIUM, MIDDLE, SMALL, *_TINY))


def line_image() -> Image:
    """Return the image that clients pull over the simulated line."""
    return image("library/large", LINE_LAYERS)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 digest of *content* in OCI's notation."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(repository: str, sizes: Sequence[int]) -> Image:
    """Return an image whose layers have the given sizes in bytes."""
    chance = random.Random(repository)
    layers = [chance.randbytes(size) for size in sizes]
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in layers]},
        }
    )
    return Image(repository, manifest_of(config, layers), (config, *layers))


def manifest_of(config: bytes, layers: Sequence[bytes]) -> bytes:
    """Return the manifest of an image with this config and these layers."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE,
        "config": _descriptor(_CONFIG, config),
        "layers": [_descriptor(_LAYER, each) for each in layers],
    }
    return _json(manifest)


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
