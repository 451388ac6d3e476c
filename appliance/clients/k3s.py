"""Configure k3s and RKE2 with registries.yaml, from which they generate containerd's hosts.toml."""

from __future__ import annotations

from typing import Any

from entrepot.appliance.clients.documents import yaml_text
from entrepot.appliance.clients.endpoint import Client, Endpoint, File

_CA = "entrepot-ca.crt"


def configure_k3s(endpoint: Endpoint) -> Client:
    """Return registries.yaml for k3s."""
    return _configure(endpoint, "k3s", "systemctl restart k3s (on agents: k3s-agent)")


def configure_rke2(endpoint: Endpoint) -> Client:
    """Return registries.yaml for RKE2."""
    return _configure(endpoint, "rke2", "systemctl restart rke2-server (on agents: rke2-agent)")


def _configure(endpoint: Endpoint, name: str, restart: str) -> Client:
    folder = f"/etc/rancher/{name}"
    text = yaml_text(_document(endpoint, f"{folder}/{_CA}"))
    head = (
        f"# {name} makes containerd's hosts.toml from this; each registry itself is tried last.\n"
    )
    file = File(f"{folder}/registries.yaml", head + text, secret=endpoint.login is not None)
    authority = [File(f"{folder}/{_CA}", endpoint.ca)] if endpoint.ca else []
    steps = [
        "Copy the files to the same paths on each node, including servers. If there is already a",
        "registries.yaml, merge the two files by hand.",
        f"{name} reads this file when it starts: {restart}",
        '"*" needs a release of March 2024 or later (v1.29.3+k3s1). dial_timeout cannot be set',
        "here: a host that does not respond delays each request by 30 s.",
    ]
    if endpoint.needs_login and not endpoint.login:
        entry = repr(endpoint.netloc)
        steps.append(
            f"The appliance requires a password: add auth to the entry {entry} of configs."
        )
    return Client(name, (file, *authority), tuple(steps))


def _document(endpoint: Endpoint, ca: str) -> dict[str, Any]:
    mirrors = {each: {"endpoint": [endpoint.url]} for each in (*endpoint.upstreams, "*")}
    document: dict[str, Any] = {"mirrors": mirrors}
    config: dict[str, Any] = {}
    if endpoint.login:
        config["auth"] = {"username": endpoint.login.username, "password": endpoint.login.password}
    if endpoint.ca:
        config["tls"] = {"ca_file": ca}
    if config:
        document["configs"] = {endpoint.netloc: config}
    return document
