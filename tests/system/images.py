"""Images that a real client can unpack: small ones by default, large ones in `make soak`."""

from __future__ import annotations

from tests.images import Family, Image, filler, image, layer
from tests.sizes import FULL as FULL
from tests.sizes import scaled as scaled

KB = 1024
MB = 1024 * KB


def of_size(size: int, seed: int, *, shared: bytes | None = None, family: Family = "oci") -> Image:
    """Return an image with a layer of slightly over *size* bytes on top of the layer *shared*."""
    own = layer({f"own-{seed}": filler(size, seed)})
    return image([own] if shared is None else [shared, own], family)


def two_platforms(seed: int, family: Family = "oci") -> list[Image]:
    """Return two images that share a layer, for an index with the platforms amd64 and arm64."""
    shared = layer({"shared": filler(8 * KB, seed)})
    return [
        image(
            [shared, layer({"program": filler(8 * KB, seed + number)})],
            family,
            architecture=architecture,
        )
        for number, architecture in enumerate(("amd64", "arm64"), start=1)
    ]
