"""What is installed is all of it: what is left out is missed in the image only."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent


def _setuptools() -> dict[str, Any]:
    told: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    setuptools: dict[str, Any] = told["tool"]["setuptools"]
    return setuptools


def test_every_folder_of_code_is_a_package() -> None:
    """In a clone a folder without __init__.py is found all the same, and in a wheel it is not."""
    tops = {name.partition(".")[0] for name in _setuptools()["packages"]["find"]["include"]}
    folders = {path.parent for top in tops for path in (_ROOT / top).rglob("*.py")}

    assert [str(each) for each in sorted(folders) if not (each / "__init__.py").exists()] == []


def test_the_image_is_built_from_all_that_is_installed() -> None:
    """The build sees what .dockerignore lets in by name, and nothing else."""
    lines = (_ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    told = _setuptools()

    wanted = {name.partition(".")[0] for name in told["packages"]["find"]["include"]}
    files = {name for names in told["data-files"].values() for name in names}
    assert wanted | files | {"pyproject.toml", "README.md", "LICENSE", "requirements"} <= let_in
    assert "*" in lines
