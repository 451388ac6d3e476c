"""Tests of the quadlet deploy/entrepot.container: its keys, variables, mounts and capabilities."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from entrepot import config
from entrepot.appliance.privileges.users import NEEDED
from entrepot.config.sources import environment as variables

QUADLET = Path(__file__).resolve().parents[2] / "deploy" / "entrepot.container"
# keys of a quadlet that podman 4.4 and later know: podman-systemd.unit(5)
KNOWN = {
    "AddCapability",
    "ContainerName",
    "DropCapability",
    "Environment",
    "HealthCmd",
    "Image",
    "NoNewPrivileges",
    "PublishPort",
    "ReadOnly",
    "Tmpfs",
    "Volume",
}


@pytest.fixture(scope="module")
def unit() -> dict[str, list[tuple[str, str]]]:
    """Return the keys and values in each section of the quadlet, in which keys may repeat."""
    found: dict[str, list[tuple[str, str]]] = {}
    section: list[tuple[str, str]] = []
    for line in QUADLET.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            section.append((key, value))
    return found


Unit = dict[str, list[tuple[str, str]]]


def _all(unit: Unit, key: str) -> list[str]:
    return [value for name, value in unit["Container"] if name == key]


def test_podman_knows_every_key(unit: Unit) -> None:
    """Podman knows every key of the quadlet file; with an unknown key podman makes no service."""
    assert unit.keys() == {"Unit", "Container", "Service", "Install"}
    assert {name for name, _ in unit["Container"]} <= KNOWN


def test_its_variables_are_known() -> None:
    """The quadlet sets only environment variables that Entrepot knows, also in its comments."""
    lines = QUADLET.read_text().splitlines()
    marked = [each.removeprefix("# ") for each in lines if "Environment=" in each]
    words = [word for each in marked for word in shlex.split(each.removeprefix("Environment="))]
    environ = dict(word.split("=", 1) for word in words)

    assert len(environ) == 5
    assert variables.read(environ).warnings == []
    assert config.examine([], environ).problems == ()


def test_the_secret_is_at_the_configured_path(unit: Unit) -> None:
    """The quadlet mounts the pull secret's folder, not the file, so a replaced file is seen."""
    mounts = dict(each.split(":")[:2] for each in _all(unit, "Volume"))
    assert mounts["entrepot-data"] == "/var/lib/registry"

    assert "/secret" in mounts.values()
    assert "PULLSECRETPATH=/secret/pull-secret.json" in _all(unit, "Environment")


def test_invalid_configuration_does_not_cause_restarts(unit: Unit) -> None:
    """Systemd does not restart Entrepot after a configuration error: a restart cannot help."""
    assert ("RestartPreventExitStatus", "2") in unit["Service"]


def test_root_has_the_capabilities_for_changing_the_user(unit: Unit) -> None:
    """The quadlet grants root the capabilities with which it changes its user.

    Without one of these capabilities all programs of the container run as root.
    """
    (added,) = _all(unit, "AddCapability")

    assert added.split() == [f"CAP_{each}" for each in NEEDED]
