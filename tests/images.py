"""Builds OCI and Docker images as the bytes that a registry stores."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from entrepot.datastore.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest

Family = Literal["oci", "docker"]

_CONFIG = {
    "oci": "application/vnd.oci.image.config.v1+json",
    "docker": "application/vnd.docker.container.image.v1+json",
}
_LAYER = {
    "oci": "application/vnd.oci.image.layer.v1.tar+gzip",
    "docker": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform: its manifest, and the blobs that the manifest lists."""

    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[bytes, ...]
    architecture: str

    @property
    def digest(self) -> Digest:
        """Return the manifest's digest."""
        return Digest.of(self.manifest)

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """Return the image's config and then its layers."""
        return (self.config, *self.layers)


def filler(size: int, seed: int = 0) -> bytes:
    """Return *size* bytes that cannot be compressed; the same *seed* gives the same bytes."""
    return random.Random(seed).randbytes(size)


def layer(files: Mapping[str, bytes]) -> bytes:
    """Return a layer with *files* that a client can unpack; equal files give equal bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), compresslevel=1, mtime=0)


def image(
    layers: Sequence[bytes],
    family: Family = "oci",
    *,
    architecture: str = "amd64",
    command: Sequence[str] = ("/bin/true",),
) -> Image:
    """Build an image from *layers*; a client can unpack it if the layers come from `layer`."""
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": list(command)},
            "rootfs": {"type": "layers", "diff_ids": [_diff_id(each) for each in layers]},
            "history": [{"created_by": "test"} for _ in layers],
        }
    )
    media_type = OCI_MANIFEST if family == "oci" else DOCKER_MANIFEST
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config, _CONFIG[family]),
            "layers": [descriptor(each, _LAYER[family]) for each in layers],
        }
    )
    return Image(manifest, media_type, config, tuple(layers), architecture)


def index(images: Sequence[Image], family: Family = "oci") -> tuple[bytes, str]:
    """Build an index of *images*, one for each platform; return its bytes and media type."""
    media_type = OCI_INDEX if family == "oci" else DOCKER_LIST
    children = [
        descriptor(each.manifest, each.media_type)
        | {"platform": {"architecture": each.architecture, "os": "linux"}}
        for each in images
    ]
    return _json({"schemaVersion": 2, "mediaType": media_type, "manifests": children}), media_type


def artifact(subject: Image, content: bytes, artifact_type: str) -> Image:
    """Build an artifact, such as a signature, whose manifest refers to *subject*."""
    empty = b"{}"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": descriptor(empty, "application/vnd.oci.empty.v1+json"),
            "layers": [descriptor(content, "application/octet-stream")],
            "subject": descriptor(subject.manifest, subject.media_type),
        }
    )
    return Image(manifest, OCI_MANIFEST, empty, (content,), subject.architecture)


def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    """Return the OCI descriptor of *content*."""
    return {
        "mediaType": media_type,
        "digest": str(Digest.of(content)),
        "size": len(content),
    }


def _diff_id(packed: bytes) -> str:
    """Return the digest of a layer's tar file, as the image's config lists it."""
    plain = gzip.decompress(packed) if packed.startswith(b"\x1f\x8b") else packed
    return f"sha256:{hashlib.sha256(plain).hexdigest()}"


def _json(document: object) -> bytes:
    return json.dumps(document, indent=3).encode()
