"""Test the generated registries.yaml, whose form the documentation of k3s and RKE2 describes."""

from __future__ import annotations

from dataclasses import replace

import yaml

from entrepot.appliance.clients import k3s
from tests.appliance.clients.endpoints import CA, LOGIN, PLAIN, TLS, secrets, texts


def test_every_registry_is_mirrored() -> None:
    """registries.yaml has a mirror for each upstream, and one ("*") for all other registries."""
    text = texts(k3s.configure_k3s(PLAIN))["/etc/rancher/k3s/registries.yaml"]

    endpoint = {"endpoint": ["http://cache.test:5000"]}
    assert yaml.safe_load(text) == {
        "mirrors": {"docker.io": endpoint, "quay.io": endpoint, "*": endpoint}
    }
    assert "&" not in text  # an anchor would make the file hard to read for operators


def test_rke2_has_its_own_folder() -> None:
    """RKE2's configuration and CA are in a different folder from those of k3s."""
    client = k3s.configure_rke2(TLS)
    document = yaml.safe_load(texts(client)["/etc/rancher/rke2/registries.yaml"])

    path = document["configs"]["cache.test:8443"]["tls"]["ca_file"]
    assert path == "/etc/rancher/rke2/entrepot-ca.crt"
    assert texts(client)[path] == CA


def test_a_login_is_in_the_configuration_of_the_endpoint() -> None:
    """A login is in the registries.yaml section for the host and port of the appliance."""
    client = k3s.configure_k3s(replace(PLAIN, login=LOGIN))
    path = "/etc/rancher/k3s/registries.yaml"

    document = yaml.safe_load(texts(client)[path])

    assert document["configs"] == {
        "cache.test:5000": {"auth": {"username": "robot", "password": "pass:word"}}
    }
    assert secrets(client) == {path}


def test_a_needed_but_unknown_password_is_mentioned_in_the_steps() -> None:
    """If the appliance needs a password and no login is given, the steps for k3s mention this.

    Without the password every pull would bypass the appliance.
    """
    assert "password" in " ".join(k3s.configure_k3s(replace(PLAIN, needs_login=True)).steps)
    assert "password" not in " ".join(k3s.configure_k3s(PLAIN).steps)
