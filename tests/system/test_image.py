"""The container image: its content, and the ways in which an operator runs it."""

from __future__ import annotations

import re
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

pytestmark = pytest.mark.timeout(600)  # the first test that uses the image has to build it

PROGRAMS = ("serve", "supervisord", "haproxy", "registry", "logger", "cleaner")
LARGEST = 120 * 10**6  # bytes, without the base image


# ---- the content of the image


def test_the_image_is_small(podman: Engine, image: str) -> None:
    """The container image is at most 120 MB larger than its base."""
    base = podman.size("docker.io/library/debian:trixie-slim")

    assert podman.size(image) - base <= LARGEST


def test_the_image_contains_no_build_tools_or_secrets(podman: Engine, image: str) -> None:
    """The image has no compiler, pip, package lists, build secret, or source folder."""
    found = podman.podman(
        *("run", "--rm", "--entrypoint=sh", image, "-c"),
        "ls -d /src /wheels /build /run/secrets/pip_ca /opt/entrepot/bin/pip* ~/.cache/*"
        " /var/lib/apt/lists/* /opt/entrepot/lib/python3*/site-packages/pip 2>/dev/null;"
        " command -v gcc cc make pip pip3 git curl; exit 0",
    )

    assert found == ""


def test_the_image_has_labels_ports_volume_and_health_check(podman: Engine, image: str) -> None:
    """The image has labels, two ports, a volume and a health check, but no user.

    The entry point runs as root, and starts the other programs as another user.
    """
    config = podman.podman("image", "inspect", "--format={{json .Config}}", image)
    version = podman.podman("run", "--rm", image, "version").removeprefix("entrepot ")

    for expected in (
        f'"org.opencontainers.image.version":"{version}"',
        '"org.opencontainers.image.licenses":"Apache-2.0"',
        '"org.opencontainers.image.base.name":"docker.io/library/debian:trixie-slim"',
        '"ExposedPorts":{"5000/tcp":{},"8443/tcp":{}}',
        '"Volumes":{"/var/lib/registry":{}}',
        '"Entrypoint":["entrepot"]',
        '"Cmd":["serve"]',
        '"StopSignal":"SIGTERM"',
    ):
        assert expected in config
    assert '"User"' not in config
    check = podman.podman("image", "inspect", "--format={{json .HealthCheck}}", image)
    assert '"Test":["CMD","entrepot","healthy"]' in check


def test_the_image_starts_under_the_names_of_the_registry_image(podman: Engine, image: str) -> None:
    """The image has the programs `/bin/registry` and `/entrypoint.sh`, which charts start."""
    for program in ("/bin/registry", "/entrypoint.sh"):
        found = podman.podman("run", "--rm", f"--entrypoint={program}", image, "--version")
        assert found.startswith("entrepot ")


# ---- the image as the README runs it


def test_the_command_in_the_readme_works_unchanged(
    podman: Engine, image: str, mounted: Mounts
) -> None:
    """The command in the README works, with TLS, passwords, and files that root owns.

    The data directory has mode 0755, and the files have mode 0600.
    """
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
        # 137 would mean that podman had to kill the container
        assert ended.code == 0, ended.output
        # requests are logged, except requests of the health check
        assert re.search(r' - alice \[.*\] "GET /v2/ HTTP/1.1" 200 ', ended.output), ended.output
        assert "/healthz" not in ended.output


def test_without_a_secret_the_public_registries_are_upstreams(podman: Engine, image: str) -> None:
    """A container without any mount or setting serves docker.io and quay.io."""
    with running(podman, image) as container:
        assert "docker.io quay.io" in container.logs()


def test_the_configuration_file_of_registry_3_is_read(
    podman: Engine, image: str, tmp_path: Path
) -> None:
    """A configuration file is read from the path at which the image registry:3 expects it.

    The appliance uses the proxy and the users in this file.
    """
    file = tmp_path / "config.yml"
    users = "ann: $2y$05$" + "a" * 53
    file.write_text(
        f"version: 0.1\nauth: {{htpasswd: {{realm: r, users: {{{users}}}}}}}\n"
        "proxy: {remoteurl: 'https://registry.example'}\n"
    )
    with running(podman, image, f"--volume={file}:/etc/distribution/config.yml:ro") as container:
        output = container.logs()

    assert "upstreams=registry.example" in output
    assert "every client that can reach it" not in output


