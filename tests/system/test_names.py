"""Which upstream a name leads to, and how it is spoken to: item 2 of what must be shown."""

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
class House:
    """One appliance in front of six upstreams, and what each holds as library/app:v1."""

    appliance: Appliance
    images: dict[str, Image]

    @property
    def netloc(self) -> str:
        """Where clients find it."""
        return self.appliance.door.netloc


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two public upstreams, the second the default; Basic, token, TLS; one named by its port."""
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
        registries[by_port.door.netloc] = stack.enter_context(by_port)
        images = _fill(registries)
        setup = _setup(folder, registries, tokens)
        appliance = stack.enter_context(Appliance(folder / "appliance", setup))
        yield House(appliance, images)


@pytest.mark.parametrize("host", ["one.test", "two.test", "basic.test", "token.test", "tls.test"])
def test_podman_gets_each_upstreams_own_image(house: House, clients: Clients, host: str) -> None:
    """Two upstreams that hold different images under one name never mix."""
    pulled = clients.pull(f"{house.netloc}/{host}/{APP}:v1")

    assert str(Digest.of(house.images[host].config)) == f"sha256:{pulled}"


def test_an_upstream_with_a_port_is_named_with_an_underscore(
    house: House, clients: Clients
) -> None:
    """An image reference can't carry a second colon."""
    host = next(host for host in house.images if ":" in host)

    pulled = clients.pull(f"{house.netloc}/{host.replace(':', '_')}/{APP}:v1")

    assert str(Digest.of(house.images[host].config)) == f"sha256:{pulled}"


def test_a_colon_in_a_url_is_folded_at_the_door(house: House) -> None:
    """`host:port` in a URL leads to the same place as `host_port`."""
    host = next(host for host in house.images if ":" in host)

    answer = house.appliance.door.get(manifest_path(f"{host}/{APP}", "v1"))

    assert house.images[host].manifest == answer.body


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
    house: House, path: str, query: str, host: str
) -> None:
    """Containerd's form, dockerd's and the path lead to the upstream's own bytes."""
    image, door = house.images[host], house.appliance.door

    by_tag = door.get(manifest_path(path, "v1") + query)
    by_digest = door.get(manifest_path(path, image.digest) + query)
    blobs = [door.get(blob_path(path, Digest.of(blob)) + query).body for blob in image.blobs]

    assert image.manifest == by_tag.body == by_digest.body
    assert image.media_type == by_tag.headers["content-type"] == by_digest.headers["content-type"]
    assert str(image.digest) == by_tag.headers["docker-content-digest"]
    assert list(image.blobs) == blobs


@pytest.mark.parametrize(
    "path",
    [f"/v2/{APP}/manifests/v1?ns=nobody.test", f"/v2/one.test/{APP}/manifests/v1?ns=two.test"],
    ids=["a registry that is not configured", "prefix and ns name different ones"],
)
def test_a_name_that_leads_nowhere_is_404(house: House, path: str) -> None:
    """The client then goes on to its next mirror."""
    answer = house.appliance.door.get(path)

    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_head_says_what_get_says(house: House, what: str) -> None:
    """HEAD and GET share one decision: status, digest, length and type are the same."""
    image, door = house.images["one.test"], house.appliance.door
    name = f"one.test/{APP}"
    path = manifest_path(name, "v1")
    if what == "blob":
        path = blob_path(name, Digest.of(image.config))

    head, got = door.head(path), door.get(path)

    told = ("docker-content-digest", "content-length", "content-type")
    assert (head.status, head.body) == (200, b"")
    assert [got.headers[name] for name in told] == [head.headers[name] for name in told]


@pytest.mark.parametrize("tag", ["oci-index", "docker-list"])
def test_podman_finds_its_platform_in_an_index(house: House, clients: Clients, tag: str) -> None:
    """An index is passed on byte for byte, OCI's and Docker's."""
    expected = two_platforms(90, "oci" if tag == "oci-index" else "docker")[0]

    pulled = clients.pull(f"{house.netloc}/one.test/library/many:{tag}")

    assert str(Digest.of(expected.config)) == f"sha256:{pulled}"


def test_skopeo_copies_a_whole_index_with_its_digests(
    house: House, clients: Clients, tmp_path: Path
) -> None:
    """All platforms come through, none is converted."""
    copied = clients.copy(f"{house.netloc}/one.test/library/many:oci-index", tmp_path, "--all")

    assert copied.returncode == 0, copied.stderr
    written = {str(Digest.of(path.read_bytes())) for path in tmp_path.iterdir()}
    assert {str(child.digest) for child in two_platforms(90)} <= written


def test_a_docker_image_stays_a_docker_image(house: House) -> None:
    """A manifest is never converted."""
    digests = pull(house.appliance.door, "two.test/library/docker", "v1")

    assert str(house.images["docker"].digest) == str(digests[0])


def _fill(registries: dict[str, Registry]) -> dict[str, Image]:
    """Push a different image to each upstream under the same name, and indexes to the first."""
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
