"""With bad input the appliance prints one clear line and exits with 2 instead of starting."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.appliance import Appliance, Setup
from tests.system.certificates import Authority


@dataclass(frozen=True, slots=True)
class Bad:
    """A bad input (configuration, variables and files), and words of the expected error line."""

    says: tuple[str, ...]
    config: str = "version: 0.1\n"
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def _auth(path: str) -> dict[str, str]:
    return {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "test",
        "REGISTRY_AUTH_HTPASSWD_PATH": path,
    }


SECRET = {"PULLSECRETPATH": "{folder}/secret.json"}
BAD = {
    "malformed YAML": Bad(("config.yml:3",), config="version: 0.1\nlog: [unclosed\n"),
    "YAML that is a list": Bad(("config.yml",), config="- version\n"),
    "unknown key": Bad(("upstream", "upstreams"), config="version: 0.1\nupstream: {a.test: {}}\n"),
    "unknown key below": Bad(
        ("maxsiz", "maxsize"), config="version: 0.1\ncleaner: {maxsiz: 10G}\n"
    ),
    "token auth": Bad(
        ("auth.token",), config="version: 0.1\nauth: {token: {realm: x, service: y, issuer: z}}\n"
    ),
    "misspelt read-only mode": Bad(
        ("readony", "readonly"),
        config="version: 0.1\nstorage: {maintenance: {readony: {enabled: true}}}\n",
    ),
    "health check without a host": Bad(
        ("health.http", "check 0"), config="version: 0.1\nhealth: {http: [{uri: 'http:///'}]}\n"
    ),
    "pattern of URLs that is not one": Bad(
        ("validation.manifests.urls.allow", "missing )"),
        config="version: 0.1\nvalidation: {manifests: {urls: {allow: ['(']}}}\n",
    ),
    "second storage driver": Bad(
        ("storage.s3", "second storage driver"),
        config="version: 0.1\nstorage: {s3: {bucket: b, region: r}}\n",
    ),
    "storage driver that does not exist here": Bad(
        ("storage.swift",), config="version: 0.1\nstorage: {swift: {container: c}}\n"
    ),
    "proxy.ttl": Bad(("proxy.ttl", "soon"), config="version: 0.1\nproxy: {ttl: soon}\n"),
    "credential helper that is missing": Bad(
        ("proxy.exec.command", "no such program"),
        config="version: 0.1\nproxy: {remoteurl: 'https://a.test', exec: {command: none-such}}\n",
    ),
    "secret that is missing": Bad(("secret.json",), environment=SECRET),
    "secret that is not JSON": Bad(
        ("secret.json",), environment=SECRET, files={"secret.json": '{"auths": {'}
    ),
    "secret that is no map": Bad(
        ("secret.json",), environment=SECRET, files={"secret.json": '{"auths": []}'}
    ),
    "auth that is not base64": Bad(
        ("secret.json", "a.test"),
        environment=SECRET,
        files={"secret.json": '{"auths": {"a.test": {"auth": "%%% not base64"}}}'},
    ),
    "auth without a colon": Bad(
        ("secret.json", "a.test"),
        environment=SECRET,
        files={"secret.json": '{"auths": {"a.test": {"auth": "bm9jb2xvbg=="}}}'},
    ),
    "size": Bad(("CLEANER_MAXSIZE", "10X", "10G"), environment={"CLEANER_MAXSIZE": "10X"}),
    "span": Bad(("CLEANER_TTL", "soon"), environment={"CLEANER_TTL": "soon"}),
    "percentage": Bad(
        ("CLEANER_THRESHOLD_PERCENTAGE",), environment={"CLEANER_THRESHOLD_PERCENTAGE": "many"}
    ),
    "address": Bad(("REGISTRY_HTTP_ADDR",), environment={"REGISTRY_HTTP_ADDR": "127.0.0.1:http"}),
    "htpasswd that is missing": Bad(("users",), environment=_auth("{folder}/users")),
    "htpasswd that is not bcrypt": Bad(
        ("users", "bcrypt"),
        environment=_auth("{folder}/users"),
        files={"users": "alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"},
    ),
    "certificate without key": Bad(
        ("tls.pem", "key"),
        environment={"REGISTRY_HTTP_TLS_CERTIFICATE": "{folder}/tls.pem"},
        files={"tls.pem": Authority().issue().pem().decode()},
    ),
    "certificate that is missing": Bad(
        ("tls.pem",), environment={"REGISTRY_HTTP_TLS_CERTIFICATE": "{folder}/tls.pem"}
    ),
    "two defaults": Bad(
        ("default",),
        config="version: 0.1\nupstreams: {a.test: {default: true}, b.test: {default: true}}\n",
    ),
    "data directory that is a file": Bad(
        ("data",), environment={"REGISTRYDIR": "{folder}/data"}, files={"data": ""}
    ),
    "data directory that can not be written": Bad(
        ("/proc/entrepot",), environment={"REGISTRYDIR": "/proc/entrepot"}
    ),
}

_QUICK = {
    "malformed YAML",
    "unknown key",
    "second storage driver",
    "credential helper that is missing",
    "secret that is not JSON",
    "size",
    "htpasswd that is not bcrypt",
    "certificate without key",
    "two defaults",
    "data directory that can not be written",
}
"""`make test` starts the appliance only with these inputs, one of each kind.

The tests in tests/config check all kinds of bad input without starting an appliance.
"""


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[[Bad], str]:
    """Return a function that starts an appliance with bad input and returns the printed line."""

    def begin(bad: Bad) -> str:
        for name, text in bad.files.items():
            (tmp_path / name).write_text(text)
        environment = {
            name: value.replace("{folder}", str(tmp_path))
            for name, value in bad.environment.items()
        }
        appliance = Appliance(tmp_path / "appliance", Setup(environment=environment))
        appliance.file.write_text(bad.config)
        appliance.launch()
        code = appliance.ended(within=20)
        assert code == 2, appliance.output()
        return _one_line(appliance)

    return begin


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bad, id=name, marks=() if name in _QUICK else pytest.mark.soak)
        for name, bad in BAD.items()
    ],
)
def test_bad_input_is_refused_with_its_source(refuse: Callable[[Bad], str], bad: Bad) -> None:
    """For bad input the appliance prints one line with the input's source, and exits with 2."""
    said = refuse(bad)

    assert all(word in said for word in bad.says), said


def test_a_port_that_is_taken_is_reported(refuse: Callable[[Bad], str]) -> None:
    """If the port is in use, the appliance prints one line with the port and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        said = refuse(Bad((), environment={"REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}"}))

    assert port in said


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A configuration file that the command line names must exist.

    Only the configuration file at the default place may be missing.
    """
    appliance = Appliance(tmp_path / "appliance", Setup())
    appliance.file.unlink()

    appliance.launch()

    assert appliance.ended(within=20) == 2
    assert "config.yml" in _one_line(appliance)


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    """An unknown variable causes only a warning, because it may belong to another program.

    The warning includes the most similar name of a variable that the appliance reads.
    """
    setup = Setup(environment={"CLEANER_MAXSISE": "10G"})
    with Appliance(tmp_path / "appliance", setup) as appliance:
        said = appliance.output()

    assert "CLEANER_MAXSISE" in said
    assert "CLEANER_MAXSIZE" in said


def _one_line(appliance: Appliance) -> str:
    lines = [line for line in appliance.output().splitlines() if line.strip()]
    assert len(lines) == 1, appliance.output()
    assert "Traceback" not in lines[0]
    return lines[0]
