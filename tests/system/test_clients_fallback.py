"""Tests how clients react when a mirror fails: they use the mirrored registry, wait or give up."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from entrepot.appliance.clients import NAMES
from entrepot.appliance.clients.endpoint import Endpoint
from entrepot.datastore.refs import Digest
from entrepot.runtime.hostnames import fold
from tests.certificates import Authority
from tests.images import Image, filler, image, layer
from tests.system.appliance import ROOT
from tests.system.clients import Clients
from tests.system.containerd import Containerd
from tests.system.dockerd import Dockerd
from tests.system.fallback import LAYER, TABLE, VERSIONS, Outcome, Row
from tests.system.pullers import Podman, Puller, PullFailed
from tests.upstream import FakeUpstream
from tests.wire import Seen

HUB = "registry-1.docker.io"
CASES = [
    pytest.param(
        row,
        name,
        marks=pytest.mark.soak if row.did[name].is_slow else (),
        id=f"{row.failure}-{name}",
    )
    for row in TABLE
    for name in VERSIONS
]


@dataclass(frozen=True, slots=True)
class World:
    """A mirror that fails on demand, the two registries that it mirrors, and clients."""

    mirror: FakeUpstream
    origin: FakeUpstream
    hub: FakeUpstream
    pullers: dict[str, Puller]
    seeds: Iterator[int] = field(default_factory=lambda: count(9000))

    def behind(self, name: str) -> FakeUpstream:
        """Return the registry that the client *name* uses when the mirror fails."""
        return self.hub if name == "dockerd" else self.origin

    def put(self, name: str) -> tuple[str, Image]:
        """Add an image to the mirror and to `behind(name)`; return its reference and the image."""
        seed = next(self.seeds)
        made = image(
            [layer({f"{seed}": filler(20_000, seed)})], "docker" if name == "dockerd" else "oci"
        )
        repository = "library/app" if name == "dockerd" else "app"
        host = "docker.io" if name == "dockerd" else self.origin.host
        self.behind(name).put_image(repository, "v1", made)
        for each in (repository, f"{fold(host)}/{repository}"):
            self.mirror.put_image(each, "v1", made)
        return f"{host}/{repository}:v1", made


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Configure the clients as `entrepot clients` would if the mirror were an appliance."""
    folder = Path(tempfile.mkdtemp(prefix="cf-"))
    authority = Authority(folder)
    with ExitStack() as stack:
        mirror, origin = (stack.enter_context(FakeUpstream()) for _ in range(2))
        hub = stack.enter_context(FakeUpstream(tls=authority.context(HUB)))
        ways = {_port(mirror): _port(mirror), 443: _port(hub)}
        clients = Clients(folder / "podman")
        stack.callback(clients.close)
        (folder / "dockerd").mkdir()
        dockerd = Dockerd(folder / "dockerd", ways=ways, names=[HUB], ca=authority.path)
        pullers: dict[str, Puller] = {
            "podman": Podman(clients),
            "containerd": stack.enter_context(Containerd(folder / "containerd")),
            "dockerd": stack.enter_context(dockerd),
        }
        _tell(pullers, mirror, origin.host, folder / "tree")
        yield World(mirror, origin, hub, pullers)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(("row", "name"), CASES)
def test_what_a_client_does_when_the_mirror_fails(world: World, row: Row, name: str) -> None:
    """If a mirror fails, each client behaves as the table in docs/clients.md states."""
    version = world.pullers[name].version()
    if not version.startswith(VERSIONS[name]):
        pytest.skip(f"the table is {VERSIONS[name]}'s, this is {name} {version}")
    reference, made = world.put(name)
    world.mirror.forget()
    world.behind(name).forget()
    _break(world.mirror, row, made)
    try:
        outcome = _pull(world, name, reference, made)
    finally:
        world.mirror.behave()
        if row.rules is None:
            world.mirror.start()

    asked = [each for each in world.mirror.requests if _is_content(each)]
    assert row.did[name].outcome == outcome
    assert len(asked) <= row.did[name].asked


def test_the_documentation_says_what_happens() -> None:
    """docs/clients.md has the same rows as the table that these tests check."""
    text = (ROOT / "docs" / "clients.md").read_text()

    assert [row.failure for row in TABLE if row.markdown() not in text.splitlines()] == []


def _tell(pullers: dict[str, Puller], mirror: FakeUpstream, host: str, folder: Path) -> None:
    front = Endpoint(
        "127.0.0.1", _port(mirror), tls=False, upstreams=(host, "docker.io"), default="docker.io"
    )
    for puller in pullers.values():
        tree = folder / puller.reads
        for file in NAMES[puller.reads](front).files:
            path = tree / file.path.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
        puller.configure(tree)


def _break(mirror: FakeUpstream, row: Row, made: Image) -> None:
    if row.rules is None:
        mirror.stop()
        return
    for pattern, knobs in row.rules:
        mirror.misbehave(pattern.replace(LAYER, str(Digest.of(made.layers[0]))), **knobs)


def _pull(world: World, name: str, reference: str, made: Image) -> Outcome:
    puller = world.pullers[name]
    puller.forget()
    try:
        pulled = puller.pull(reference)
    except PullFailed:
        return "fails"
    assert str(Digest.of(made.config)) in pulled
    given = {each.path for each in world.behind(name).requests if _is_given(each)}
    blobs = {path for path in given if "/blobs/" in path}
    if not given:
        return "mirror"
    return "origin" if len(blobs) == len(made.blobs) else "both"


def _is_given(seen: Seen) -> bool:
    return _is_content(seen) and seen.method == "GET" and seen.status in (200, 206)


def _is_content(seen: Seen) -> bool:
    return "/manifests/" in seen.path or "/blobs/" in seen.path


def _port(server: FakeUpstream) -> int:
    return int(server.host.rpartition(":")[2])
