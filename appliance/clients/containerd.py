"""containerd, and whoever reads its hosts.toml: nerdctl, Kubernetes, Talos, dockerd's newer store.

containerd tells us by `?ns=` which registry it means, so every upstream has the same endpoint. One
file an upstream names its origin, which comes next when we fail; `_default` is for all others.
"""

from __future__ import annotations

import json

from entrepot.appliance.clients.endpoint import Client, Endpoint, File, origin

ROOT = "/etc/containerd/certs.d"
CA = "entrepot-ca.crt"
# A mirror that is dead costs this much a request, and not the 30 s of containerd's own.
DIAL_TIMEOUT = "2s"

_STEPS = (
    "Copy the files to the same places on each node.",
    "Let containerd read them, by config_path in /etc/containerd/config.toml, and restart it once:",
    '  2.x, version = 3: [plugins."io.containerd.cri.v1.images".registry]',
    '  1.x, version = 2: [plugins."io.containerd.grpc.v1.cri".registry]',
    f'    config_path = "{ROOT}"',
    "Later changes of hosts.toml need no restart. ctr reads them with --hosts-dir only:",
    f"  ctr images pull --hosts-dir {ROOT} quay.io/podman/hello:latest",
    "dial_timeout works from containerd 2.0 on; earlier ones pass it over and wait 30 s for a host",
    "that is gone without a word.",
)
_LOGIN = (
    "The appliance asks for a password. Say this again with --authfile FILE, a file that",
    "`podman login --authfile FILE` wrote, and each hosts.toml has it, readable by root alone.",
)


def configure(front: Endpoint) -> Client:
    """Write a hosts.toml for each upstream, for all other registries, and for our own name."""
    ca = f"../{CA}" if front.ca else None
    files = hosts_files(front, ROOT, ca)
    if front.ca:
        files = (*files, File(f"{ROOT}/{CA}", front.ca))
    steps = (*_STEPS, *_LOGIN) if front.asks and not front.login else _STEPS
    return Client("containerd: Kubernetes, nerdctl, ctr", files, steps)


def hosts_files(front: Endpoint, root: str, ca: str | None) -> tuple[File, ...]:
    """Write all hosts.toml below *root*; *ca* is the authority's path as seen from one of them."""
    texts = {each: _mirrored(front, each, ca) for each in front.upstreams}
    texts["_default"] = _mirrored(front, None, ca)
    texts[front.netloc] = _direct(front, ca)
    is_secret = front.login is not None
    return tuple(
        File(f"{root}/{name}/hosts.toml", text, secret=is_secret) for name, text in texts.items()
    )


def _mirrored(front: Endpoint, upstream: str | None, ca: str | None) -> str:
    lines = [f"# {upstream or 'Whatever has no folder of its own'}: from Entrepot, else directly."]
    if upstream:
        lines += [f"server = {_quoted(origin(upstream))}", ""]
    return _text([*lines, *_host(front, ["pull", "resolve"], ca)])


def _direct(front: Endpoint, ca: str | None) -> str:
    """For names that begin with ours: there is nobody else to go to."""
    lines = ["# Entrepot under its own name.", f"server = {_quoted(front.url)}", ""]
    return _text([*lines, *_host(front, ["pull", "resolve", "push"], ca)])


def _host(front: Endpoint, capabilities: list[str], ca: str | None) -> list[str]:
    table = f"host.{_quoted(front.url)}"
    lines = [
        f"[{table}]",
        f"  capabilities = {json.dumps(capabilities)}",
        f"  dial_timeout = {_quoted(DIAL_TIMEOUT)}",
    ]
    if ca:
        lines.append(f"  ca = {_quoted(ca)}")
    if front.login:
        lines += [f"  [{table}.header]", f"    Authorization = {_quoted(front.login.basic)}"]
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text)  # a basic string of TOML, for what is ASCII


def _text(lines: list[str]) -> str:
    return "\n".join([*lines, ""])
