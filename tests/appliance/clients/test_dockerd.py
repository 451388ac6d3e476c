"""Test the files for dockerd: daemon.json (older image store) and hosts.toml (newer store)."""

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
    """Return the generated daemon.json, parsed."""
    return json.loads(texts(dockerd.configure(endpoint))["/etc/docker/daemon.json"])


def test_docker_hub_is_mirrored_if_it_is_the_default_upstream() -> None:
    """If Docker Hub is the default upstream, daemon.json lists the appliance as a mirror.

    dockerd's older store does not send the registry's host to a mirror, so the appliance can serve
    only images of its default upstream.
    """
    assert daemon(replace(TLS, default="docker.io")) == {
        "registry-mirrors": ["https://cache.test:8443"]
    }


def test_otherwise_no_mirror_is_written_and_the_remedy_is_in_the_steps() -> None:
    """If Docker Hub is not the default upstream, daemon.json has no mirror.

    dockerd's requests to a mirror name no upstream. The appliance would search for images of Docker
    Hub in its own default upstream, or respond with 404 if it has none.
    """
    other = replace(TLS, default="quay.io")

    assert daemon(other) == {}
    assert "ENTREPOT_DEFAULT_UPSTREAM" in " ".join(dockerd.configure(other).steps)


def test_plain_http_is_an_insecure_registry() -> None:
    """daemon.json lists an appliance without TLS as insecure, so that dockerd uses plain HTTP."""
    assert daemon(PLAIN) == {"insecure-registries": ["cache.test:5000"]}


def test_both_stores_find_the_ca_in_one_file() -> None:
    """Both image stores of dockerd use one CA file.

    The older store finds the CA file by the name of its folder, the newer store by hosts.toml.
    """
    files = texts(dockerd.configure(TLS))
    hosts = tomllib.loads(files[f"{ROOT}/reg.test:8443/hosts.toml"])

    assert files[f"{ROOT}/cache.test:8443/ca.crt"] == CA
    assert hosts["host"]["https://cache.test:8443"]["ca"] == "../cache.test:8443/ca.crt"


def test_a_password_needs_more_than_files() -> None:
    """Where a password is needed, the steps for dockerd advise anonymous pulls.

    dockerd's older image store sends no password to a mirror.
    """
    assert "ANONYMOUS=pull" in " ".join(dockerd.configure(replace(TLS, needs_login=True)).steps)
