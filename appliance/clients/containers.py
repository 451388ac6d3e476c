"""Configure podman, buildah, skopeo and CRI-O with a drop-in file for registries.conf.

If a mirror is configured, these clients rewrite the image's name, so that the upstream's host
becomes the first component of the name. Their requests name the upstream in no other way. These
clients skip mirrors that fail, and try the upstream itself last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from entrepot.appliance.clients.endpoint import Client, Endpoint, File, origin

_FILE = "/etc/containers/registries.conf.d/50-entrepot.conf"


def configure(endpoint: Endpoint) -> Client:
    """Return the drop-in file, and the CA file at the path where these clients expect it."""
    files = [File(_FILE, "\n".join(_lines(endpoint)))]
    if endpoint.ca:
        files.append(File(f"/etc/containers/certs.d/{endpoint.netloc}/ca.crt", endpoint.ca))
    title = "podman, buildah, skopeo, CRI-O"
    return Client(title, tuple(files), tuple(_steps(endpoint)))


def _lines(endpoint: Endpoint) -> Iterator[str]:
    yield "# Each registry: from Entrepot first, then from the registry itself."
    if not endpoint.tls:
        yield from ("", "[[registry]]", f"location = {_quoted(endpoint.netloc)}", "insecure = true")
    for each in endpoint.upstreams:
        yield from ("", "[[registry]]", f"location = {_quoted(each)}")
        if not origin(each).startswith("https:"):
            yield "insecure = true"
        yield from ("", "[[registry.mirror]]", f"location = {_quoted(endpoint.prefix(each))}")
        if not endpoint.tls:
            yield "insecure = true"
    yield ""


def _steps(endpoint: Endpoint) -> Iterator[str]:
    yield "Copy the files to the same paths. podman, buildah and skopeo read them at each start."
    yield "If a user has ~/.config/containers/registries.conf, the system's files have no effect"
    yield "for this user: append the drop-in to that file, and copy the CA to"
    yield "~/.config/containers/certs.d."
    yield "CRI-O: systemctl reload crio"
    if endpoint.needs_login:
        yield f"Once for each user: podman login {endpoint.netloc}"
        yield "CRI-O: add the same entry to the file of global_auth_file in crio.conf."
    if endpoint.globs:
        globs = ", ".join(endpoint.globs)
        yield f"{globs}: a mirror cannot be configured for a pattern; add each host."


def _quoted(text: str) -> str:
    return json.dumps(text)  # A JSON string of ASCII text is also a valid TOML string.
