"""A stand-in for Helm that renders charts/entrepot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.deploy import template
from tests.deploy.template import Scope

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "entrepot"

Document = dict[str, Any]


def values(**more: Any) -> Document:
    """Return the chart's values.yaml, with the sections in *more* merged into it."""
    found: Document = yaml.safe_load((CHART / "values.yaml").read_text())
    return _merged(found, more)


def rendered(**more: Any) -> dict[str, str]:
    """Return the rendered text of each template of the chart, by the template's name."""
    chart: Document = yaml.safe_load((CHART / "Chart.yaml").read_text())
    dot = {
        "Values": values(**more),
        "Release": {"Name": "cache", "Namespace": "registry"},
        "Chart": {"AppVersion": chart["appVersion"], "Version": chart["version"]},
    }
    parsed = {
        path.name: template.parse(path.read_text())
        for path in sorted((CHART / "templates").iterdir())
    }
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
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def _merged(before: Document, more: Mapping[str, Any]) -> Document:
    found = dict(before)
    for name, value in more.items():
        is_section = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if is_section else value
    return found
