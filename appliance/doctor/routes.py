"""The ways in which clients name an image to us: the same image, written differently."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from entrepot.appliance.doctor.images import ImageName
from entrepot.config.address import DOCKER_HUB
from entrepot.runtime.hostnames import fold

_OLDER = "dockerd's older store"


@dataclass(frozen=True, slots=True)
class Route:
    """One way: the repository's name in the path, and the namespace beside it.

    `is_optional`: it is no fault when it leads nowhere.
    """

    name: str
    users: str
    repository: str
    ns: str = ""
    is_optional: bool = False

    def manifest(self, reference: str) -> str:
        """Return the path of a manifest."""
        return self._path("manifests", reference)

    def blob(self, digest: str) -> str:
        """Return the path of a blob."""
        return self._path("blobs", digest)

    def _path(self, kind: str, reference: str) -> str:
        query = f"?ns={quote(self.ns)}" if self.ns else ""
        return f"/v2/{self.repository}/{kind}/{reference}{query}"


def routes(image: ImageName, default: str | None) -> list[Route]:
    """List the ways to *image*; *default* is the upstream of names without one, if it is known."""
    prefixed = f"{fold(image.host)}/{image.repository}"
    plain = image.repository
    found = [
        Route("prefix", "podman, CRI-O, OpenShift, our own name", prefixed),
        Route("ns", "containerd, k3s, dockerd's newer store", plain, image.host),
    ]
    if default == image.host:
        found.append(Route("default", _OLDER, plain))
    elif default is None and image.host == DOCKER_HUB:
        found.append(Route("default", _OLDER, plain, is_optional=True))
    return found
