"""The appliance accepts configuration and data of docker-cache-server and docker distribution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.config.sources.test_aliases import README
from tests.ports import free_port
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size
from tests.system.pulls import pull
from tests.system.pushes import as_folder, push, tags
from tests.system.registries import Registry
from tests.system.waiting import eventually

_MADE, _OTHER = of_size(KB, 720), of_size(KB, 721)
_LOGIN = "admin:admin123"
_ITS_NAMES = 7


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[Appliance]:
    """Start an appliance with docker-cache-server's variables for address, folder and TTL."""
    port, data = free_port(), tmp_path / "cache"
    theirs = {
        "DCS_SERVER_ADDRESS": "127.0.0.1",
        "DCS_SERVER_PORT": str(port),
        "DCS_STORAGE_DIRECTORY": str(data),
        "DCS_CACHE_TTL": "4s",
    }
    ours = {"REGISTRY_HTTP_ADDR": "", "REGISTRYDIR": ""}
    appliance = Appliance(tmp_path / "it", Setup(environment={**theirs, **ours}, data=data))
    appliance.http = HttpClient(port, "localhost", login=_LOGIN)
    appliance.file.write_text(README)
    with appliance:
        yield appliance


def test_the_configuration_of_docker_cache_servers_readme_works(
    moved: Appliance, clients: Clients, tmp_path: Path
) -> None:
    """The configuration in docker-cache-server's README works: logins, pushes and expiry.

    Each key of docker-cache-server, except the key for users, causes a warning with the new name.
    """
    netloc = moved.http.netloc
    assert clients.login(netloc, "admin:guess").returncode != 0
    assert clients.login(netloc, _LOGIN).returncode == 0
    for name, made in (("wanted", _MADE), ("forgotten", _OTHER)):
        source = as_folder(made, tmp_path / name)
        target = f"docker://{netloc}/myimage:{name}"
        done = clients.skopeo("copy", "--dest-tls-verify=false", source, target)
        assert done.returncode == 0, done.stderr
    assert clients.pull(f"{netloc}/myimage:wanted")

    def only_wanted() -> bool:
        assert moved.http.get("/v2/myimage/manifests/wanted").status == 200
        return tags(moved.http, "myimage") == ["wanted"]

    eventually(only_wanted, what="the image without a pull is gone", within=30)
    layer = Digest.of(_MADE.layers[0])
    assert moved.http.get(f"/v2/myimage/blobs/{layer}").status == 200
    eventually(lambda: not tags(moved.http, "myimage"), what="the other image expires", within=30)
    lines = [line for line in moved.output().splitlines() if "docker-cache-server's name" in line]
    assert len(lines) == _ITS_NAMES


def test_a_repository_under_an_upstreams_name_is_served_once_that_upstream_is_disabled(
    tmp_path: Path,
) -> None:
    """A stored repository whose name begins with the host of a disabled upstream is hosted."""
    name = "quay.io/team/app"
    with Registry(tmp_path / "before") as before:
        before.push(name, "v1", _MADE)
    appliance = Appliance(tmp_path / "it", Setup(data=tmp_path / "before" / "storage"))
    refused = appliance.launch()
    assert refused.wait(timeout=30) == 2
    appliance.kill()
    assert "set upstreams.quay.io.enabled: false" in appliance.output()

    appliance.file.write_text("version: 0.1\nupstreams:\n  quay.io:\n    enabled: false\n")
    with appliance:
        assert pull(appliance.http, name, "v1")
        assert push(appliance.http, name, "v2", _OTHER)
        assert tags(appliance.http, name) == ["v1", "v2"]
