"""Generate the configuration files of each kind of client, such as podman or containerd.

Each kind of client has a module with a function that returns the files for an `Endpoint`. `NAMES`
lists these functions. The module `command` prints the files, or writes them to a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from entrepot.appliance.clients import containerd, containers, dockerd, k3s, openshift
from entrepot.appliance.clients.endpoint import Client, Endpoint

NAMES: Mapping[str, Callable[[Endpoint], Client]] = MappingProxyType(
    {
        "containerd": containerd.configure,
        "k3s": k3s.configure_k3s,
        "rke2": k3s.configure_rke2,
        "docker": dockerd.configure,
        "podman": containers.configure,
        "openshift": openshift.configure,
    }
)
