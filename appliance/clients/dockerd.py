"""dockerd: a mirror of Docker Hub for its older store, containerd's hosts.toml for its newer one.

The older store knows mirrors of Docker Hub only and sends no word of which registry it means: such
requests lead to the appliance's default upstream. The newer one, containerd's, is what a new
installation has from Engine 29 on.
"""

from __future__ import annotations

import json
from typing import Any

from entrepot.appliance.clients import containerd
from entrepot.appliance.clients.endpoint import Client, Endpoint, File
from entrepot.config.address import DOCKER_HUB

ROOT = "/etc/docker/certs.d"
_DAEMON = "/etc/docker/daemon.json"


def configure(front: Endpoint) -> Client:
    """Write daemon.json, the authority, and a hosts.toml for each upstream."""
    folder = f"{ROOT}/{front.netloc}"
    ca = f"../{front.netloc}/ca.crt" if front.ca else None
    files = [File(_DAEMON, json.dumps(_daemon(front), indent=2) + "\n")]
    if front.ca:
        files.append(File(f"{folder}/ca.crt", front.ca))
    files += containerd.hosts_files(front, ROOT, ca)
    return Client("dockerd", tuple(files), tuple(_steps(front)))


def _daemon(front: Endpoint) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if front.default == DOCKER_HUB:
        document["registry-mirrors"] = [front.url]
    if not front.tls:
        document["insecure-registries"] = [front.netloc]
    return document


def _steps(front: Endpoint) -> list[str]:
    steps = [
        f"Merge {_DAEMON} into the one that is there, then: systemctl reload docker",
        "`docker info` tells the store: Storage Driver overlay2 is the older, and overlayfs with",
        "driver-type io.containerd.snapshotter.v1 the newer one.",
        f"Older store: {_DAEMON} alone counts, for Docker Hub only. Other registries'",
        f"images have our name before theirs: docker pull {front.netloc}/quay.io/podman/hello",
        f"Newer store: the hosts.toml below {ROOT} count, for every registry and at once.",
    ]
    if front.default != DOCKER_HUB:
        steps += [
            "No registry-mirrors here: the appliance was started without docker.io as its default",
            "upstream (ENTREPOT_DEFAULT_UPSTREAM=docker.io), which is what the older store needs.",
        ]
    if front.asks:
        steps += [
            "The older store has no password for a mirror but the one for Docker Hub:",
            "it needs REGISTRY_AUTH_ANONYMOUS=pull.",
            f"By our name: docker login {front.netloc}",
        ]
    return steps
