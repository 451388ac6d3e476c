"""The drop-in for registries.conf, as containers-registries.conf.d(5) describes it."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

from entrepot.appliance.clients import containers
from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.fronts import CA, PLAIN, TLS, texts

FILE = "/etc/containers/registries.conf.d/50-entrepot.conf"


def registries(front: Endpoint) -> dict[str, Any]:
    """Read the drop-in's registries by location."""
    read = tomllib.loads(texts(containers.configure(front))[FILE])
    return {each["location"]: each for each in read["registry"]}


def test_an_upstreams_host_becomes_the_first_part_of_the_name() -> None:
    """These clients rewrite the name and send nothing that says which registry they mean."""
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


def test_plain_http_is_said_of_the_mirror_and_of_our_own_name() -> None:
    """So that `podman pull cache.test:5000/quay.io/...` needs no flag either."""
    read = registries(PLAIN)

    assert read["quay.io"]["mirror"] == [{"location": "cache.test:5000/quay.io", "insecure": True}]
    assert "insecure" not in read["quay.io"]
    assert read["cache.test:5000"] == {"location": "cache.test:5000", "insecure": True}


def test_an_upstream_on_this_machine_is_plain_http_as_docker_has_it() -> None:
    """To podman itself, loopback is no exception."""
    assert registries(replace(PLAIN, upstreams=("localhost:5001",)))["localhost:5001"]["insecure"]


def test_the_authority_lies_in_the_folder_of_our_name() -> None:
    """containers-certs.d(5)."""
    assert texts(containers.configure(TLS))["/etc/containers/certs.d/cache.test:8443/ca.crt"] == CA


def test_what_can_not_be_mirrored_is_told() -> None:
    """A glob loses what its star stood for; a password is the user's own."""
    steps = " ".join(containers.configure(replace(TLS, needs_login=True)).steps)

    assert "*.x" in steps
    assert "podman login cache.test:8443" in steps
