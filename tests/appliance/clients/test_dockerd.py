"""dockerd's two stores: a mirror of Docker Hub, and hosts.toml."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from typing import Any

from entrepot.appliance.clients import dockerd
from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.endpoints import CA, PLAIN, TLS, texts

ROOT = "/etc/docker/certs.d"


def daemon(endpoint: Endpoint) -> Any:
    """Parse the generated daemon.json."""
    return json.loads(texts(dockerd.configure(endpoint))["/etc/docker/daemon.json"])


def test_docker_hub_is_mirrored_if_it_is_the_default_upstream() -> None:
    """Docker Hub is mirrored for dockerd if it is the default upstream.

    dockerd's older store does not send the registry's host to a mirror.
    """
    assert daemon(replace(TLS, default="docker.io")) == {
        "registry-mirrors": ["https://cache.test:8443"]
    }


def test_otherwise_no_mirror_is_written_and_the_remedy_is_in_the_steps() -> None:
    """If Docker Hub is not the default upstream, daemon.json has no mirror.

    A mirror of another upstream than Docker Hub would respond to every request with 404.
    """
    other = replace(TLS, default="quay.io")

    assert daemon(other) == {}
    assert "ENTREPOT_DEFAULT_UPSTREAM" in " ".join(dockerd.configure(other).steps)


def test_plain_http_is_an_insecure_registry() -> None:
    """An appliance without TLS is an insecure registry, because dockerd would try only TLS."""
    assert daemon(PLAIN) == {"insecure-registries": ["cache.test:5000"]}


def test_both_stores_find_the_ca_in_one_file() -> None:
    """One CA file serves both stores of dockerd.

    dockerd's older store finds the CA file by its folder's name, the newer store by hosts.toml.
    """
    files = texts(dockerd.configure(TLS))
    hosts = tomllib.loads(files[f"{ROOT}/reg.test:8443/hosts.toml"])

    assert files[f"{ROOT}/cache.test:8443/ca.crt"] == CA
    assert hosts["host"]["https://cache.test:8443"]["ca"] == "../cache.test:8443/ca.crt"


def test_a_password_needs_more_than_files() -> None:
    """A password needs more steps than files: dockerd's older store sends a mirror none."""
    assert "ANONYMOUS=pull" in " ".join(dockerd.configure(replace(TLS, needs_login=True)).steps)
