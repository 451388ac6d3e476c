"""`podman play kube deployment.yaml` starts the appliance, and later restarts it with its data."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port
from tests.system.clients import Clients
from tests.system.containers import Container, Engine
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size
from tests.system.registries import Registry
from tests.system.relay import Relay
from tests.system.waiting import eventually

pytestmark = pytest.mark.timeout(600)  # the first test that uses the image has to build it

DEPLOYMENT = Path(__file__).resolve().parents[2] / "deployment.yaml"
NAME = "entrepot-pod-0-entrepot"
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge network of podman: its name, and the address of this machine in the network."""

    name: str
    gateway: str


@pytest.fixture
def network(podman: Engine) -> Iterator[Network]:
    """Create a network that only this test's pod uses."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    podman.podman("network", "create", name)
    try:
        found = yaml.safe_load(podman.podman("network", "inspect", name))
        yield Network(name, found[0]["subnets"][0]["gateway"])
    finally:
        podman.try_podman("network", "rm", "--force", "--time=0", name)


def test_the_volume_survives_a_restart_of_the_pod(
    podman: Engine, image: str, network: Network, clients: Clients, tmp_path: Path
) -> None:
    """After a restart the pod serves a pulled image from its volume, without the upstream."""
    with Registry(tmp_path / "upstream") as upstream, Relay(upstream.http.port) as relay:
        upstream.push("team/app", "v1", of_size(64 * KB, 920))
        file = tmp_path / "deployment.yaml"
        port = _write(file, image, f"http://{network.gateway}:{relay.port}")
        name = f"localhost:{port}/one.test/team/app:v1"
        try:
            with _up(podman, file, network, port) as container:
                before = clients.pull(name)
                state = container.inspect()
                assert container.is_healthy()
                assert {uid for uid, _ in container.processes()} == {5000}
                assert state["HostConfig"]["ReadonlyRootfs"] is True
                assert state["EffectiveCaps"] in (None, [])
            clients.forget()
            upstream.stop()

            with _up(podman, file, network, port):
                assert clients.pull(name) == before
        finally:
            podman.try_podman("volume", "rm", "--force", *_volumes())
            podman.try_podman("secret", "rm", "entrepot-pull-secret")


@contextmanager
def _up(podman: Engine, file: Path, network: Network, port: int) -> Iterator[Container]:
    """Start the pod, wait until the appliance responds, and stop the pod after the `with` block."""
    try:
        podman.podman("play", "kube", f"--network={network.name}", str(file))
        container = Container(podman, NAME)
        eventually(lambda: _answers(port), what=f"{NAME} answers", within=60)
        yield container
    finally:
        down = podman.try_podman("play", "kube", "--down", str(file))
    assert down.returncode == 0, down.stderr
    assert podman.podman("ps", "--all", "--quiet", f"--filter=name={NAME}") == ""


def _write(file: Path, image: str, upstream: str) -> int:
    """Write deployment.yaml with the image, an upstream and a free port; return the port."""
    documents: list[Document] = list(yaml.safe_load_all(DEPLOYMENT.read_text()))
    (container,) = documents[-1]["spec"]["template"]["spec"]["containers"]
    port = free_port()
    container["image"] = image
    container["ports"][0] |= {"hostPort": port, "hostIP": "127.0.0.1"}
    upstreams = yaml.safe_dump({"one.test": {"url": upstream}})
    container["env"].append({"name": "REGISTRY_UPSTREAMS", "value": upstreams})
    file.write_text(yaml.safe_dump_all(documents))
    return port


def _volumes() -> list[str]:
    return ["entrepot-data", "entrepot-pull-secret", "entrepot-tmp"]


def _answers(port: int) -> bool:
    try:
        return HttpClient(port).get("/healthz").status == 200
    except (OSError, HTTPException):
        return False
