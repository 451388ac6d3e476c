"""Reads compose files, and replaces the variables in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_VARIABLE = re.compile(r"\$\{(\w+)(?::\?([^}]*))?\}")


def document(file: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return a compose file in which each `${NAME:?message}` is replaced by the variable NAME.

    Raises: KeyError if *variables* lacks the name.
    """
    text = _VARIABLE.sub(lambda found: variables[found[1]], file.read_text())
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def environment(file: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the service `entrepot`."""
    found: dict[str, str] = document(file, variables)["services"]["entrepot"]["environment"]
    return found
