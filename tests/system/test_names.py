"""Tests which upstream serves an image, for each form of the image's name."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.system.appliance import Appliance, Setup
from tests.system.certificates import Authority
from tests.system.clients import Clients
from tests.system.images import KB, of_size, two_platforms
from tests.system.pulls import blob_path, manifest_path, pull
from tests.system.registries import Registry, basic_registry, tls_registry, token_registry
from tests.system.tokens import TokenServer

APP = "library/app"
BASIC = "robot:with:colons"
TOKEN = "bot:t0ken"


@dataclass(frozen=True, slots=True)
class Site:
    """One appliance in front of six upstreams, and the image library/app:v1 of each."""

    appliance: Appliance
    images: dict[str, Image]

    @property
    def netloc(self) -> str:
        """Return host and port for clients."""
        return self.appliance.http.netloc


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run an appliance in front of six upstreams.

    Two upstreams are public, and one of these two is the default. The other four use a password,
    tokens, TLS, and a host with a port.
    """
    folder = tmp_path_factory.mktemp("names")
    with ExitStack() as stack:
        tokens = stack.enter_context(TokenServer(TOKEN))
        registries = {
            "one.test": Registry(folder / "one"),
            "two.test": Registry(folder / "two"),
            "basic.test": basic_registry(folder / "basic", BASIC),
            "token.test": token_registry(folder / "token", tokens),
            "tls.test": tls_registry(folder / "tls", Authority()),
        }
        for registry in registries.values():
            stack.enter_context(registry)
        by_port = Registry(folder / "port")
        registries[by_port.http.netloc] = stack.enter_context(by_port)
        images = _fill(registries)
        setup = _setup(folder, registries, tokens)
        appliance = stack.enter_context(Appliance(folder / "appliance", setup))
        yield Site(appliance, images)


@pytest.mark.parametrize("host", ["one.test", "two.test", "basic.test", "token.test", "tls.test"])
def test_podman_gets_each_upstreams_own_image(site: Site, clients: Clients, host: str) -> None:
    """All upstreams have an image of one name; podman gets the image of the named upstream."""
    pulled = clients.pull(f"{site.netloc}/{host}/{APP}:v1")

    assert str(Digest.of(site.images[host].config)) == f"sha256:{pulled}"


def test_an_upstream_with_a_port_is_named_with_an_underscore(site: Site, clients: Clients) -> None:
    """In an image reference "_" precedes the port of an upstream, because ":" would start a tag."""
    host = next(host for host in site.images if ":" in host)

    pulled = clients.pull(f"{site.netloc}/{host.replace(':', '_')}/{APP}:v1")

    assert str(Digest.of(site.images[host].config)) == f"sha256:{pulled}"


def test_a_colon_in_a_url_means_the_same_as_an_underscore(site: Site) -> None:
    """`host:port` in a URL leads to the same repository as `host_port`."""
    host = next(host for host in site.images if ":" in host)

    response = site.appliance.http.get(manifest_path(f"{host}/{APP}", "v1"))

    assert site.images[host].manifest == response.body


@pytest.mark.parametrize(
    ("path", "query", "host"),
    [
        (APP, "?ns=one.test", "one.test"),
        (f"one.test/{APP}", "?ns=one.test", "one.test"),
        (f"one.test/{APP}", "", "one.test"),
        (APP, "", "two.test"),
        (APP, "?ns=two.test", "two.test"),
    ],
    ids=["mirror", "mirror with override_path", "path", "default", "mirror of the default"],
)
def test_every_form_of_a_name_gives_the_same_bytes(
    site: Site, path: str, query: str, host: str
) -> None:
    """The bytes are equal if the path names the upstream, if `ns` names it, or if it is default."""
    image, http = site.images[host], site.appliance.http

    by_tag = http.get(manifest_path(path, "v1") + query)
    by_digest = http.get(manifest_path(path, image.digest) + query)
    blobs = [http.get(blob_path(path, Digest.of(blob)) + query).body for blob in image.blobs]

    assert image.manifest == by_tag.body == by_digest.body
    assert image.media_type == by_tag.headers["content-type"] == by_digest.headers["content-type"]
    assert str(image.digest) == by_tag.headers["docker-content-digest"]
    assert list(image.blobs) == blobs


