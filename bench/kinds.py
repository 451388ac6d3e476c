"""Define how each of the compared servers is configured and started.

Each cache has its default configuration, except for the settings that a row needs: the upstream,
passwords, tokens, TLS, an endpoint for events, or no cache in HAProxy.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.address import ServerAddress, free_port
from bench.errors import Unusable
from bench.nginx import NGINX_CONFIGURATION, NGINX_DURABILITY, nginx_words
from bench.server import Launch

ROOT = Path(__file__).resolve().parents[1]
REGISTRY, NGINX, OURS = "docker-registry", "nginx", "entrepot"
NAME = "upstream.bench"
"""The name of the upstream in the appliance's configuration."""
REALM, SERVICE, ISSUER = "http://127.0.0.1/token", "bench", "bench-issuer"
"""The token server's settings in the configuration. No process listens at the URL REALM."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings with which one server is started.

    `folder` is for all files of the server, and `upstream` is a URL. `htpasswd` is the path of a
    password file, or None if clients need no password. `pem` is the path of a certificate, or None
    for plain HTTP. `login` is the user and password that clients send. `static` is the folder that
    nginx serves. `tokens` is the path of a file with the certificates of the keys that sign tokens.
    `endpoint` is the URL of a receiver of events. If `has_edge_cache` is false, the appliance's
    HAProxy caches nothing.
    """

    folder: Path
    upstream: str = ""
    login: str = ""
    htpasswd: Path | None = None
    pem: Path | None = None
    static: Path | None = None
    tokens: Path | None = None
    endpoint: str = ""
    has_edge_cache: bool = True

    @property
    def is_plain(self) -> bool:
        """Return whether the server has no passwords, no TLS and no endpoint for events."""
        return self.htpasswd is None and self.pem is None and not self.endpoint


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the compared servers.

    `configuration` and `durability` are texts for the report: how the server is configured, and
    how it makes its writes durable. `launch` writes the configuration files and returns the command
    line. `can` returns whether the server supports a plan.
    """

    name: str
    configuration: str
    durability: str
    launch: Callable[[Plan], Launch]
    is_cache: bool = True
    can: Callable[[Plan], bool] = field(default=lambda _: True)
    takes_tokens: bool = True


def known(peers: str = "", registry3: str = "") -> list[Kind]:
    """Return the servers to compare, including the *peers* (`NAME=PATH,...`).

    *registry3* is the path of docker distribution 3, or empty. Raises: Unusable.
    """
    if registry3:
        peers = ",".join(filter(None, (f"distribution3={registry3}", peers)))
    named = [_peer(*each.partition("=")) for each in peers.split(",") if each]
    return [_registry(REGISTRY, "docker-registry", {}), *named, _nginx(), _ours()]


def upstream(folder: Path, port: int) -> Launch:
    """Return the command line of the upstream, a docker-registry with its default configuration."""
    return _registry_launch(("docker-registry", "serve"), {}, Plan(folder), port=port)


def _peer(name: str, _: str, path: str) -> Kind:
    if name not in _PEERS:
        raise Unusable(f"BENCH_PEERS: {name} is not a known peer; use {' or '.join(_PEERS)}")
    if not os.access(path, os.X_OK):
        message = f"{name}: {path or 'an empty path'} is not an executable file"
        raise Unusable(f"BENCH_PEERS or BENCH_REGISTRY3: {message}")
    return _PEERS[name](path)


# ---- docker distribution, versions 2.8 and 3


def _registry(name: str, program: str, environment: Mapping[str, str]) -> Kind:
    words = (program, "serve")
    return Kind(
        name,
        "Debian's config.yml (filesystem, descriptors in memory, access log), and proxy.remoteurl",
        "fsync of each file before its rename, but no fsync of the folder",
        lambda plan: _registry_launch(words, environment, plan, port=free_port()),
    )


def _registry_launch(
    words: tuple[str, ...], environment: Mapping[str, str], plan: Plan, *, port: int
) -> Launch:
    document: dict[str, Any] = {
        "version": 0.1,
        "log": {"fields": {"service": "registry"}},
        "storage": {
            "cache": {"blobdescriptor": "inmemory"},
            "filesystem": {"rootdirectory": str(plan.folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}"} | _distribution_tls(plan),
    }
    if plan.upstream:
        document["proxy"] = {"remoteurl": plan.upstream}
    if auth := _auth(plan):
        document["auth"] = auth
    document |= _notifications(plan)
    file = _write(plan.folder / "config.yml", document)
    address = ServerAddress(port, login=plan.login, tls=plan.pem is not None)
    return Launch((*words, str(file)), plan.folder, address, environment=environment)


def _auth(plan: Plan) -> dict[str, Any]:
    if plan.tokens:
        names = {"realm": REALM, "service": SERVICE, "issuer": ISSUER}
        return {"token": names | {"rootcertbundle": str(plan.tokens)}}
    if plan.htpasswd:
        return {"htpasswd": {"realm": "bench", "path": str(plan.htpasswd)}}
    return {}


def _notifications(plan: Plan) -> dict[str, Any]:
    endpoints = [{"name": "bench", "url": plan.endpoint}] if plan.endpoint else []
    return {"notifications": {"endpoints": endpoints}} if endpoints else {}


def _distribution_tls(plan: Plan) -> dict[str, Any]:
    pem = str(plan.pem)
    return {"tls": {"certificate": pem, "key": pem}} if plan.pem else {}


def _distribution3(path: str) -> Kind:
    return _registry("distribution3", path, {"OTEL_TRACES_EXPORTER": "none"})


# ---- drayage, another cache for registries


def _drayage(path: str) -> Kind:
    return Kind(
        "drayage",
        "the output of `drayage init`, with the benchmark's upstream in place of Docker Hub",
        "no fsync",
        lambda plan: _drayage_launch(path, plan),
        can=lambda plan: plan.is_plain,
        takes_tokens=False,
    )


def _drayage_launch(path: str, plan: Plan) -> Launch:
    port = free_port()
    file = plan.folder / "config.toml"
    (plan.folder / "data").mkdir()  # drayage exits if its data folder does not exist
    lines = [
        f'listen = "127.0.0.1:{port}"',
        f'cache_dir = "{plan.folder}/data"',
        "manifest_ttl_seconds = 900",
        "[upstreams.docker_io]",
        f'registry = "{plan.upstream}"',
    ]
    file.write_text("\n".join(lines) + "\n")
    return Launch((path, "serve", "--config", str(file)), plan.folder, ServerAddress(port))


_PEERS: Mapping[str, Callable[[str], Kind]] = {
    "distribution3": _distribution3,
    "drayage": _drayage,
}


# ---- nginx, as the lower limit of the cost


def _nginx() -> Kind:
    return Kind(NGINX, NGINX_CONFIGURATION, NGINX_DURABILITY, _nginx_launch, is_cache=False)


def _nginx_launch(plan: Plan) -> Launch:
    port = free_port()
    words, ready = nginx_words(plan.folder, plan.static or plan.folder, port=port, pem=plan.pem)
    return Launch(words, plan.folder, ServerAddress(port, tls=plan.pem is not None), ready=ready)


# ---- the appliance itself


def _ours() -> Kind:
    return Kind(
        OURS,
        "`entrepot serve` with one upstream; all other settings at their defaults",
        "fsync of each file before its rename, and of the folder after the rename",
        entrepot_launch,
    )


def entrepot_launch(plan: Plan) -> Launch:
    """Return the command line and environment that start the appliance."""
    port = free_port()
    document: dict[str, Any] = {"upstreams": {NAME: {"url": plan.upstream}}}
    if auth := _auth(plan):
        document["auth"] = auth
    if plan.pem:
        document["http"] = _distribution_tls(plan)
    if not plan.has_edge_cache:
        document["http"] = {"edgecache": False} | document.get("http", {})
    document |= _notifications(plan)
    file = _write(plan.folder / "config.yml", document)
    return Launch(
        (sys.executable, "-m", "entrepot.appliance", "serve", str(file)),
        plan.folder,
        ServerAddress(port, prefix=f"{NAME}/", login=plan.login, tls=plan.pem is not None),
        environment={
            "PYTHONPATH": str(ROOT),
            "REGISTRYDIR": str(plan.folder / "data"),
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}",
        },
    )


def _write(path: Path, document: object) -> Path:
    """Write a configuration as JSON, which is also valid YAML."""
    path.write_text(json.dumps(document, indent=2))
    return path
