"""Tests of names on Docker Hub, where official images have the prefix `library/`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from entrepot.runtime import docker_hub
from tests.packages import PACKAGES

_ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("docker.io", "alpine", "library/alpine"),
        ("docker.io", "grafana/grafana", "grafana/grafana"),
        ("docker.io", "library/alpine", "library/alpine"),
        ("quay.io", "alpine", "alpine"),
    ],
)
def test_only_official_images_of_docker_hub_get_the_prefix(
    host: str, path: str, expected: str
) -> None:
    """On Docker Hub, a name with one component, such as `alpine`, belongs to `library/`."""
    assert docker_hub.full_path(host, path) == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_module_has_the_prefix_of_official_images(package: str) -> None:
    """No other module contains the text `library/`, since two copies of the rule could disagree."""
    named = [
        str(path.relative_to(_ROOT))
        for path in (_ROOT / package).rglob("*.py")
        if path.name != "docker_hub.py"
        if docker_hub.OFFICIAL in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and node.value == docker_hub.OFFICIAL
    ]

    assert named == []
