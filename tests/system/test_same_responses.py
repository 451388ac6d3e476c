"""With one configuration file, docker distribution and the appliance send the same responses.

docs/migration.md lists the exceptions, with a reason for each.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from entrepot.datastore.manifest import ACCEPT
from tests.certificates import Authority
from tests.system.images import KB, of_size
from tests.system.probes import Configuration, Probe, ours, shown, theirs
from tests.system.registries import htpasswd

ANN = "ann:sesame"
_HEADING = "Responses that differ from docker distribution"
_IMAGE = of_size(KB, 950)
_DIGEST = str(_IMAGE.digest)
_ACCEPT = {"Accept": ", ".join(ACCEPT)}
_PREFLIGHT = {"Origin": "http://ui.example", "Access-Control-Request-Method": "DELETE"}
_APP = "/v2/team/app"
_MISSING = "sha256:" + "0" * 64
_PAGE = (Path(__file__).resolve().parents[2] / "docs/migration.md").read_text(encoding="utf-8")

PROBES = (
    Probe("GET", "/"),
    Probe("GET", "/v2/"),
    Probe("GET", "/v2/", anonymous=True),
    Probe("HEAD", "/v2/"),
    Probe("GET", "/v2"),
    Probe("GET", "/v3/"),
    Probe("GET", "/v2/_catalog"),
    Probe("GET", "/v2/_catalog?n=1"),
    Probe("GET", "/v2/_catalog?n=1&last=other/app"),
    Probe("GET", "/v2/_catalog?n=x"),
    Probe("GET", "/v2/_catalog?n=1001"),
    Probe("GET", "/v2/_catalog", anonymous=True),
    Probe("GET", f"{_APP}/tags/list"),
    Probe("GET", f"{_APP}/tags/list?n=1"),
    Probe("GET", "/v2/none/tags/list"),
    Probe("GET", f"{_APP}/tags/list", anonymous=True),
    Probe("GET", f"{_APP}/manifests/v1", _ACCEPT),
    Probe("HEAD", f"{_APP}/manifests/v1", _ACCEPT),
    Probe("GET", f"{_APP}/manifests/none", _ACCEPT),
    Probe("GET", f"{_APP}/manifests/{_MISSING}", _ACCEPT),
    Probe("HEAD", f"{_APP}/blobs/{_MISSING}"),
    Probe("DELETE", f"{_APP}/blobs/{_MISSING}"),
    Probe("POST", f"{_APP}/tags/list"),
    Probe("POST", f"{_APP}/blobs/uploads/"),
    Probe("POST", f"{_APP}/blobs/uploads/", {"X-Forwarded-Proto": "https"}),
    Probe("POST", f"{_APP}/blobs/uploads/", {"X-Forwarded-Host": "registry.example:8443, b"}),
    Probe("POST", f"{_APP}/blobs/uploads/", {"Forwarded": "proto=https;host=registry.example"}),
    Probe("POST", f"{_APP}/blobs/uploads/", anonymous=True),
    Probe("OPTIONS", "/v2/"),
    Probe("OPTIONS", f"{_APP}/manifests/v1"),
    Probe("OPTIONS", f"{_APP}/manifests/v1", _PREFLIGHT, anonymous=True),
    Probe("GET", "debug:/debug/health"),
    Probe("GET", "debug:/debug/vars"),
    Probe("GET", "debug:/debug/pprof/"),
    Probe("GET", "debug:/metrics"),
    Probe("GET", "debug:/"),
    Probe("DELETE", f"{_APP}/manifests/{_DIGEST}"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A file of `tests/configurations`, with the login, prefix and TLS that its clients need."""

    name: str
    login: str | None = None
    prefix: str = ""
    has_tls: bool = False
    has_debug: bool = False

    def probes(self) -> list[Probe]:
        """Return the requests that are compared for this file."""
        return [each for each in PROBES if self.has_debug or "debug:" not in each.path]


CASES = {
    each.name: each
    for each in (
        Case("registry-ui", login=ANN, has_debug=True),
        Case("behind-a-prefix", prefix="/registry"),
        Case("client-certificates", has_tls=True),
    )
}

Pair = tuple[dict[str, object], dict[str, object]]


def compare(case: Case, folder: Path) -> Mapping[str, Pair]:
    """Return, for each request, the responses of docker-registry and of the appliance."""
    authority = Authority(folder)
    server = authority.certificate("localhost", "127.0.0.1").read_bytes()
    client = authority.certificate("client.example")

    def prepare(place: Path) -> None:
        htpasswd(place / "htpasswd", ANN)
        (place / "server.pem").write_bytes(server)
        (place / "clients.pem").write_bytes(authority.path.read_bytes())

    tls = None
    if case.has_tls:
        tls = ssl.create_default_context(cafile=str(authority.path))
        tls.load_cert_chain(client)
    seen = []
    for runs, place in ((theirs, "theirs"), (ours, "ours")):
        configuration = Configuration(case.name, folder / place, prepare)
        site = configuration.site(tls, case.login, case.prefix)
        settings = yaml.safe_load(configuration.file.read_text())
        with ExitStack() as running:
            running.enter_context(runs(configuration, site))
            for name in ("other/app", "team/app"):
                site.push(name, "v1", _IMAGE)
            site.push("team/app", "v2", _IMAGE)
            configured = settings["http"].get("headers", {})
            seen.append([shown(each.send(site), site, configured) for each in case.probes()])
    names = [each.name for each in case.probes()]
    return {name: (a, b) for name, a, b in zip(names, *seen, strict=True)}


def _documented() -> dict[str, set[str]]:
    """Return, for each request, the differing properties that docs/migration.md lists."""
    section = _PAGE.partition(f"## {_HEADING}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    assert all(reason.strip() for *_, reason in rows)
    return {
        request.strip().strip("`"): set(re.findall(r"[a-z.-]+", properties))
        for request, properties, *_ in rows
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Pair]]:
    """Run both registries with each file, and return the responses by file and request."""
    pairs = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp("same")
        pairs[name] = compare(case, folder)
    return pairs


def test_every_response_that_differs_is_in_the_documentation(
    found: Mapping[str, Mapping[str, Pair]],
) -> None:
    """docs/migration.md lists exactly the responses that differ."""
    differing: dict[str, set[str]] = {}
    for pairs in found.values():
        for request, (there, here) in pairs.items():
            properties = {each for each in there | here if there.get(each) != here.get(each)}
            if properties:
                differing.setdefault(request, set()).update(properties)

    assert differing == _documented()


def test_the_compared_responses_are_those_of_working_registries(
    found: Mapping[str, Mapping[str, Pair]],
) -> None:
    """Both compared registries work; a comparison of two that fail would prove nothing."""
    for request, status in (
        ("GET /v2/NAME/manifests/v1", 200),
        ("GET /v2/_catalog", 200),
        ("POST /v2/NAME/blobs/uploads/", 202),
    ):
        assert {each["status"] for pairs in found.values() for each in pairs[request]} == {status}
    location = "location"
    urls = {name: pairs["POST /v2/NAME/blobs/uploads/"][1] for name, pairs in found.items()}
    assert urls["registry-ui"][location] == "http://HOST/v2/team/app/blobs/uploads/UUID"
    assert (
        urls["behind-a-prefix"][location] == "http://HOST/registry/v2/team/app/blobs/uploads/UUID"
    )
    host = "https://registry.example/team"
    assert urls["client-certificates"][location] == f"{host}/v2/team/app/blobs/uploads/UUID"
