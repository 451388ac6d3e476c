"""podman, buildah, skopeo and CRI-O: a drop-in for registries.conf.

They rewrite an image's name for a mirror and say nothing else: the upstream's host becomes the
first part of the name. Mirrors that fail are passed over, and the registry itself comes last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from entrepot.appliance.clients.endpoint import Client, Endpoint, File, origin

_FILE = "/etc/containers/registries.conf.d/50-entrepot.conf"


def configure(front: Endpoint) -> Client:
    """Write the drop-in, and the authority where these programs look for it."""
    files = [File(_FILE, "\n".join(_lines(front)))]
    if front.ca:
        files.append(File(f"/etc/containers/certs.d/{front.netloc}/ca.crt", front.ca))
    title = "podman, buildah, skopeo, CRI-O"
    return Client(title, tuple(files), tuple(_steps(front)))


def _lines(front: Endpoint) -> Iterator[str]:
    yield "# Each registry from Entrepot first, then from itself."
    if not front.tls:
        yield from ("", "[[registry]]", f"location = {_quoted(front.netloc)}", "insecure = true")
    for each in front.upstreams:
        yield from ("", "[[registry]]", f"location = {_quoted(each)}")
        if not origin(each).startswith("https:"):
            yield "insecure = true"
        yield from ("", "[[registry.mirror]]", f"location = {_quoted(front.prefix(each))}")
        if not front.tls:
            yield "insecure = true"
    yield ""


def _steps(front: Endpoint) -> Iterator[str]:
    yield "Copy the files to the same places. podman, buildah and skopeo read them at each start;"
    yield "a user's own ~/.config/containers/registries.conf hides the system's: rootless without"
    yield "root, append the drop-in to it, and the authority goes to ~/.config/containers/certs.d."
    yield "CRI-O: systemctl reload crio"
    if front.asks:
        yield f"Once for each user: podman login {front.netloc}"
        yield "CRI-O: the same entry in the file that global_auth_file of crio.conf names."
    if front.globs:
        yield f"{', '.join(front.globs)}: a mirror can't keep what a * stood for; add each host."


def _quoted(text: str) -> str:
    return json.dumps(text)  # a basic string of TOML, for what is ASCII