# ---- containers without root


def test_a_hardened_container_serves_and_serves_from_disk_after_a_restart(
    podman: Engine, image: str, mounted: Mounts, clients: Clients
) -> None:
    """A container without root, without capabilities and with read-only files serves with TLS.

    After a restart the container serves from disk while the upstream is down.
    """
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
    """The image runs as an arbitrary user of group 0, as in OpenShift.

    That user is not in /etc/passwd, has no HOME, and gets a new volume.
    """
    options = ("--user=1000650000:0", "--env=HOME=", "--cap-drop=ALL")
    with running(podman, image, *options) as container:
        assert {uid for uid, _ in container.processes()} == {1000650000}
        assert container.is_healthy()
        assert container.stop().code == 0


def test_the_images_own_user_may_be_given(podman: Engine, image: str) -> None:
    """The container runs as the image's own user, as in a Kubernetes cluster that forbids root."""
    with running(podman, image, "--user=5000:5000", *HARDENED) as container:
        assert {uid for uid, _ in container.processes()} == {5000}


def test_root_with_few_capabilities_changes_its_user(
    podman: Engine, image: str, mounted: Mounts
) -> None:
    """The capabilities that the systemd unit grants are enough to change to another user."""
    rights = [f"--cap-add={each}" for each in NEEDED]
    secret = f"--volume={mounted.secret}:/pull-secret.json:ro"
    with running(podman, image, *HARDENED, *rights, secret) as container:
        first, *others = [uid for uid, _ in container.processes()]
        assert (first, set(others)) == (0, {5000})


def test_root_without_capabilities_serves_as_root_and_logs_it(podman: Engine, image: str) -> None:
    """A container that starts as root without CAP_CHOWN serves as root, and logs this."""
    with running(podman, image, *HARDENED) as container:
        assert {uid for uid, _ in container.processes()} == {0}
        assert "all programs run as root, which lacks CAP_CHOWN" in container.logs()


# ---- the start and the end of a container


def test_a_killed_container_starts_again_and_removes_old_files(
    podman: Engine, image: str, mounted: Mounts
) -> None:
    """After a kill, the container's next start succeeds and removes the files of the killed run.

    A killed container cannot delete its sockets, pipes and copies of secrets.
    """
    secret = f"--volume={mounted.secret}:/pull-secret.json"
    with running(podman, image, secret) as container:
        podman.podman("kill", container.name)
        eventually(lambda: not container.inspect()["State"]["Running"], what="it has exited")
        container.start()
        eventually(lambda: container.logs().count(" serving ") == 2, what="it has started again")

        left = container.execute("sh", "-c", "ls -d /tmp/entrepot-*").stdout.split()
        assert len(left) == 2  # the run directory, and the folder with copies of secrets


def test_data_of_root_is_taken_over_once(podman: Engine, image: str, mounted: Mounts) -> None:
    """At the first start, stored files that belong to root get the image's user as their owner.

    registry:2 runs as root, so its files belong to root.
    """
    blob = mounted.data / "docker/registry/v2/blobs/sha256/aa/aabb/data"
    blob.parent.mkdir(parents=True)
    blob.write_text("old")
    mount = f"--volume={mounted.data}:/var/lib/registry"
    with running(podman, image, mount) as container:
        assert blob.stat().st_uid == 5000
        container.stop()
        container.start()
        eventually(lambda: container.logs().count(" serving ") == 2, what="it has started again")

        assert container.logs().count("the data directory was taken over") == 1


@pytest.mark.soak
@pytest.mark.skipif(not FULL, reason="only make soak builds it on the older base")
def test_the_image_builds_and_serves_on_bookworm(podman: Engine) -> None:
    """The image builds and serves on bookworm, which has Python 3.11 and HAProxy 2.6."""
    image = podman.build("bookworm")
    with running(podman, image) as container:
        assert container.is_healthy()
        assert container.stop().code == 0
    base = podman.size("docker.io/library/debian:bookworm-slim")
    assert podman.size(image) - base <= LARGEST


def _pulled(clients: Clients, netloc: str, mounted: Mounts) -> str:
    """Pull the image with podman, over TLS and with a password; return its ID."""
    trust = (f"--cert-dir={mounted.ca.parent}", f"--creds={LOGIN}")
    done = clients.podman("pull", "--quiet", *trust, f"{netloc}/one.test/team/app:v1")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
