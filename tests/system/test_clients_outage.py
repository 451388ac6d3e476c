"""podman and containerd pull from the registry itself while the appliance fails or is stopped."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.ports import free_port
from tests.system import datadir
from tests.system.appliance import Appliance, Setup
from tests.system.blackhole import BlackHole
from tests.system.clients import Clients
from tests.system.containerd import Containerd
from tests.system.images import KB, of_size
from tests.system.pullers import Podman, Puller
from tests.system.registries import Registry

ENVIRONMENT = {"ENTREPOT_FRESHNESS": "0s", "ENTREPOT_CONNECT_TIMEOUT": "1s"}
NAMES = ["podman", "containerd"]


@dataclass(frozen=True, slots=True)
class World:
    """A registry, an appliance that cannot connect to it, and two clients that can."""

    registry: Registry
    appliance: Appliance
    pullers: dict[str, Puller]

    def put(self, name: str, seed: int) -> tuple[str, Image]:
        """Push an image to the registry; return its reference for clients, and the image."""
        image = self.registry.push(f"outage/{name}", "v1", of_size(16 * KB, seed))
        return f"{self.registry.http.netloc}/outage/{name}:v1", image

    def statuses(self, name: str) -> set[int]:
        """Return the statuses of the appliance's responses for the repository *name*."""
        lines = datadir.access_lines(self.appliance.state)
        return {line.status for line in lines if f"/outage/{name}/" in line.uri}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Create a folder with a short path, because the length of a socket's path is limited."""
    made = Path(tempfile.mkdtemp(prefix="co-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[World]:
    """Start an appliance that expects the registry on a port on which no program listens."""
    registry = Registry(folder / "registry")
    upstreams = {registry.http.netloc: {"url": f"http://127.0.0.1:{free_port()}"}}
    setup = Setup(upstreams, environment=ENVIRONMENT)
    with registry, Appliance(folder / "appliance", setup) as appliance, ExitStack() as stack:
        clients = Clients(folder / "podman")
        stack.callback(clients.close)
        pullers: dict[str, Puller] = {
            "podman": Podman(clients),
            "containerd": stack.enter_context(Containerd(folder / "containerd")),
        }
        _tell(pullers, appliance, appliance.http.port, folder / "tree")
        yield World(registry, appliance, pullers)


@pytest.mark.parametrize("name", NAMES)
def test_a_client_goes_past_an_appliance_that_has_to_refuse(world: World, name: str) -> None:
    """If the appliance responds 502 or 503, the client pulls from the registry itself."""
    reference, image = world.put(name, 800 + len(name))
    puller = world.pullers[name]
    puller.forget()
    # after three failures the circuit breaker of the upstream is open, and the appliance responds
    # 503
    for path in ("manifests/v1", "manifests/v2", "manifests/v3"):
        world.appliance.http.get(f"/v2/outage/{name}/{path}?ns={world.registry.http.netloc}")

    pulled = puller.pull(reference)

    assert str(Digest.of(image.config)) in pulled
    assert 503 in world.statuses(name)
    assert world.statuses(name) <= {502, 503, 504}


@pytest.mark.parametrize("name", NAMES)
def test_a_client_goes_past_an_appliance_that_is_stopped(world: World, name: str) -> None:
    """While the appliance does not run, a client pulls from the registry itself.

    After a restart of the appliance the client pulls from the appliance again.
    """
    reference, image = world.put(f"stopped-{name}", 810 + len(name))
    puller = world.pullers[name]
    puller.forget()
    assert world.appliance.stop() == 0
    try:
        pulled = puller.pull(reference)
    finally:
        world.appliance.start()
    puller.forget()
    puller.pull(reference)

    assert str(Digest.of(image.config)) in pulled
    assert world.statuses(f"stopped-{name}")


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_a_client_goes_past_a_host_that_is_gone_without_a_word(
    world: World, folder: Path, name: str
) -> None:
    """If the host of the appliance drops all packets, a client pulls from the registry itself.

    This takes long, because neither containerd 1.6 nor podman has a setting for the time-out of a
    connection.
    """
    reference, image = world.put(f"gone-{name}", 820 + len(name))
    puller = world.pullers[name]
    puller.forget()
    with BlackHole() as hole:
        port = int(hole.url.rpartition(":")[2])
        _tell({name: puller}, world.appliance, port, folder / "hole")
        try:
            pulled = puller.pull(reference)
        finally:
            _tell({name: puller}, world.appliance, world.appliance.http.port, folder / "tree")

    assert str(Digest.of(image.config)) in pulled


def _tell(pullers: dict[str, Puller], appliance: Appliance, port: int, tree: Path) -> None:
    words = ["--host", f"http://127.0.0.1:{port}", "--out", str(tree)]
    done = appliance.entrepot("clients", *words)
    assert done.returncode == 0, done.stderr
    for puller in pullers.values():
        puller.configure(tree / puller.reads)
