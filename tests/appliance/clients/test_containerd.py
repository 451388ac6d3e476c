"""hosts.toml, as containerd's docs/hosts.md describes it."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

from entrepot.appliance.clients import containerd
from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.fronts import CA, LOGIN, PLAIN, TLS, secrets, texts

ROOT = "/etc/containerd/certs.d"


def read(front: Endpoint, name: str) -> dict[str, Any]:
    """Read the hosts.toml of one registry."""
    return tomllib.loads(texts(containerd.configure(front))[f"{ROOT}/{name}/hosts.toml"])


def test_an_upstream_comes_from_us_and_then_from_itself() -> None:
    """We are a mirror that may resolve tags; `server` is where it goes on when we fail."""
    assert read(PLAIN, "quay.io") == {
        "server": "https://quay.io",
        "host": {
            "http://cache.test:5000": {
                "capabilities": ["pull", "resolve"],
                "dial_timeout": "2s",
            }
        },
    }


def test_docker_hub_is_another_host_than_its_name() -> None:
    """docker.io itself is a web site."""
    assert read(PLAIN, "docker.io")["server"] == "https://registry-1.docker.io"


def test_every_other_registry_comes_from_us_first_too() -> None:
    """Without a `server`: containerd takes the image's own registry."""
    default = read(PLAIN, "_default")

    assert "server" not in default
    assert list(default["host"]) == ["http://cache.test:5000"]


def test_names_that_begin_with_ours_can_be_pulled_and_pushed() -> None:
    """`_default` would ask us with `?ns=` of ourselves, and know no authority."""
    own = read(TLS, "cache.test:8443")

    assert own["server"] == "https://cache.test:8443"
    assert own["host"]["https://cache.test:8443"]["capabilities"] == ["pull", "resolve", "push"]
    assert own["host"]["https://cache.test:8443"]["ca"] == "../entrepot-ca.crt"


def test_the_authority_lies_where_each_file_says() -> None:
    """The path is relative to the file that names it, wherever all of them are put."""
    assert read(TLS, "reg.test:8443")["host"]["https://cache.test:8443"]["ca"]
    assert texts(containerd.configure(TLS))[f"{ROOT}/entrepot-ca.crt"] == CA


def test_a_login_is_a_header_in_files_for_root_alone() -> None:
    """A mirror of containerd has no other place for a mirror's password."""
    front = replace(PLAIN, login=LOGIN)
    host = read(front, "quay.io")["host"]["http://cache.test:5000"]

    assert host["header"] == {"Authorization": "Basic cm9ib3Q6cGFzczp3b3Jk"}
    assert secrets(containerd.configure(front)) == set(texts(containerd.configure(front)))
    assert not secrets(containerd.configure(PLAIN))


def test_a_password_that_is_asked_for_and_not_known_is_told() -> None:
    """Otherwise every pull goes past us, and nobody sees why."""
    asking = replace(PLAIN, needs_login=True)

    assert "--authfile" in " ".join(containerd.configure(asking).steps)
    assert "--authfile" not in " ".join(containerd.configure(PLAIN).steps)
    assert "--authfile" not in " ".join(containerd.configure(replace(asking, login=LOGIN)).steps)
