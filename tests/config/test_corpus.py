"""Test that each corpus file has the problems, warnings and settings that its first lines list."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from entrepot import config
from entrepot.config.distribution import KeySupport
from entrepot.config.errors import Problem
from entrepot.config.loader import DefaultPaths, Loaded, examine
from tests.config import cases
from tests.config.cases import Case

_OPEN = "every client that can reach the appliance"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the corpus' configurations name."""
    return cases.prepared(tmp_path_factory.mktemp("corpus"))


def _loaded(case: Case, folder: Path, tmp_path: Path) -> Loaded:
    file = folder / cases.USUAL.lstrip("/")
    file.unlink(missing_ok=True)
    if case.content is not None:
        file.write_text(case.content, encoding="utf-8")
    places = DefaultPaths(file, tmp_path / "secret", tmp_path / "certs", tmp_path / "newer.yml")
    return examine(case.words, case.environ, places)


def _keys(problems: Iterable[Problem]) -> set[str]:
    """Return the keys or variables that the problems name."""
    sources = (each.source.partition("=")[0] for each in problems if _OPEN not in str(each))
    return {each.rpartition(": ")[2] for each in sources}


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_configuration_in_use_starts_or_is_refused_with_a_remedy(
    name: str, files: Path, tmp_path: Path
) -> None:
    """The first lines of a corpus file list all problems and warnings of the configuration.

    Each message has a remedy and shows no secret.
    """
    case = cases.read(name, files)
    loaded = _loaded(case, files, tmp_path)
    problems = loaded.problems or config.check(loaded.settings)

    refused = case.expects("refuses", KeySupport.REFUSED)
    warned = case.expects("warns", KeySupport.WITHOUT_EFFECT)
    assert _keys(problems) == refused, [str(each) for each in problems]
    assert _keys(loaded.warnings) == warned, [str(each) for each in loaded.warnings]
    assert not (problems and "starts" in case.expected and not case.keys("follows"))
    for each in (*problems, *loaded.warnings):
        assert each.remedy, each
        assert "sesame" not in str(each)


@pytest.mark.parametrize(
    "name", [each for each in cases.NAMES if cases.read(each, Path()).lines("sets")]
)
def test_a_configuration_in_use_has_the_settings_that_it_asks_for(
    name: str, files: Path, tmp_path: Path
) -> None:
    """`entrepot check` shows each value that the lines `#: sets` of the file contain."""
    case = cases.read(name, files)
    loaded = _loaded(case, files, tmp_path)
    shown = {".".join(key): value for key, value in config.shown_settings(loaded.settings)}
    given = {".".join(key) for key in loaded.given}

    for line in case.lines("sets"):
        key, _, value = line.partition(" ")
        if value:
            assert shown[key] == value
        else:
            assert key in given
            assert shown[key] not in {"none", ""}


def test_the_corpus_has_every_form() -> None:
    """The corpus has at least 60 files, among them compose files, manifests and variables."""
    assert len(cases.NAMES) >= 60
    for suffix in (".env", ".compose.yml", ".k8s.yml"):
        assert any(each.endswith(suffix) for each in cases.NAMES)
