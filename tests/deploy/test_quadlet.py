"""The systemd unit: podman knows its keys, and it starts what the README starts."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import config
from appliance.privileges import NEEDED
from config import environment as variables

QUADLET = Path(__file__).resolve().parents[2] / "deploy" / "entrepot.container"
# podman-systemd.unit(5), podman 4.4 and later
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
    """Return each section's keys and values; a key may come more than once."""
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
    """An unknown one would keep podman from making a service at all."""
    assert unit.keys() == {"Unit", "Container", "Service", "Install"}
    assert {name for name, _ in unit["Container"]} <= KNOWN


def test_its_variables_are_known() -> None:
    """Those in the comment too, which say how TLS and passwords are had."""
    lines = QUADLET.read_text().splitlines()
    marked = [each.removeprefix("# ") for each in lines if "Environment=" in each]
    words = [word for each in marked for word in shlex.split(each.removeprefix("Environment="))]
    told = dict(word.split("=", 1) for word in words)

    assert len(told) == 5
    assert variables.read(told).warnings == []
    assert config.examine([], told).problems == ()


def test_the_secret_is_where_it_is_looked_for(unit: Unit) -> None:
    """A folder is mounted, so that a file that is replaced in it is seen."""
    mounts = dict(each.split(":")[:2] for each in _all(unit, "Volume"))
    assert mounts["entrepot-data"] == "/var/lib/registry"

    assert "/secret" in mounts.values()
    assert "PULLSECRETPATH=/secret/pull-secret.json" in _all(unit, "Environment")


def test_bad_input_is_not_tried_again(unit: Unit) -> None:
    """It would be refused with the same line for ever."""
    assert ("RestartPreventExitStatus", "2") in unit["Service"]


def test_root_has_what_it_needs_to_give_itself_up(unit: Unit) -> None:
    """With a capability less, all would run as root."""
    (added,) = _all(unit, "AddCapability")

    assert added.split() == [f"CAP_{each}" for each in NEEDED]
