"""The files that an operator mounts: data, pull secret, certificate, passwords."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.ports import free_port
from tests.system.certificates import Authority
from tests.system.registries import htpasswd

README = Path(__file__).resolve().parents[2] / "README.md"
LOGIN = "alice:sesame"
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=512m",
    "--pids-limit=1024",
)


class Mounts:
    """The files that the README mounts: root owns them, and only root can read the secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.certs, self.auth = (folder / each for each in ("data", "certs", "auth"))
        for each in (self.data, self.certs, self.auth):
            each.mkdir(mode=0o755)
        self.authority = Authority()
        (folder / "trusted").mkdir()
        self.ca = self.authority.write(folder / "trusted" / "ca.crt")
        self.secret = folder / "pull-secret.json"
        self.secret.write_text('{"auths": {"quay.io": {}}}')
        pair = self.authority.issue()
        self.certificate = self.certs / "certs.pem"
        self.certificate.write_bytes(pair.pem() + pair.key_pem())
        self.users = htpasswd(self.auth / "htpasswd", LOGIN)
        for secret in (self.secret, self.certificate, self.users):
            secret.chmod(0o600)

    def open_to_all(self) -> None:
        """Permit any user to write the data directory and to read the other files."""
        self.data.chmod(0o777)
        for each in (self.secret, self.certificate, self.users):
            each.chmod(0o644)

    def on_the_host(self, upstreams: Mapping[str, Mapping[str, str]]) -> tuple[list[str], str]:
        """Return podman's options for a container in the host's network, and its host:port.

        Clients connect to the container at this host:port.
        """
        port = free_port()
        environment = {
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}",
            "REGISTRY_UPSTREAMS": json.dumps(upstreams),
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "Registry Realm",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/auth/htpasswd",
        }
        mounts = {self.data: "/var/lib/registry", self.certs: "/certs", self.auth: "/auth"}
        options = [
            "--network=host",
            *(f"--volume={here}:{there}" for here, there in mounts.items()),
            *(f"--env={name}={value}" for name, value in environment.items()),
        ]
        return options, f"localhost:{port}"


def as_printed() -> tuple[list[str], int]:
    """Return the options of the README's command with TLS and passwords, and the port for clients.

    The host port is replaced by a free port. The container's name and the image are left out.
    """
    text = README.read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    (line,) = (each for each in lines if each.startswith("podman run") and "/certs" in each)
    podman, run, detach, name, _, publish, ports, *options, image = shlex.split(line)
    assert (podman, run, detach, name, publish) == ("podman", "run", "-d", "--name", "-p")
    assert (ports, image) == ("8443:8443", "localhost/entrepot")
    port = free_port()
    return ["-p", f"127.0.0.1:{port}:8443", *options], port
