"""Configure dockerd: a mirror of Docker Hub for its older store, hosts.toml for its newer store.

dockerd has two image stores. The older store supports mirrors of Docker Hub only. Its requests do
not name the registry, so the appliance uses the default upstream. The newer store belongs to
containerd. From Docker Engine 29 on, new installations use it.
"""

from __future__ import annotations

import json
from typing import Any

from entrepot.appliance.clients import containerd
from entrepot.appliance.clients.endpoint import Client, Endpoint, File
from entrepot.runtime.docker_hub import HOST as DOCKER_HUB

ROOT = "/etc/docker/certs.d"
_DAEMON = "/etc/docker/daemon.json"


def configure(endpoint: Endpoint) -> Client:
    """Return daemon.json, the CA, and a hosts.toml for each upstream."""
    folder = f"{ROOT}/{endpoint.netloc}"
    ca = f"../{endpoint.netloc}/ca.crt" if endpoint.ca else None
    files = [File(_DAEMON, json.dumps(_daemon(endpoint), indent=2) + "\n")]
    if endpoint.ca:
        files.append(File(f"{folder}/ca.crt", endpoint.ca))
    files += containerd.hosts_files(endpoint, ROOT, ca)
    return Client("dockerd", tuple(files), tuple(_steps(endpoint)))


def _daemon(endpoint: Endpoint) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if endpoint.default == DOCKER_HUB:
        document["registry-mirrors"] = [endpoint.url]
    if not endpoint.tls:
        document["insecure-registries"] = [endpoint.netloc]
    return document


def _steps(endpoint: Endpoint) -> list[str]:
    steps = [
        f"Merge {_DAEMON} into the existing file, then: systemctl reload docker",
        "`docker info` shows the store: Storage Driver overlay2 is the older one, and overlayfs",
        "with driver-type io.containerd.snapshotter.v1 the newer one.",
        f"Older store: only {_DAEMON} applies, and only to Docker Hub. For images of other",
        "registries, write the appliance's name before theirs:",
        f"  docker pull {endpoint.netloc}/quay.io/podman/hello",
        f"Newer store: the files hosts.toml below {ROOT} apply to every registry, without",
        "a reload.",
    ]
    if endpoint.default != DOCKER_HUB:
        steps += [
            "No registry-mirrors here: the older store needs an appliance with docker.io as its",
            "default upstream (ENTREPOT_DEFAULT_UPSTREAM=docker.io).",
        ]
    if endpoint.needs_login:
        steps += [
            "The older store sends a mirror no password except the one for Docker Hub, so the",
            "appliance must permit pulls without a password: REGISTRY_AUTH_ANONYMOUS=pull.",
            f"For images under the appliance's name: docker login {endpoint.netloc}",
        ]
    return steps
