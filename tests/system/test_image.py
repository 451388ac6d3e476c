"""The image: what is in it, and the ways to run it, each as an operator would write it."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.appliance.privileges.users import NEEDED
from tests.system import mounts
from tests.system.clients import Clients
from tests.system.containers import Engine, running
from tests.system.http_client import HttpClient
from tests.system.images import FULL, KB, of_size
from tests.system.mounts import HARDENED, LOGIN, Mounts
from tests.system.registries import Registry
from tests.system.waiting import eventually

pytestmark = pytest.mark.timeout(600)  # whoever is first builds the image

PROGRAMS = ("serve", "supervisord", "haproxy", "registry", "logger", "cleaner")
LARGEST = 120 * 10**6  # bytes above its base


# ---- what is in it


def test_it_is_small(podman: Engine, image: str) -> None:
    """At most 120 MB above its base."""
    base = podman.size("docker.io/library/debian:trixie-slim")

    assert podman.size(image) - base <= LARGEST


def test_it_holds_nothing_that_only_a_build_needs(podman: Engine, image: str) -> None:
    """No compiler, no pip, no lists of packages, no secret, no code that is not ours to run."""
    found = podman.podman(
        *("run", "--rm", "--entrypoint=sh", image, "-c"),
        "ls -d /src /wheels /build /run/secrets/pip_ca /opt/entrepot/bin/pip* ~/.cache/*"
        " /var/lib/apt/lists/* /opt/entrepot/lib/python3*/site-packages/pip 2>/dev/null;"
        " command -v gcc cc make pip pip3 git curl; exit 0",
    )

    assert found == ""


def test_it_says_what_it_is(podman: Engine, image: str) -> None:
    """Labels, ports, volume, user, and how it is started, stopped and asked for its health."""
    told = podman.podman("image", "inspect", "--format={{json .Config}}", image)
    version = podman.podman("run", "--rm", image, "version").removeprefix("entrepot ")

    for said in (
        f'"org.opencontainers.image.version":"{version}"',
        '"org.opencontainers.image.licenses":"Apache-2.0"',
        '"org.opencontainers.image.base.name":"docker.io/library/debian:trixie-slim"',
        '"ExposedPorts":{"5000/tcp":{},"8443/tcp":{}}',
        '"Volumes":{"/var/lib/registry":{}}',
        '"Entrypoint":["entrepot"]',
        '"Cmd":["serve"]',
        '"StopSignal":"SIGTERM"',
    ):
        assert said in told
    assert '"User"' not in told
    check = podman.podman("image", "inspect", "--format={{json .HealthCheck}}", image)
    assert '"Test":["CMD","entrepot","healthy"]' in check


# ---- as it is printed


def test_the_command_of_the_readme_works_as_it_is_printed(
    podman: Engine, image: str, mounted: Mounts
) -> None:
    """Data of root's with mode 0755, files of root's with mode 0600, TLS and passwords."""
    options, port = mounts.as_printed()
    with running(podman, image, *options, cwd=mounted.folder) as container:
        tls = ssl.create_default_context(cafile=str(mounted.ca))
        http = HttpClient(port, "localhost", tls=tls)
        answers = [each.get("/v2/").status for each in (replace(http, login=LOGIN), http)]
        first, *others = container.processes()

        assert answers == [200, 401]
        assert first[0] == 0
        assert {uid for uid, _ in others} == {5000}
        assert all(any(each in line for _, line in others) for each in PROGRAMS)
        assert container.is_healthy()
        assert "up " in container.execute("entrepot", "status").stdout
        assert container.execute("entrepot", "clean", "--once").returncode == 0
        assert {each.stat().st_uid for each in (mounted.data, *mounted.data.rglob("*"))} == {5000}
        assert mounted.secret.stat().st_mode & 0o777 == 0o600
        ended = container.stop()
        assert ended.code == 0, ended.output  # 137: it had to be killed


def test_who_leaves_the_secret_out_gets_the_public_registries(podman: Engine, image: str) -> None:
    """Nothing mounted, nothing said: it serves."""
    with running(podman, image) as container:
        assert "docker.io quay.io" in container.logs()


def test_the_configuration_of_registry_3_is_in_force(
    podman: Engine, image: str, tmp_path: Path
) -> None:
    """Mounted where that looks: its proxy, and its passwords, so that nothing is open."""
    file = tmp_path / "config.yml"
    users = "ann: $2y$05$" + "a" * 53
    file.write_text(
        f"version: 0.1\nauth: {{htpasswd: {{realm: r, users: {{{users}}}}}}}\n"
        "proxy: {remoteurl: 'https://registry.example'}\n"
    )
    with running(podman, image, f"--volume={file}:/etc/distribution/config.yml:ro") as container:
        said = container.logs()

    assert "upstreams=registry.example" in said
    assert "every client that can reach it" not in said


# ---- without root


def test_hardened_it_serves_podman_and_a_second_start_serves_from_disk(
    podman: Engine, image: str, mounted: Mounts, clients: Clients
) -> None:
    """No root, no capability, a read-only root; TLS, passwords; then no upstream to ask."""
    mounted.open_to_all()
    with Registry(mounted.folder / "upstream") as upstream:
        upstream.push("team/app", "v1", of_size(64 * KB, 900))
        options, netloc = mounted.on_the_host({"one.test": {"url": upstream.url}})
        with running(podman, image, "--user=1000", *HARDENED, *options) as container:
            assert {uid for uid, _ in container.processes()} == {1000}
            before = _pulled(clients, netloc, mounted)
            assert container.is_healthy()
            assert container.stop().code == 0
    clients.forget()

    with running(podman, image, "--user=1000", *HARDENED, *options):
        assert _pulled(clients, netloc, mounted) == before


def test_an_arbitrary_user_of_group_0_serves(podman: Engine, image: str) -> None:
    """OpenShift's: no line in /etc/passwd, no HOME, a fresh volume."""
    options = ("--user=1000650000:0", "--env=HOME=", "--cap-drop=ALL")
    with running(podman, image, *options) as container:
        assert {uid for uid, _ in container.processes()} == {1000650000}
        assert container.is_healthy()
        assert container.stop().code == 0


