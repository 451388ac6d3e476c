"""k3s and RKE2: one registries.yaml, of which they make containerd's hosts.toml themselves."""

from __future__ import annotations

from typing import Any

from entrepot.appliance.clients.documents import yaml_text
from entrepot.appliance.clients.endpoint import Client, Endpoint, File

_CA = "entrepot-ca.crt"


def configure_k3s(front: Endpoint) -> Client:
    """Write registries.yaml for k3s."""
    return _configure(front, "k3s", "systemctl restart k3s (on agents: k3s-agent)")


def configure_rke2(front: Endpoint) -> Client:
    """Write registries.yaml for RKE2."""
    return _configure(front, "rke2", "systemctl restart rke2-server (on agents: rke2-agent)")


def _configure(front: Endpoint, name: str, restart: str) -> Client:
    folder = f"/etc/rancher/{name}"
    text = yaml_text(_document(front, f"{folder}/{_CA}"))
    head = f"# {name} makes containerd's hosts.toml of this; the registry itself comes last.\n"
    file = File(f"{folder}/registries.yaml", head + text, secret=front.login is not None)
    authority = [File(f"{folder}/{_CA}", front.ca)] if front.ca else []
    steps = [
        "Copy the files to the same places on each node, servers too; a registries.yaml that is",
        "there already wants to be merged by hand.",
        f"It is read at the start: {restart}",
        '"*" needs a release of March 2024 or later (v1.29.3+k3s1). There is no dial_timeout to be',
        "set here: a host that is gone without a word costs 30 s a request.",
    ]
    if front.asks and not front.login:
        steps.append(f"The appliance asks for a password: add auth to configs, {front.netloc!r}.")
    return Client(name, (file, *authority), tuple(steps))


def _document(front: Endpoint, ca: str) -> dict[str, Any]:
    mirrors = {each: {"endpoint": [front.url]} for each in (*front.upstreams, "*")}
    document: dict[str, Any] = {"mirrors": mirrors}
    config: dict[str, Any] = {}
    if front.login:
        config["auth"] = {"username": front.login.username, "password": front.login.password}
    if front.ca:
        config["tls"] = {"ca_file": ca}
    if config:
        document["configs"] = {front.netloc: config}
    return document
