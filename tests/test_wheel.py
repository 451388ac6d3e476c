"""Tests of the wheel: it installs one import package with all files of the product."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
_PACKAGE = _ROOT / "entrepot"


def _setuptools() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    setuptools: dict[str, Any] = project["tool"]["setuptools"]
    return setuptools


def _folders() -> set[str]:
    """Return the folders of the repository to which links in the import package lead."""
    return {each.name for each in _PACKAGE.iterdir() if each.is_symlink()}


def test_one_import_package_is_installed() -> None:
    """The wheel installs only the package `entrepot`, so a program may have its own `config.py`."""
    assert _setuptools()["packages"]["find"]["include"] == ["entrepot", "entrepot.*"]
    assert {each.name for each in _PACKAGE.iterdir() if not each.is_symlink()} <= {
        "__init__.py",
        "__pycache__",
    }


def test_every_folder_of_code_is_linked_by_a_relative_link() -> None:
    """The import package has a link to every folder of code; a relative link works in any clone."""
    code = {each.parent.name for each in _ROOT.glob("*/__init__.py")} - {"entrepot"}

    assert _folders() == code
    assert {name: str((_PACKAGE / name).readlink()) for name in code} == {
        name: f"../{name}" for name in code
    }


def test_every_folder_of_code_is_a_package() -> None:
    """Every folder of code is a Python package, because the wheel leaves out other folders."""
    folders = {path.parent for top in _folders() for path in (_ROOT / top).rglob("*.py")}

    assert [str(each) for each in sorted(folders) if not (each / "__init__.py").exists()] == []


def test_the_build_of_the_image_sees_all_installed_files() -> None:
    """`.dockerignore` excludes all files except the listed ones, and lists all installed files."""
    lines = (_ROOT / ".dockerignore").read_text().splitlines()
    excepted = {line.removeprefix("!") for line in lines if line.startswith("!")}

    files = {name for names in _setuptools()["data-files"].values() for name in names}
    installed = _folders() | files | {"entrepot", "pyproject.toml", "README.md", "LICENSE"}
    assert installed | {"requirements"} <= excepted
    assert "*" in lines
