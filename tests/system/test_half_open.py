"""Usual clients pull without a login and push with one (`auth.anonymous: pull`).

oras is not tested, because no package of Debian 12, PyPI or npm has it. Like containerd, oras sends
its password only after a challenge. Unlike containerd, oras requests `/v2/` for a login.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.containerd import Containerd
from tests.system.dockerd import Dockerd
from tests.system.images import KB, of_size
from tests.system.pushes import as_folder, tags
from tests.system.registries import Registry, htpasswd

ALICE, WRONG = "alice:sesame", "alice:guess"
NAME = "one.test/half/app"
_DOCKERS = of_size(16 * KB, 441, family="docker")
_PLAIN = ("--tls-verify=false",)


@pytest.fixture(scope="module", params=[False, True], ids=["passwords", "tokens"])
def half_open(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, public: Registry
) -> Iterator[Appliance]:
    """Run an appliance with a user and anonymous pulls, with and without its token endpoint."""
    folder = tmp_path_factory.mktemp("halfopen")
    public.push("half/app", "v1", _DOCKERS)
    settings = {
        "auth": {
            "htpasswd": {
                "path": str(htpasswd(folder / "htpasswd", ALICE)),
                "token": request.param,
            },
            "anonymous": "pull",
        },
        "proxy": {"default": "one.test"},
        "hosted": {"team/**": {}},
    }
    with Appliance(folder, Setup({"one.test": {"url": public.url}}, settings)) as appliance:
        yield appliance


@pytest.fixture
def home() -> Iterator[Path]:
    """Create a folder with a short path, because the length of a socket's path is limited."""
    folder = Path(tempfile.mkdtemp(prefix="ho-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_podman_and_buildah_pull_anonymously_and_push_after_a_login(
    half_open: Appliance, clients: Clients
) -> None:
    """Podman and buildah pull without a login, but push only after a successful login."""
    netloc = half_open.http.netloc
    own = clients.pull(f"{netloc}/{NAME}:v1")
    clients.buildah("pull", "--quiet", *_PLAIN, f"{netloc}/{NAME}:v1")
    assert clients.podman("push", *_PLAIN, own, f"{netloc}/team/podman:v1").returncode != 0
    assert clients.login(netloc, WRONG).returncode != 0

    assert clients.login(netloc, ALICE).returncode == 0
    pushed = clients.podman("push", *_PLAIN, own, f"{netloc}/team/podman:v1")
    assert pushed.returncode == 0, pushed.stderr
    clients.buildah("push", *_PLAIN, own, f"docker://{netloc}/team/buildah:v1")

    assert tags(half_open.http, "team/podman") == tags(half_open.http, "team/buildah") == ["v1"]
    clients.podman("logout", netloc)
    clients.forget()
    assert clients.pull(f"{netloc}/team/podman:v1")


def test_skopeo_copies_anonymously_and_pushes_with_a_login(
    half_open: Appliance, clients: Clients, tmp_path: Path
) -> None:
    """Skopeo can pull without credentials, but push only with the right credentials."""
    netloc = half_open.http.netloc
    done = clients.copy(f"{netloc}/{NAME}:v1", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    source, target = as_folder(_DOCKERS, tmp_path / "own"), f"docker://{netloc}/team/skopeo:v1"

    def push(*credentials: str) -> int:
        plain = ("--dest-tls-verify=false", *credentials)
        return clients.skopeo("copy", *plain, source, target).returncode

    assert push() != 0
    assert push(f"--dest-creds={WRONG}") != 0
    assert push(f"--dest-creds={ALICE}") == 0
    assert tags(half_open.http, "team/skopeo") == ["v1"]


def test_dockerd_pulls_anonymously_and_pushes_with_a_login(
    half_open: Appliance, home: Path
) -> None:
    """Dockerd pulls without a login, and pushes with the right login.

    A pull with an unknown login must succeed too: dockerd sends its login for Docker Hub to a
    mirror. A refused push is not tested, because dockerd repeats it for a minute.
    """
    netloc, port = half_open.http.netloc, half_open.http.port
    (home / "tree" / "etc" / "docker").mkdir(parents=True)
    with Dockerd(home, ways={port: port}) as dockerd:
        dockerd.configure(home / "tree")
        assert dockerd.pull(f"{netloc}/{NAME}:v1") == {str(Digest.of(_DOCKERS.config))}
        assert not dockerd.login(netloc, WRONG)

        assert dockerd.login(netloc, ALICE)
        dockerd.push(f"{netloc}/{NAME}:v1", f"{netloc}/team/docker", "v1", ALICE)
        dockerd.forget()
        assert dockerd.pull(f"{netloc}/half/app:v1", "somebody:at-docker-hub")
        dockerd.forget()
        assert dockerd.pull(f"{netloc}/team/docker:v1", ALICE)

    assert tags(half_open.http, "team/docker") == ["v1"]


def test_containerd_pulls_anonymously_and_pushes_with_a_login(
    half_open: Appliance, home: Path
) -> None:
    """Containerd pulls without a login, and pushes only with the right login.

    Containerd sends its login after a challenge, and never requests `/v2/`.
    """
    netloc = half_open.http.netloc
    with Containerd(home / "containerd") as containerd:
        image = f"{netloc}/{NAME}:v1"
        assert containerd.pull(image)

        assert not containerd.push(image, f"{netloc}/team/containerd:v1")
        assert not containerd.push(image, f"{netloc}/team/containerd:v1", WRONG)
        assert containerd.push(image, f"{netloc}/team/containerd:v1", ALICE)

    assert tags(half_open.http, "team/containerd") == ["v1"]
