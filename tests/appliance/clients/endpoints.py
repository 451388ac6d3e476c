"""Endpoints of example appliances, for tests of the generated client configurations."""

from __future__ import annotations

from entrepot.appliance.clients.endpoint import Client, Endpoint
from entrepot.appliance.logins import Login

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PLAIN = Endpoint("cache.test", 5000, tls=False, upstreams=("docker.io", "quay.io"))
TLS = Endpoint(
    "cache.test", 8443, tls=True, ca=CA, upstreams=("docker.io", "reg.test:8443"), globs=("*.x",)
)
LOGIN = Login("robot", "pass:word")


def texts(client: Client) -> dict[str, str]:
    """Return the text of each generated file of a client, by its path."""
    return {file.path: file.text for file in client.files}


def secrets(client: Client) -> set[str]:
    """Return the paths of the generated files that only their owner may read."""
    return {file.path for file in client.files if file.secret}
