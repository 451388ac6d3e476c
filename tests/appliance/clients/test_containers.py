"""Test the generated drop-in for podman, in the form of containers-registries.conf.d(5)."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

from entrepot.appliance.clients import containers
from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.endpoints import CA, PLAIN, TLS, texts

FILE = "/etc/containers/registries.conf.d/50-entrepot.conf"


def registries(endpoint: Endpoint) -> dict[str, Any]:
    """Return the registries of the generated drop-in for podman, by their location."""
    read = tomllib.loads(texts(containers.configure(endpoint))[FILE])
    return {each["location"]: each for each in read["registry"]}


def test_an_upstreams_host_becomes_the_first_component_of_the_name() -> None:
    """For podman the repository names of a mirror begin with the upstream's host.

    Podman does not send the upstream's host to a mirror in any other way.
    """
    assert registries(TLS) == {
        "docker.io": {
            "location": "docker.io",
            "mirror": [{"location": "cache.test:8443/docker.io"}],
        },
        "reg.test:8443": {
            "location": "reg.test:8443",
            "mirror": [{"location": "cache.test:8443/reg.test_8443"}],
        },
    }


def test_plain_http_is_allowed_for_the_mirror_and_for_the_appliances_name() -> None:
    """A drop-in allows plain HTTP for the mirror and for the appliance's own name.

    Therefore `podman pull cache.test:5000/quay.io/...` needs no flag.
    """
    read = registries(PLAIN)

    assert read["quay.io"]["mirror"] == [{"location": "cache.test:5000/quay.io", "insecure": True}]
    assert "insecure" not in read["quay.io"]
    assert read["cache.test:5000"] == {"location": "cache.test:5000", "insecure": True}


def test_an_upstream_on_loopback_is_plain_http_as_for_docker() -> None:
    """For an upstream on loopback the drop-in permits plain HTTP.

    Docker uses plain HTTP for loopback without a setting, but podman does not.
    """
    assert registries(replace(PLAIN, upstreams=("localhost:5001",)))["localhost:5001"]["insecure"]


def test_the_ca_is_in_the_folder_of_the_appliances_name() -> None:
    """The CA is in the folder with the appliance's name, as containers-certs.d(5) describes."""
    assert texts(containers.configure(TLS))["/etc/containers/certs.d/cache.test:8443/ca.crt"] == CA


def test_upstreams_that_cannot_be_mirrored_are_mentioned_in_the_steps() -> None:
    """The steps name each upstream for which podman can have no mirror.

    Such an upstream is a pattern in the pull secret, and matches many hosts. If the appliance needs
    a login, the steps also have the command `podman login`.
    """
    steps = " ".join(containers.configure(replace(TLS, needs_login=True)).steps)

    assert "*.x" in steps
    assert "podman login cache.test:8443" in steps
