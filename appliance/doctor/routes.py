"""List the forms in which clients write the name of the same image in a request."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from entrepot.appliance.doctor.images import ImageName
from entrepot.runtime.docker_hub import HOST as DOCKER_HUB
from entrepot.runtime.hostnames import fold

_OLDER = "dockerd's older store"


@dataclass(frozen=True, slots=True)
class Route:
    """A `Route` is one form in which clients write an image's name in a request.

    `users` names these clients. `repository` is the name in the path, and `ns` the registry's host
    in the query (empty if there is no query). If `is_optional` is true, the appliance may refuse
    requests in this form, because they need a default upstream, which is optional.
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
    """Return the forms in which clients request *image*.

    *default* is the upstream of names without a host, or None if it is not known.
    """
    prefixed = f"{fold(image.host)}/{image.repository}"
    plain = image.repository
    found = [
        Route("prefix", "podman, CRI-O, OpenShift, the appliance's own name", prefixed),
        Route("ns", "containerd, k3s, dockerd's newer store", plain, image.host),
    ]
    if default == image.host:
        found.append(Route("default", _OLDER, plain))
    elif default is None and image.host == DOCKER_HUB:
        found.append(Route("default", _OLDER, plain, is_optional=True))
    return found
