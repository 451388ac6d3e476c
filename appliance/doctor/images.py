"""Choose the image that `entrepot doctor` pulls.

This is the image that the operator names, or else the smallest stored image of an upstream, or else
a well-known image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from entrepot.config.address import registry_host
from entrepot.config.errors import Unreadable
from entrepot.datastore import layout, manifest
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import Manifest
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Storage
from entrepot.runtime import docker_hub
from entrepot.runtime.hostnames import unfold

_ENOUGH = 500  # The search for the smallest image examines at most this many tags.
_KNOWN = {
    "quay.io": "quay.io/podman/hello:latest",
    "registry.k8s.io": "registry.k8s.io/pause:3.10",
    docker_hub.HOST: "docker.io/library/hello-world:latest",
    "mcr.microsoft.com": "mcr.microsoft.com/hello-world:latest",
    "public.ecr.aws": "public.ecr.aws/docker/library/hello-world:latest",
}


@dataclass(frozen=True, slots=True)
class ImageName:
    """An `ImageName` is the name of an image: upstream, repository, and tag or digest.

    `host` is the upstream; it is empty for a pushed image.
    """

    host: str
    repository: str
    reference: str

    def __str__(self) -> str:
        mark = "@" if ":" in self.reference else ":"
        name = f"{self.host}/{self.repository}" if self.host else self.repository
        return f"{name}{mark}{self.reference}"


def parse(text: str) -> ImageName:
    """Parse an image's name as docker does: a name without a host means Docker Hub.

    Raises: Unreadable if *text* is not the name of an image.
    """
    name, _, digest = text.partition("@")
    head, slash, rest = name.partition("/")
    has_host = bool(slash) and ("." in head or ":" in head or head == "localhost")
    host = registry_host(head) if has_host else docker_hub.HOST
    path, _, tag = (rest if has_host else name).partition(":")
    path = docker_hub.full_path(host, path)
    try:
        Repository.parse(path)
        reference = str(Digest.parse(digest) if digest else Tag.parse(tag or "latest"))
    except DatastoreError as error:
        raise Unreadable(str(error), "try quay.io/podman/hello:latest") from error
    return ImageName(host, path, reference)


def well_known(upstreams: Collection[str]) -> ImageName | None:
    """Return a small public image that one of *upstreams* has, or None."""
    return next((parse(text) for host, text in _KNOWN.items() if host in upstreams), None)


def smallest(storage: Storage) -> ImageName | None:
    """Return the smallest of the tagged images that came from an upstream and are complete."""
    stored = _StoredImages(storage, Repositories(storage))
    sizes = ((stored.size(name, tag), name, tag) for name, tag in islice(stored.tags(), _ENOUGH))
    found = [(size, str(name), tag) for size, name, tag in sizes if size]
    if not found:
        return None
    _, name, tag = min(found)
    first, _, rest = name.partition("/")
    return ImageName(unfold(first), rest, tag)


@dataclass(frozen=True, slots=True)
class _StoredImages:
    """A `_StoredImages` has the images of one data directory."""

    storage: Storage
    repositories: Repositories

    def tags(self) -> Iterator[tuple[Repository, str]]:
        """Yield every tag of the repositories that came from an upstream."""
        for name in self.repositories.below(""):
            if self.repositories.origin(name):
                for tag in self.repositories.tags(name):
                    yield name, tag

    def size(self, name: Repository, tag: str) -> int:
        """Return the size of a tag's image in bytes, or 0 if the image is not complete.

        If the tag points to an index, return the size of the first complete image in the index.
        """
        state = self.repositories.tag(name, Tag(tag))
        return self._size_of(state.digest) if state else 0

    def _size_of(self, digest: Digest) -> int:
        read = self._read(digest)
        if read is None:
            return 0
        if read.kind is ContentKind.INDEX:
            return next((size for each in read.parts() if (size := self._size_of(each))), 0)
        sizes = [self._stored(part) for part in read.parts()]
        return sum(sizes) if all(sizes) else 0

    def _read(self, digest: Digest) -> Manifest | None:
        try:
            return manifest.parse(self.storage.read(layout.blob(digest)))
        except DatastoreError:
            return None

    def _stored(self, digest: Digest) -> int:
        stat = self.storage.stat(layout.blob(digest))
        return stat.size if stat else 0
