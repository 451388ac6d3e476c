"""Test the generated hosts.toml, whose form containerd's page hosts.md describes."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

from entrepot.appliance.clients import containerd
from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.endpoints import CA, LOGIN, PLAIN, TLS, secrets, texts

ROOT = "/etc/containerd/certs.d"


def read(endpoint: Endpoint, name: str) -> dict[str, Any]:
    """Return the generated hosts.toml for the registry *name*, parsed."""
    return tomllib.loads(texts(containerd.configure(endpoint))[f"{ROOT}/{name}/hosts.toml"])


def test_an_upstream_is_pulled_through_the_appliance_and_then_directly() -> None:
    """In hosts.toml the appliance is a mirror that may resolve tags.

    `server` is the upstream, to which containerd falls back.
    """
    assert read(PLAIN, "quay.io") == {
        "server": "https://quay.io",
        "host": {
            "http://cache.test:5000": {
                "capabilities": ["pull", "resolve"],
                "dial_timeout": "2s",
            }
        },
    }


def test_docker_hub_has_another_host_than_its_name() -> None:
    """docker.io is a web site, so `server` in its hosts.toml is registry-1.docker.io."""
    assert read(PLAIN, "docker.io")["server"] == "https://registry-1.docker.io"


def test_every_other_registry_is_pulled_through_the_appliance_first() -> None:
    """The default hosts.toml has no `server`, so containerd falls back to the image's registry."""
    default = read(PLAIN, "_default")

    assert "server" not in default
    assert list(default["host"]) == ["http://cache.test:5000"]


def test_images_under_the_appliances_name_can_be_pulled_and_pushed() -> None:
    """The appliance's own name has a hosts.toml, so that clients can pull and push by that name."""
    own = read(TLS, "cache.test:8443")

    assert own["server"] == "https://cache.test:8443"
    assert own["host"]["https://cache.test:8443"]["capabilities"] == ["pull", "resolve", "push"]
    assert own["host"]["https://cache.test:8443"]["ca"] == "../entrepot-ca.crt"


def test_the_ca_is_at_the_path_that_each_file_names() -> None:
    """In hosts.toml the CA's path is relative to the file, so the folder can be copied anywhere."""
    assert read(TLS, "reg.test:8443")["host"]["https://cache.test:8443"]["ca"]
    assert texts(containerd.configure(TLS))[f"{ROOT}/entrepot-ca.crt"] == CA


def test_a_login_is_a_header_in_files_that_only_root_can_read() -> None:
    """A login for containerd is a header, because containerd has no other setting for it.

    Only root may read the hosts.toml that contains a login.
    """
    endpoint = replace(PLAIN, login=LOGIN)
    host = read(endpoint, "quay.io")["host"]["http://cache.test:5000"]

    assert host["header"] == {"Authorization": "Basic cm9ib3Q6cGFzczp3b3Jk"}
    assert secrets(containerd.configure(endpoint)) == set(texts(containerd.configure(endpoint)))
    assert not secrets(containerd.configure(PLAIN))


def test_a_needed_but_unknown_password_is_mentioned_in_the_steps() -> None:
    """If the appliance needs a password and no login is given, the steps mention `--authfile`.

    Without the password, containerd would pull every image directly from the upstream.
    """
    needs_login = replace(PLAIN, needs_login=True)

    assert "--authfile" in " ".join(containerd.configure(needs_login).steps)
    assert "--authfile" not in " ".join(containerd.configure(PLAIN).steps)
    assert "--authfile" not in " ".join(
        containerd.configure(replace(needs_login, login=LOGIN)).steps
    )
