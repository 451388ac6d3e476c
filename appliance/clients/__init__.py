"""Generate the configuration of each client: pure functions from an `Endpoint` to file contents.

Each module is for one kind of client; `NAMES` lists the modules, and `appliance.clients.command`
prints or writes the files.
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
