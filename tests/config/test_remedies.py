"""Test that every setting that a message names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.config import keys
from entrepot.config.distribution import ROWS, DistributionKey, KeySupport
from entrepot.config.sources import environment
from tests.packages import PACKAGES

ROOT = Path(__file__).parents[2]
_FILES = [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]
_VARIABLE = re.compile(
    r"\b(?:CLEANER_|ENTREPOT_|REGISTRY_)[A-Z_]*[A-Z]\b|\b(?:REGISTRYDIR|PULLSECRETPATH)\b"
)
_KEY = re.compile(
    r"(?<![\w./-])(?:access|auth|cleaner|hosted|http|log|proxy|pullsecret|storage|upstreams)"
    r"(?:\.[a-z]+)+(?![\w/(-])"
)
_FILE_NAME = re.compile(r".*\.(?:log|py|sock|yml|md|json)")


def _texts(path: Path) -> Iterator[str]:
    """Yield each text of several words in a module, except docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            text = node.value if isinstance(node.value, str) else ""
            yield text if " " in text.strip() else ""


def _is_variable(name: str) -> bool:
    if name in environment._all_names() or environment._is_of_others(name):
        return True
    return _is_key(".".join(name.lower().split("_")[1:]))


def _is_key(dotted: str) -> bool:
    key = tuple(dotted.split("."))
    return keys.find(key) is not None or keys.is_section(key)


def test_every_setting_that_a_message_names_exists() -> None:
    """Every variable and key that a message names exists."""
    texts = [text for path in _FILES for text in _texts(path)]
    variables = {name for text in texts for name in _VARIABLE.findall(text)}
    dotted = {key for text in texts for key in _KEY.findall(text) if not _FILE_NAME.fullmatch(key)}

    assert {"CLEANER_TAKEOVER", "CLEANER_TTL", "REGISTRYDIR"} <= variables
    assert {"auth.htpasswd.users", "http.tls.certificate"} <= dotted
    assert {each for each in variables if not _is_variable(each)} == set()
    assert {each for each in dotted if not _is_key(each)} == set()


@pytest.mark.parametrize(
    "row",
    [each for each in ROWS if each.verdict is not KeySupport.HONOURED],
    ids=lambda row: str(row.key),
)
def test_the_key_in_a_remedy_is_honoured(row: DistributionKey) -> None:
    """A remedy names no key of docker distribution that has no effect in the appliance."""
    found = [keys.find(tuple(key.split("."))) for key in _KEY.findall(f"{row.why} {row.instead}")]

    assert not [each for each in found if isinstance(each, DistributionKey)]
