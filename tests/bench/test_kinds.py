"""The configuration of each server has only the necessary settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.content import image
from bench.errors import Unusable
from bench.kinds import ISSUER, NGINX, OURS, REALM, REGISTRY, SERVICE, Kind, Plan, known
from bench.nginx import configuration, lay_out


def _kind(name: str, peers: str = "") -> Kind:
    return next(kind for kind in known(peers) if kind.name == name)


def _configuration(kind: Kind, plan: Plan) -> dict[str, dict[str, object]]:
    kind.launch(plan)
    document: dict[str, dict[str, object]] = json.loads((plan.folder / "config.yml").read_text())
    return document


def test_three_servers_are_compared_by_default() -> None:
    """By default, the benchmark compares three servers: docker-registry, nginx and entrepot."""
    assert [kind.name for kind in known()] == [REGISTRY, NGINX, OURS]


def test_peers_are_listed_between_them() -> None:
    """Other caches, the peers, are listed between docker-registry and nginx."""
    names = [
        kind.name for kind in known(f"distribution3={sys.executable},drayage={sys.executable}")
    ]

    assert names == [REGISTRY, "distribution3", "drayage", NGINX, OURS]


def test_docker_distribution_3_is_a_peer_with_a_variable_of_its_own() -> None:
    """If the path of docker distribution 3 is given, it is a peer, with or without other peers."""
    alone = [kind.name for kind in known(registry3=sys.executable)]
    both = [kind.name for kind in known(f"drayage={sys.executable}", sys.executable)]

    assert alone == [REGISTRY, "distribution3", NGINX, OURS]
    assert both == [REGISTRY, "distribution3", "drayage", NGINX, OURS]


@pytest.mark.parametrize(
    ("peers", "message"),
    [
        ("harbor=/bin/true", "harbor is not a known peer"),
        ("drayage=/nowhere", "is not an executable file"),
        ("drayage", "an empty path"),
    ],
    ids=["unknown", "absent", "without a path"],
)
def test_an_unusable_peer_is_reported_before_the_run(peers: str, message: str) -> None:
    """A peer whose program is missing or unusable is reported before the first measurement."""
    with pytest.raises(Unusable, match=message):
        known(peers)


def test_a_plain_cache_has_stock_settings_and_the_upstream(tmp_path: Path) -> None:
    """docker-registry as a cache is measured with its default settings and the upstream's URL."""
    written = _configuration(_kind(REGISTRY), Plan(tmp_path, "http://127.0.0.1:1"))

    assert written["proxy"] == {"remoteurl": "http://127.0.0.1:1"}
    assert written["storage"]["cache"] == {"blobdescriptor": "inmemory"}
    assert "auth" not in written


@pytest.mark.parametrize("name", [REGISTRY, OURS])
def test_a_cache_with_passwords_has_the_path_of_the_htpasswd_file(
    tmp_path: Path, name: str
) -> None:
    """If clients need a password, the server's configuration has the path of the htpasswd file."""
    plan = Plan(tmp_path, "http://127.0.0.1:1", "a:b", tmp_path / "htpasswd")
    written = _configuration(_kind(name), plan)

    assert written["auth"]["htpasswd"] == {"realm": "bench", "path": str(tmp_path / "htpasswd")}


@pytest.mark.parametrize("name", [REGISTRY, OURS])
def test_clients_use_tls_for_a_cache_with_tls(tmp_path: Path, name: str) -> None:
    """If a cache is started with TLS, its clients use TLS too."""
    launch = _kind(name).launch(Plan(tmp_path, pem=tmp_path / "bench.pem"))

    assert launch.address.url("/v2/").startswith("https://")
    assert str(tmp_path / "bench.pem") in (tmp_path / "config.yml").read_text()


def test_entrepot_gets_only_address_folder_and_upstream(tmp_path: Path) -> None:
    """Entrepot gets only its address, folder and upstream, so its default settings are measured."""
    launch = _kind(OURS).launch(Plan(tmp_path, "http://127.0.0.1:1"))
    written = json.loads((tmp_path / "config.yml").read_text())

    assert written == {"upstreams": {"upstream.bench": {"url": "http://127.0.0.1:1"}}}
    assert set(launch.environment) == {"PYTHONPATH", "REGISTRYDIR", "REGISTRY_HTTP_ADDR"}


def test_drayage_is_left_out_of_password_and_tls_rows(tmp_path: Path) -> None:
    """Drayage is not measured in rows with passwords or TLS, because it supports neither."""
    drayage = _kind("drayage", f"drayage={sys.executable}")

    assert drayage.can(Plan(tmp_path))
    assert not drayage.can(Plan(tmp_path, htpasswd=tmp_path / "x"))
    assert not drayage.can(Plan(tmp_path, pem=tmp_path / "x"))


def test_nginx_serves_the_same_bytes_under_the_same_paths(tmp_path: Path) -> None:
    """Nginx serves the same bytes as a registry at the same URL paths, so costs can be compared."""
    made = image("library/app", (10, 20))
    lay_out(tmp_path, [made])
    shown = tmp_path / "v2" / "library" / "app"

    assert (shown / "manifests" / "latest").read_bytes() == made.manifest
    assert (shown / "manifests" / made.digest).read_bytes() == made.manifest
    assert (shown / "blobs" / made.blob(20)).read_bytes() in made.blobs


def test_nginx_needs_no_folder_of_the_system(tmp_path: Path) -> None:
    """Nginx writes only into the benchmark's folder: elsewhere a plain user has no permission."""
    text = configuration(tmp_path, tmp_path, port=1, pem=None)
    written = [line.split()[1] for line in text.splitlines() if "_temp_path" in line]

    assert len(written) == 5
    assert all(path.startswith(str(tmp_path)) for path in written)


def test_an_image_is_the_same_each_time() -> None:
    """An image of the benchmark is the same in each run, so the results of runs are comparable."""
    assert image("library/app", (10, 20)) == image("library/app", (10, 20))
    assert image("library/app", (10,)) != image("library/other", (10,))


@pytest.mark.parametrize("name", [REGISTRY, OURS])
def test_tokens_are_required_from_the_same_token_server(tmp_path: Path, name: str) -> None:
    """Entrepot and docker-registry get the same token configuration."""
    written = _configuration(_kind(name), Plan(tmp_path, tokens=tmp_path / "tokens.pem"))

    token = written["auth"]["token"]
    assert token == {
        "realm": REALM,
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(tmp_path / "tokens.pem"),
    }