def test_the_image_s_own_user_may_be_named(podman: Engine, image: str) -> None:
    """As Kubernetes has it, where root is not allowed to start anything."""
    with running(podman, image, "--user=5000:5000", *HARDENED) as container:
        assert {uid for uid, _ in container.processes()} == {5000}


def test_root_with_few_rights_gives_itself_up_all_the_same(
    podman: Engine, image: str, mounted: Mounts
) -> None:
    """What the systemd unit allows it is enough."""
    rights = [f"--cap-add={each}" for each in NEEDED]
    secret = f"--volume={mounted.secret}:/pull-secret.json:ro"
    with running(podman, image, *HARDENED, *rights, secret) as container:
        first, *others = [uid for uid, _ in container.processes()]
        assert (first, set(others)) == (0, {5000})


def test_root_without_rights_serves_as_root_and_says_so(podman: Engine, image: str) -> None:
    """It can't become anybody else, and better that than no appliance."""
    with running(podman, image, *HARDENED) as container:
        assert {uid for uid, _ in container.processes()} == {0}
        assert "all programs run as root, which lacks CAP_CHOWN" in container.logs()


# ---- starting and ending


def test_a_killed_one_starts_again_and_clears_up(
    podman: Engine, image: str, mounted: Mounts
) -> None:
    """Sockets, pipes and copies of secrets that the killed one has left."""
    secret = f"--volume={mounted.secret}:/pull-secret.json"
    with running(podman, image, secret) as container:
        podman.podman("kill", container.name)
        eventually(lambda: not container.inspect()["State"]["Running"], what="it is dead")
        container.start()
        eventually(lambda: container.logs().count(" serving ") == 2, what="it serves again")

        left = container.execute("sh", "-c", "ls -d /tmp/entrepot-*").stdout.split()
        assert len(left) == 2  # one run directory, one folder of copies


def test_data_of_root_s_is_taken_over_once(podman: Engine, image: str, mounted: Mounts) -> None:
    """What registry:2 has left belongs to root; the second start has nothing to do."""
    blob = mounted.data / "docker/registry/v2/blobs/sha256/aa/aabb/data"
    blob.parent.mkdir(parents=True)
    blob.write_text("old")
    mount = f"--volume={mounted.data}:/var/lib/registry"
    with running(podman, image, mount) as container:
        assert blob.stat().st_uid == 5000
        container.stop()
        container.start()
        eventually(lambda: container.logs().count(" serving ") == 2, what="it serves again")

        assert container.logs().count("data directory taken over") == 1


@pytest.mark.soak
@pytest.mark.skipif(not FULL, reason="make soak builds it on the older base, too")
def test_it_builds_and_serves_on_bookworm(podman: Engine) -> None:
    """Python 3.11 and HAProxy 2.6 are the oldest that will do."""
    image = podman.build("bookworm")
    with running(podman, image) as container:
        assert container.is_healthy()
        assert container.stop().code == 0
    base = podman.size("docker.io/library/debian:bookworm-slim")
    assert podman.size(image) - base <= LARGEST


def _pulled(clients: Clients, netloc: str, mounted: Mounts) -> str:
    """Pull with podman, over TLS and with a password; return the image's ID."""
    trust = (f"--cert-dir={mounted.ca.parent}", f"--creds={LOGIN}")
    done = clients.podman("pull", "--quiet", *trust, f"{netloc}/one.test/team/app:v1")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
