"""Configure containerd and other readers of hosts.toml: nerdctl, Kubernetes, Talos, dockerd.

containerd sends the registry's host in the query, `?ns=HOST`, so one URL of the appliance can serve
every upstream. There is a hosts.toml for each upstream. Each contains the URL of the appliance and
the URL of the upstream; containerd pulls from the upstream if the appliance fails. The hosts.toml
in the folder `_default` is for all other registries.
"""

from __future__ import annotations

import json

from entrepot.appliance.clients.endpoint import Client, Endpoint, File, origin

ROOT = "/etc/containerd/certs.d"
CA = "entrepot-ca.crt"
# If the appliance is unreachable, containerd waits this long at each request before it uses the
# upstream. containerd's default is 30 s.
DIAL_TIMEOUT = "2s"

_STEPS = (
    "Copy the files to the same paths on each node.",
    "Set config_path in /etc/containerd/config.toml, and restart containerd once:",
    '  2.x, version = 3: [plugins."io.containerd.cri.v1.images".registry]',
    '  1.x, version = 2: [plugins."io.containerd.grpc.v1.cri".registry]',
    f'    config_path = "{ROOT}"',
    "Later changes of hosts.toml need no restart. ctr reads them with --hosts-dir only:",
    f"  ctr images pull --hosts-dir {ROOT} quay.io/podman/hello:latest",
    "containerd supports dial_timeout from 2.0 on; earlier versions ignore it, and wait 30 s for a",
    "host that does not respond.",
)
_LOGIN = (
    "The appliance requires a password. Run this command again with --authfile FILE, a file that",
    "`podman login --authfile FILE` wrote. Then each hosts.toml contains the password, and only",
    "root can read it.",
)


def configure(endpoint: Endpoint) -> Client:
    """Return a hosts.toml for each upstream, for all other registries, and for the appliance."""
    ca = f"../{CA}" if endpoint.ca else None
    files = hosts_files(endpoint, ROOT, ca)
    if endpoint.ca:
        files = (*files, File(f"{ROOT}/{CA}", endpoint.ca))
    steps = (*_STEPS, *_LOGIN) if endpoint.needs_login and not endpoint.login else _STEPS
    return Client("containerd: Kubernetes, nerdctl, ctr", files, steps)


def hosts_files(endpoint: Endpoint, root: str, ca: str | None) -> tuple[File, ...]:
    """Return the hosts.toml files for all registries, in subfolders of *root*.

    *ca* is the path of the CA file, relative to the folder of a hosts.toml.
    """
    texts = {each: _mirrored(endpoint, each, ca) for each in endpoint.upstreams}
    texts["_default"] = _mirrored(endpoint, None, ca)
    texts[endpoint.netloc] = _direct(endpoint, ca)
    is_secret = endpoint.login is not None
    return tuple(
        File(f"{root}/{name}/hosts.toml", text, secret=is_secret) for name, text in texts.items()
    )


def _mirrored(endpoint: Endpoint, upstream: str | None, ca: str | None) -> str:
    title = upstream or "All registries that have no folder here"
    lines = [f"# {title}: from Entrepot first, else from the registry itself."]
    if upstream:
        lines += [f"server = {_quoted(origin(upstream))}", ""]
    return _text([*lines, *_host(endpoint, ["pull", "resolve"], ca)])


def _direct(endpoint: Endpoint, ca: str | None) -> str:
    """Return the hosts.toml for images whose name begins with the appliance's host.

    No other registry has these images, so this hosts.toml names no fallback.
    """
    title = "# Images whose names begin with Entrepot's host"
    lines = [title, f"server = {_quoted(endpoint.url)}", ""]
    return _text([*lines, *_host(endpoint, ["pull", "resolve", "push"], ca)])


def _host(endpoint: Endpoint, capabilities: list[str], ca: str | None) -> list[str]:
    table = f"host.{_quoted(endpoint.url)}"
    lines = [
        f"[{table}]",
        f"  capabilities = {json.dumps(capabilities)}",
        f"  dial_timeout = {_quoted(DIAL_TIMEOUT)}",
    ]
    if ca:
        lines.append(f"  ca = {_quoted(ca)}")
    if endpoint.login:
        lines += [f"  [{table}.header]", f"    Authorization = {_quoted(endpoint.login.basic)}"]
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text)  # A JSON string of ASCII text is also a valid TOML string.


def _text(lines: list[str]) -> str:
    return "\n".join([*lines, ""])
