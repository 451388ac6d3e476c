"""Starts appliances with configurations that operators use, and checks their responses.

`make test` starts a few of these configurations, `make soak` all of them.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import yaml

from entrepot.config.distribution import KeySupport
from tests.config import cases
from tests.config.cases import Case
from tests.ports import free_port
from tests.system.appliance import Appliance, Setup

# These tests need a TCP port; other tests start the configuration with a unix socket.
_NAMES = [name for name in cases.NAMES if name != "unix-socket.yml"]
_QUICK = [name for name in _NAMES if "\n#: quick\n" in (cases.FOLDER / name).read_text("utf-8")]
_ADDRESSES = ("REGISTRY_HTTP_ADDR", "ENTREPOT_IMAGE", "DCS_SERVER_PORT")
_BAD_INPUT = 2


@pytest.mark.parametrize("name", _QUICK)
def test_a_configuration_in_use_has_its_effect(name: str, tmp_path: Path) -> None:
    """The appliance sends the responses that are listed at the start of a configuration file."""
    _probe(name, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in _NAMES if name not in _QUICK])
def test_every_other_configuration_in_use_has_its_effect(name: str, tmp_path: Path) -> None:
    """Each configuration that is not in `_QUICK` has the effect that its first lines state.

    The appliance sends the listed responses, or exits at the start with code 2.
    """
    _probe(name, tmp_path)


def _probe(name: str, tmp_path: Path) -> None:
    folder = cases.prepared(tmp_path / "files")
    case = cases.read(name, folder)
    appliance = Appliance(tmp_path / "appliance", _setup(case, folder))
    appliance.file.write_text(case.content or "", encoding="utf-8")
    if case.expects("refuses", KeySupport.REFUSED):
        appliance.launch()
        assert appliance.ended(within=30) == _BAD_INPUT
        assert "; " in appliance.output()
        return
    with appliance:
        for line in case.lines("probe") or [f"GET /v2/ {_usual_status(case)}"]:
            _check(appliance, line)


def _setup(case: Case, folder: Path) -> Setup:
    text = f"{case.content}{case.environ}"
    tls = None
    if "domain.crt" in text and "redis" not in text:
        tls = ssl.create_default_context(cafile=folder / "certs/ca.crt")
        tls.load_cert_chain(folder / "certs/domain.crt")
    environment = {key: value for key, value in case.environ.items() if key not in _ADDRESSES}
    if "debug:" in (case.content or ""):
        environment["REGISTRY_HTTP_DEBUG_ADDR"] = f"127.0.0.1:{free_port()}"
    return Setup(environment=environment, tls=tls)


def _usual_status(case: Case) -> int:
    sections = yaml.safe_load(case.content or "") or {}
    is_protected = "auth" in sections or any(
        key.startswith("REGISTRY_AUTH") for key in case.environ
    )
    return 401 if is_protected else 200


def _check(appliance: Appliance, line: str) -> None:
    method, path, status, *rest = line.split(" ", 3)
    found = appliance.http.request(method, path)

    assert found.status == int(status), line
    for each in rest:
        header, _, value = each.partition(": ")
        assert found.headers.get(header.lower(), "").startswith(value), (line, found.headers)
