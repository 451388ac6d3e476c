"""Each client pulls through the appliance with the files that `entrepot clients` writes."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.images import Family, layer
from tests.system import datadir
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.containerd import Containerd
from tests.system.dockerd import Dockerd
from tests.system.images import KB, of_size, two_platforms
from tests.system.pullers import Buildah, Podman, Puller, Skopeo
from tests.system.registries import Registry
from tests.system.waiting import eventually

CLIENTS = ["podman", "buildah", "skopeo", "containerd", "dockerd"]
KINDS: list[tuple[Family, str]] = [
    ("oci", "single"),
    ("oci", "many"),
    ("docker", "single"),
    ("docker", "many"),
]
ENVIRONMENT = {
    "ENTREPOT_DEFAULT_UPSTREAM": "docker.io",
    "ENTREPOT_FRESHNESS": "0s",
    "ENTREPOT_NEGATIVE_TTL": "0s",
}


@dataclass(frozen=True, slots=True)
class World:
    """An upstream with two names, an appliance in front, and the files of `entrepot clients`."""

    registry: Registry
    appliance: Appliance
    tree: Path

    def host(self, puller: Puller) -> str:
        """Return the host in the image references that *puller* pulls."""
        # dockerd's own image store (not containerd's) uses mirrors for Docker Hub only
        return "docker.io" if puller.reads == "docker" else self.registry.http.netloc

    def is_well(self) -> bool:
        """Return True if the appliance gets responses from the upstream under both host names."""
        asked = [
            self.appliance.http.get(f"/v2/library/none/manifests/v1?ns={host}").status
            for host in ("docker.io", self.registry.http.netloc)
        ]
        return asked == [404, 404]

    def passed_through_us(self, name: str) -> int:
        """Return how often the appliance has served a blob or manifest of the repository *name*."""
        lines = datadir.access_lines(self.appliance.state)
        return sum(line.status == 200 and f"/{name}/" in line.uri for line in lines)

    def fetched(self, prefix: str) -> Counter[str]:
        """Return how often the upstream has sent each blob and manifest.

        Only repositories whose name begins with *prefix* count.
        """
        seen = self.registry.requests()
        return Counter(
            target for method, target, _ in seen if method == "GET" and f"/{prefix}" in target
        )


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image that was pushed to its own repository; `by` is the :tag or @digest for a pull."""

    name: str
    by: str
    config: str


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Create a folder with a short path, because the length of a socket's path is limited."""
    made = Path(tempfile.mkdtemp(prefix="cp-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[World]:
    """Start a registry and an appliance in front of it, and write the files for clients."""
    registry = Registry(folder / "registry")
    upstreams = {host: {"url": registry.url} for host in ("docker.io", registry.http.netloc)}
    setup = Setup(upstreams, environment=ENVIRONMENT)
    with registry, Appliance(folder / "appliance", setup) as appliance:
        tree, host = folder / "tree", f"127.0.0.1:{appliance.http.port}"
        done = appliance.entrepot("clients", "--host", host, "--out", str(tree))
        assert done.returncode == 0, done.stderr
        yield World(registry, appliance, tree)


@pytest.fixture(params=CLIENTS)
def puller(request: pytest.FixtureRequest, world: World, folder: Path) -> Iterator[Puller]:
    """Yield each client in turn, configured with the files that `entrepot clients` wrote for it."""
    with ExitStack() as stack:
        client = _MAKERS[request.param](world, folder, stack)
        client.configure(world.tree / client.reads)
        yield client


def test_a_client_pulls_cold_warm_and_in_an_outage(
    request: pytest.FixtureRequest, world: World, puller: Puller
) -> None:
    """Each client pulls images before and after they are stored, and in an outage of the upstream.

    The upstream sends each part of an image once.
    """
    prefix = f"library/{request.node.callspec.params['puller']}"
    images = _push_all(world.registry, prefix)
    cold = _pull_all(world, puller, images)
    fetched = world.fetched(prefix)
    warm = _pull_all(world, puller, images)
    again = world.fetched(prefix)
    world.registry.stop()
    try:
        outage = _pull_all(world, puller, images)
    finally:
        world.registry.start()
        eventually(world.is_well, what="the appliance asks its upstream again")

    everything = dict.fromkeys((each.name for each in images), "whole")
    assert everything == cold
    assert everything == warm
    assert everything == outage
    assert fetched == again
    assert set(fetched.values()) == {1}
    assert [each.name for each in images if not world.passed_through_us(each.name)] == []


def _pull_all(world: World, puller: Puller, images: list[Pushed]) -> dict[str, str]:
    """Pull every image into an empty store, and return the result for each image."""
    puller.forget()
    host = world.host(puller)
    found = {each: puller.pull(f"{host}/{each.name}{each.by}") for each in images}
    return {
        image.name: "whole" if image.config in digests else f"without its config: {digests}"
        for image, digests in found.items()
    }


def _push_all(registry: Registry, prefix: str) -> list[Pushed]:
    return [
        _push(registry, f"{prefix}-{family}-{shape}-{by}", family, shape)
        for family, shape in KINDS
        for by in ("tag", "digest")
    ]


def _push(registry: Registry, name: str, family: Family, shape: str) -> Pushed:
    """Push an image that shares no part with images of other repositories."""
    seed = zlib.crc32(name.encode())
    if shape == "many":
        children = two_platforms(seed, family)
        digest = registry.push_index(name, "v1", children, family)
        config = children[0].config
    else:
        shared = layer({f"shared-{seed}": b"shared"})
        pushed = registry.push(name, "v1", of_size(16 * KB, seed, shared=shared, family=family))
        digest, config = pushed.digest, pushed.config
    by = f"@{digest}" if name.endswith("digest") else ":v1"
    return Pushed(name, by, str(Digest.of(config)))


def _podman(kind: Callable[[Clients], Puller]) -> Callable[[World, Path, ExitStack], Puller]:
    def make(_: World, folder: Path, stack: ExitStack) -> Puller:
        clients = Clients(Path(tempfile.mkdtemp(prefix="cl-", dir=folder)))
        stack.callback(clients.close)
        return kind(clients)

    return make


def _skopeo(world: World, folder: Path, stack: ExitStack) -> Puller:
    del world
    home = Path(tempfile.mkdtemp(prefix="cl-", dir=folder))
    clients = Clients(home)
    stack.callback(clients.close)
    return Skopeo(clients, home)


def _containerd(world: World, folder: Path, stack: ExitStack) -> Puller:
    del world
    return stack.enter_context(Containerd(folder / "containerd"))


def _dockerd(world: World, folder: Path, stack: ExitStack) -> Puller:
    home, port = folder / "dockerd", world.appliance.http.port
    home.mkdir()
    return stack.enter_context(Dockerd(home, ways={port: port}))


_MAKERS: dict[str, Callable[[World, Path, ExitStack], Puller]] = {
    "podman": _podman(Podman),
    "buildah": _podman(Buildah),
    "skopeo": _skopeo,
    "containerd": _containerd,
    "dockerd": _dockerd,
}
