"""The interface that all clients have in the tests: configure, pull, forget."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from tests.system.clients import Clients


class PullFailed(Exception):  # noqa: N818 - the name states the fact
    """The pull of a client failed; `str()` has the message of the client."""


class Puller(Protocol):
    """A client of registries with its own image store."""

    @property
    def reads(self) -> str:
        """Return the client's name in the output of `entrepot clients`."""
        ...

    def version(self) -> str:
        """Return the version of the client."""
        ...

    def configure(self, tree: Path) -> None:
        """Use the client's configuration files below *tree*, which stands for `/`."""
        ...

    def pull(self, image: str) -> set[str]:
        """Pull an image, and return digests of the stored content, at least the config's digest.

        Raises: PullFailed if the client reports an error.
        """
        ...

    def forget(self) -> None:
        """Remove every image and layer, so that the next pull requests all of them."""
        ...


class Podman:
    """A client that pulls with `podman pull`."""

    reads = "podman"

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def version(self) -> str:
        """Return the version of podman."""
        return self._clients.podman("--version").stdout.split()[-1]

    def configure(self, tree: Path) -> None:
        """Use *tree*/etc/containers as the configuration of the user."""
        self._clients.configure(tree)

    def pull(self, image: str) -> set[str]:
        """Pull *image* with podman; return its image ID, which is the digest of the config."""
        return {f"sha256:{_good(self._clients.podman('pull', '--quiet', image))}"}

    def forget(self) -> None:
        """Remove every image of the client."""
        self._clients.forget()


class Buildah(Podman):
    """A client that pulls with `buildah pull` into podman's image store."""

    def pull(self, image: str) -> set[str]:
        """Pull *image* with buildah; return its image ID, which is the digest of the config."""
        return {f"sha256:{self._clients.buildah('pull', '--quiet', image).stdout.strip()}"}


class Skopeo(Podman):
    """A client that pulls with `skopeo copy` into a folder."""

    def __init__(self, clients: Clients, folder: Path) -> None:
        super().__init__(clients)
        self._folder = folder

    def pull(self, image: str) -> set[str]:
        """Copy *image* into a folder with skopeo; return the digests of its config and layers."""
        target = self._folder / "copy"
        _good(self._clients.skopeo("copy", f"docker://{image}", f"dir:{target}"))
        manifest = json.loads((target / "manifest.json").read_bytes())
        return {manifest["config"]["digest"], *(each["digest"] for each in manifest["layers"])}

    def forget(self) -> None:
        """Remove the folder with the copied image."""
        shutil.rmtree(self._folder / "copy", ignore_errors=True)


def _good(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode != 0:
        raise PullFailed(done.stderr)
    return done.stdout.strip()
