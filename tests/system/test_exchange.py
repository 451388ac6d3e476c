"""Data directories move between the appliance and docker-registry in both directions."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.images import KB, of_size, two_platforms
from tests.system.pulls import pull
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream


def test_what_docker_registry_wrote_is_served(
    start: Start, clients: Clients, tmp_path: Path
) -> None:
    """The appliance serves images that docker-registry stored, as hosted repositories.

    Their names, tags and digests are unchanged.
    """
    data = tmp_path / "data"
    oci, docker = of_size(64 * KB, 300), of_size(64 * KB, 301, family="docker")
    children = two_platforms(302)
    with Registry(tmp_path / "registry", storage=data) as registry:
        registry.push("library/app", "oci", oci)
        registry.push("library/app", "docker", docker)
        registry.push_index("many", "v1", children)
    appliance = start(Setup(data=data))
    netloc = appliance.http.netloc

    pulled = [clients.pull(f"{netloc}/library/app:{tag}") for tag in ("oci", "docker")]
    by_digest = clients.pull(f"{netloc}/library/app@{oci.digest}")
    from_index = clients.pull(f"{netloc}/many:v1")

    expected = [_id(oci.config), _id(docker.config), _id(oci.config), _id(children[0].config)]
    assert expected == [*pulled, by_digest, from_index]
    assert pull(appliance.http, "library/app", "docker")[0] == docker.digest


def test_what_we_wrote_is_served_by_docker_registry(
    start: Start, fake: FakeUpstream, clients: Clients, tmp_path: Path
) -> None:
    """docker-registry serves the images in a data directory of the appliance.

    The name of a proxied repository begins with the host of its upstream.
    """
    image = fake.put_image("library/app", "v1", of_size(64 * KB, 303))
    children = two_platforms(304)
    fake.add_index("library/many", "v1", children)
    appliance = start(Setup({"one.test": {"url": fake.url}}))
    _store(appliance, "one.test/library/app", "v1")
    index = _store(appliance, "one.test/library/many", "v1")
    assert appliance.stop() == 0

    with Registry(tmp_path / "registry", storage=appliance.data) as registry:
        netloc = registry.http.netloc
        app = clients.pull(f"{netloc}/one.test/library/app:v1")
        many = clients.pull(f"{netloc}/one.test/library/many@{index}")

    assert _id(image.config) == app
    assert _id(children[0].config) == many


def _id(config: bytes) -> str:
    """Return the ID that podman prints for an image with *config*."""
    return Digest.of(config).hex


def _store(appliance: Appliance, name: str, tag: str) -> Digest:
    """Pull an image until the appliance has stored the image; return the manifest's digest.

    While another process of the appliance keeps the index locked, a pull is passed through without
    being stored.
    """
    link = appliance.data / layout.tag_current(Repository(name), Tag(tag))

    def stored() -> Digest | None:
        digest = pull(appliance.http, name, tag)[0]
        return digest if link.exists() else None

    return eventually(stored, what=f"{name}:{tag} is stored")