@pytest.mark.parametrize(
    "path",
    [f"/v2/{APP}/manifests/v1?ns=nobody.test", f"/v2/one.test/{APP}/manifests/v1?ns=two.test"],
    ids=["a registry that is not configured", "prefix and ns name different ones"],
)
def test_a_name_without_an_upstream_is_404(site: Site, path: str) -> None:
    """A name that leads to no upstream gets 404, so that the client tries its next host."""
    response = site.appliance.http.get(path)

    assert (response.status, response.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_head_and_get_have_the_same_headers(site: Site, what: str) -> None:
    """HEAD and GET of a manifest or a blob return the same digest, length and type."""
    image, http = site.images["one.test"], site.appliance.http
    name = f"one.test/{APP}"
    path = manifest_path(name, "v1")
    if what == "blob":
        path = blob_path(name, Digest.of(image.config))

    head, got = http.head(path), http.get(path)

    names = ("docker-content-digest", "content-length", "content-type")
    assert (head.status, head.body) == (200, b"")
    assert [got.headers[name] for name in names] == [head.headers[name] for name in names]


@pytest.mark.parametrize("tag", ["oci-index", "docker-list"])
def test_podman_finds_its_platform_in_an_index(site: Site, clients: Clients, tag: str) -> None:
    """Podman finds the image for its platform in an index, which the appliance sends unchanged."""
    expected = two_platforms(90, "oci" if tag == "oci-index" else "docker")[0]

    pulled = clients.pull(f"{site.netloc}/one.test/library/many:{tag}")

    assert str(Digest.of(expected.config)) == f"sha256:{pulled}"


def test_skopeo_copies_a_whole_index_with_its_digests(
    site: Site, clients: Clients, tmp_path: Path
) -> None:
    """Skopeo copies an index with all its images, and no manifest is converted."""
    copied = clients.copy(f"{site.netloc}/one.test/library/many:oci-index", tmp_path, "--all")

    assert copied.returncode == 0, copied.stderr
    written = {str(Digest.of(path.read_bytes())) for path in tmp_path.iterdir()}
    assert {str(child.digest) for child in two_platforms(90)} <= written


def test_a_docker_image_stays_a_docker_image(site: Site) -> None:
    """A manifest in Docker's format is never converted, so its digest stays the same."""
    digests = pull(site.appliance.http, "two.test/library/docker", "v1")

    assert str(site.images["docker"].digest) == str(digests[0])


def _fill(registries: dict[str, Registry]) -> dict[str, Image]:
    """Push a different image to each upstream under one name, and indexes to the first upstream."""
    images = {
        host: registry.push(APP, "v1", of_size(16 * KB, number))
        for number, (host, registry) in enumerate(registries.items(), start=100)
    }
    docker = of_size(16 * KB, 99, family="docker")
    images["docker"] = registries["two.test"].push("library/docker", "v1", docker)
    one = registries["one.test"]
    one.push_index("library/many", "oci-index", two_platforms(90, "oci"), "oci")
    one.push_index("library/many", "docker-list", two_platforms(90, "docker"), "docker")
    return images


def _setup(folder: Path, registries: dict[str, Registry], tokens: TokenServer) -> Setup:
    upstreams: dict[str, dict[str, object]] = {
        host: {} if ":" in host else {"url": registry.url} for host, registry in registries.items()
    }
    upstreams["two.test"]["default"] = True
    upstreams["tls.test"]["ca"] = str(folder / "tls" / "ca.pem")
    upstreams["token.test"]["realm"] = tokens.realm
    secret = folder / "pull-secret.json"
    auths = {"basic.test": BASIC, "token.test": TOKEN}
    entries = {host: {"auth": b64encode(login.encode()).decode()} for host, login in auths.items()}
    secret.write_text(json.dumps({"auths": entries}))
    return Setup(upstreams, environment={"PULLSECRETPATH": str(secret)})
