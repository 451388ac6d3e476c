"""Tests that the clients, upstreams and images of the system tests work together."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.images import Family, layer
from tests.system.certificates import Authority
from tests.system.clients import Clients
from tests.system.images import KB, of_size, two_platforms
from tests.system.registries import Registry, basic_registry, tls_registry, token_registry
from tests.system.tokens import TokenServer

LOGIN = "robot:pass:word"


@pytest.mark.parametrize("family", ["oci", "docker"])
def test_podman_pulls_an_image_of_the_tests(
    clients: Clients, public: Registry, family: Family
) -> None:
    """Podman can unpack an image of the tests; the image's ID is the digest of its config."""
    shared = layer({"shared": b"shared"})
    image = public.push("harness", family, of_size(64 * KB, 1, shared=shared, family=family))

    pulled = clients.pull(f"{public.http.netloc}/harness:{family}")

    assert str(Digest.of(image.config)) == f"sha256:{pulled}"


def test_podman_chooses_its_platform_from_an_index(clients: Clients, public: Registry) -> None:
    """Podman pulls the image for its platform from an index of the tests."""
    children = two_platforms(2)
    public.push_index("harness", "many", children)

    pulled = clients.pull(f"{public.http.netloc}/harness:many")

    assert str(Digest.of(children[0].config)) == f"sha256:{pulled}"


def test_a_stopped_upstream_is_back_on_its_port_after_a_start(tmp_path: Path) -> None:
    """A stopped docker-registry refuses connections.

    After the next start the registry has the same port and the same content.
    """
    with Registry(tmp_path / "registry") as registry:
        registry.push("app", "v1", of_size(KB, 3))
        registry.stop()
        with pytest.raises(OSError, match="refused"):
            registry.http.get("/v2/")
        registry.start()

        again = registry.http.get("/v2/app/manifests/v1")

    assert again.status == 200
    assert ("GET", "/v2/app/manifests/v1", 200) in registry.requests()


def test_a_basic_upstream_requires_its_password(tmp_path: Path, clients: Clients) -> None:
    """A registry with Basic authentication refuses a pull without a login."""
    with basic_registry(tmp_path / "basic", LOGIN) as registry:
        registry.push("app", "v1", of_size(KB, 4))
        image = f"{registry.http.netloc}/app:v1"

        assert "authentication required" in clients.pull_fails(image)
        assert clients.login(registry.http.netloc, LOGIN).returncode == 0
        assert clients.pull(image)


def test_a_token_upstream_requires_a_token(tmp_path: Path, clients: Clients) -> None:
    """A client with the right password gets a token and can pull from a registry with tokens."""
    with (
        TokenServer(LOGIN) as tokens,
        token_registry(tmp_path / "token", tokens) as registry,
    ):
        registry.push("app", "v1", of_size(KB, 5))
        image = f"{registry.http.netloc}/app:v1"

        assert registry.http.get("/v2/app/manifests/v1").status == 401
        assert clients.login(registry.http.netloc, LOGIN).returncode == 0
        assert clients.pull(image)


def test_a_tls_upstream_shows_a_certificate_of_its_own_ca(tmp_path: Path, clients: Clients) -> None:
    """Skopeo refuses an upstream with TLS unless it has the upstream's CA."""
    with tls_registry(tmp_path / "tls", Authority()) as registry:
        registry.push("app", "v1", of_size(KB, 6))
        image = f"docker://{registry.http.netloc}/app:v1"
        trusting = tmp_path / "trusting"
        trusting.mkdir()
        (trusting / "ca.crt").write_bytes((tmp_path / "tls" / "ca.pem").read_bytes())

        assert "certificate" in clients.skopeo("inspect", image).stderr
        assert clients.skopeo("inspect", f"--cert-dir={trusting}", image).returncode == 0
