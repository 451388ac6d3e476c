"""A stand-in for Helm that renders charts/entrepot."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy import template
from tests.deploy.template import Node, Scope

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "entrepot"

Document = dict[str, Any]

# The loader of libyaml is ten times as fast as PyYAML's own, but not every build of PyYAML has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def values(**more: Any) -> Document:
    """Return the chart's values.yaml, with the sections in *more* merged into it."""
    return _merged(deepcopy(_read("values.yaml")), more)


def rendered(**more: Any) -> dict[str, str]:
    """Return the rendered text of each template of the chart, by the template's name."""
    chart = _read("Chart.yaml")
    dot = {
        "Values": values(**more),
        "Release": {"Name": "cache", "Namespace": "registry"},
        "Chart": {"AppVersion": chart["appVersion"], "Version": chart["version"]},
    }
    parsed = _parsed()
    defined = {
        name: body
        for nodes in parsed.values()
        for name, body in template.definitions(nodes).items()
    }
    scope = Scope(dot, {"$": dot}, defined)
    return {
        name: template.render(nodes, scope)
        for name, nodes in parsed.items()
        if not name.startswith("_")
    }


def documents(**more: Any) -> list[Document]:
    """Return the Kubernetes manifests that the chart renders with the values in *more*."""
    texts = (text for name, text in rendered(**more).items() if name.endswith(".yaml"))
    return [each for text in texts for each in yaml.load_all(text, _LOADER) if each]


@cache
def _read(name: str) -> Document:
    """Return the cached content of a YAML file of the chart; callers must not change it."""
    found: Document = yaml.load((CHART / name).read_text(), _LOADER)
    return found


@cache
def _parsed() -> dict[str, list[Node]]:
    """Return the nodes of each template of the chart, by the template's name."""
    return {
        path.name: template.parse(path.read_text())
        for path in sorted((CHART / "templates").iterdir())
    }


def _merged(before: Document, more: Mapping[str, Any]) -> Document:
    found = dict(before)
    for name, value in more.items():
        is_section = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if is_section else value
    return found
