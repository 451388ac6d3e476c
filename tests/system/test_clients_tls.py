"""`entrepot certs`, the files of `entrepot clients`, and `entrepot doctor` work together."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from tests.system import datadir, processes
from tests.system.appliance import ROOT, Appliance, Setup
from tests.system.clients import Clients
from tests.system.containerd import Containerd
from tests.system.dockerd import Dockerd
from tests.system.images import KB, of_size
from tests.system.pullers import PullFailed
from tests.system.registries import Registry, htpasswd
from tests.system.waiting import eventually

LOGIN = "robot:pass:word"
ENVIRONMENT = {
    "ENTREPOT_DEFAULT_UPSTREAM": "docker.io",
    "ENTREPOT_FRESHNESS": "0s",
}


@dataclass(frozen=True, slots=True)
class World:
    """An appliance with a private CA and a password, and the files for its clients."""

    registry: Registry
    appliance: Appliance
    folder: Path

    @property
    def address(self) -> str:
        """Return the host:port of the appliance; the TLS certificate is valid for this host."""
        return f"127.0.0.1:{self.appliance.http.port}"

    def tree(self, client: str) -> Path:
        """Return the folder of files that `entrepot clients` wrote for *client*."""
        return self.folder / "tree" / client

    def users(self, name: str) -> set[str]:
        """Return the users that pulled manifests or blobs of the repository *name*."""
        lines = datadir.access_lines(self.appliance.state)
        return {line.user for line in lines if f"/{name}/" in line.uri and line.status == 200}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Create certificates and client files with the commands of the project; run an appliance."""
    folder = Path(tempfile.mkdtemp(prefix="ct-"))
    made = _certs(folder, "--host", "localhost", "--host", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    users = htpasswd(folder / "htpasswd", LOGIN)
    environment = ENVIRONMENT | {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(folder / "tls" / "certs" / "certs.pem"),
        "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
    }
    registry = Registry(folder / "registry")
    upstreams = {host: {"url": registry.url} for host in ("docker.io", registry.http.netloc)}
    context = ssl.create_default_context(cafile=str(folder / "tls" / "ca.pem"))
    setup = Setup(upstreams, environment=environment, tls=context)
    with registry, Appliance(folder / "appliance", setup) as appliance:
        made_world = World(registry, appliance, folder)
        _tell_clients(made_world)
        yield made_world
    shutil.rmtree(folder, ignore_errors=True)


def test_podman_trusts_it_and_logs_in(world: World, clients: Clients) -> None:
    """Podman trusts the CA in its certs.d and can log in, without a flag that disables checks."""
    image = world.registry.push("tls/podman", "v1", of_size(KB, 700))
    clients.configure(world.tree("podman"))

    login = clients.podman("login", "-u=robot", "-p=pass:word", world.address)
    pulled = clients.podman("pull", "--quiet", f"{world.registry.http.netloc}/tls/podman:v1")

    assert login.returncode == 0, login.stderr
    assert str(Digest.of(image.config)) == f"sha256:{pulled.stdout.strip()}", pulled.stderr
    assert world.users("tls/podman") == {"robot"}


def test_containerd_trusts_it_and_sends_its_login(world: World, tmp_path: Path) -> None:
    """Containerd trusts the CA and sends the login in its hosts.toml to the appliance.

    This works for image references with the host of the upstream, and with the host of the
    appliance.
    """
    image = world.registry.push("tls/containerd", "v1", of_size(KB, 701))
    with Containerd(tmp_path / "containerd") as containerd:
        containerd.configure(world.tree("containerd"))

        pulled = containerd.pull(f"{world.registry.http.netloc}/tls/containerd:v1")
        again = containerd.pull(f"{world.address}/docker.io/tls/containerd:v1")

    assert str(Digest.of(image.config)) in pulled
    assert str(Digest.of(image.config)) in again
    assert world.users("tls/containerd") == {"robot"}


def test_dockerd_trusts_it_and_logs_in_by_our_name(world: World) -> None:
    """Dockerd trusts the CA in its certs.d and can log in at the appliance's address."""
    image = world.registry.push("tls/dockerd", "v1", of_size(KB, 702))
    port, home = world.appliance.http.port, world.folder / "dockerd"
    home.mkdir()
    with Dockerd(home, ways={port: port}) as dockerd:
        dockerd.configure(world.tree("docker"))

        pulled = dockerd.pull(f"{world.address}/docker.io/tls/dockerd:v1", LOGIN)
        with pytest.raises(PullFailed, match="registry-1"):
            dockerd.pull("docker.io/tls/dockerd:v1")

    assert {str(Digest.of(image.config))} == pulled
    assert world.users("tls/dockerd") == {"robot"}


def test_dockerd_sends_a_mirror_what_it_has_for_docker_hub(world: World) -> None:
    """With its own image store, dockerd sends its login for Docker Hub to a mirror too.

    The appliance is the mirror here, so it gets that login, and must never write the login to a log
    or a response.
    """
    world.registry.push("tls/hub", "v1", of_size(KB, 705))
    port, home = world.appliance.http.port, world.folder / "dockerd-hub"
    home.mkdir()
    with Dockerd(home, ways={port: port}) as dockerd:
        dockerd.configure(world.tree("docker"))

        dockerd.pull("docker.io/tls/hub:v1", LOGIN)

    assert world.users("tls/hub") == {"robot"}


def test_a_client_that_was_not_told_of_the_authority_goes_away(
    world: World, clients: Clients
) -> None:
    """Skopeo without the appliance's CA refuses to connect, and reports an unknown authority."""
    done = clients.skopeo("inspect", f"docker://{world.address}/docker.io/tls/podman:v1")

    assert done.returncode != 0
    assert "certificate signed by unknown authority" in done.stderr


def test_the_doctor_sees_every_route_work(world: World) -> None:
    """With only a configuration and a password `entrepot doctor` tests every way to pull."""
    world.registry.push("tls/doctor", "v1", of_size(KB, 703))
    image = "docker.io/tls/doctor:v1"

    done = world.appliance.entrepot("doctor", "--user", LOGIN, "--image", image, "--json")

    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {each["what"]: each["verdict"] for each in found["findings"]} == dict.fromkeys(
        ("certificate", "registry", "login", "prefix", "ns", "default"), "works"
    )


def test_the_doctor_sees_what_a_stranger_would_see(world: World) -> None:
    """Without the CA of the appliance, `entrepot doctor` fails and advises `entrepot clients`.

    With a wrong password `entrepot doctor` reports that the login was refused.
    """
    host = ["--host", f"https://{world.address}", "--image", "tls/doctor:v1"]

    stranger = _entrepot("doctor", *host)
    wrong = _entrepot("doctor", *host, "--ca", f"{world.folder}/tls/ca.pem", "--user", "robot:x")

    assert (stranger.returncode, wrong.returncode) == (1, 1)
    assert "entrepot clients" in stranger.stdout
    assert "robot is refused: 401" in wrong.stdout


def test_the_doctor_says_what_fell_back(world: World) -> None:
    """While the upstream is down `entrepot doctor` reports stale content, and exits with 0."""
    world.registry.push("tls/stale", "v1", of_size(KB, 704))
    words = ["doctor", "--user", LOGIN, "--image", "tls/stale:v1"]
    assert world.appliance.entrepot(*words).returncode == 0
    world.registry.stop()
    try:
        done = world.appliance.entrepot(*words)
    finally:
        world.registry.start()

    assert done.returncode == 0
    assert "fell back  prefix" in done.stdout
    assert "served stale" in done.stdout


def test_a_renewed_certificate_is_served_without_a_restart(world: World) -> None:
    """A certificate that `entrepot certs` renewed is served without a restart.

    Clients trust the new certificate, because the same CA signed it.
    """
    before = _serial(world)
    pids = {each.pid for each in world.appliance.processes()}

    done = _certs(world.folder)

    assert done.returncode == 0, done.stderr
    eventually(lambda: _serial(world) != before, what="the new certificate is served")
    assert pids == {each.pid for each in world.appliance.processes()}


def _tell_clients(world: World) -> None:
    """Write the files for clients, with the CA from the chain of the appliance's certificate."""
    pair = base64.b64encode(LOGIN.encode()).decode()
    auth = world.folder / "auth.json"
    auth.write_text(json.dumps({"auths": {world.address: {"auth": pair}}}))
    words = ["--host", "127.0.0.1", "--authfile", str(auth), "--out", str(world.folder / "tree")]
    done = world.appliance.entrepot("clients", *words)
    assert done.returncode == 0, done.stderr


def _certs(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return _entrepot("certs", "--out", str(folder / "tls"), *words)


def _entrepot(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entrepot.appliance", *words],
        cwd=ROOT,
        env=processes.clean_environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _serial(world: World) -> Any:
    context = world.appliance.http.tls
    assert context is not None
    with (
        socket.create_connection(("127.0.0.1", world.appliance.http.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wire,
    ):
        return (wire.getpeercert() or {})["serialNumber"]
