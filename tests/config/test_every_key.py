"""Test that no key of docker distribution is ignored silently."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from entrepot.config import keys
from entrepot.config.distribution import ROWS, DistributionKey, KeySupport
from entrepot.config.keys import Setting
from entrepot.config.loader import Loaded
from tests.config.config_folder import ConfigFolder
from tests.config.every_key import BESIDE, VALUES
from tests.config.shown_by import SHOWN_BY

_TESTS = Path(__file__).parents[1]


def _row(key: str) -> DistributionKey | None:
    return next((row for row in ROWS if row.matches(tuple(key.split(".")))), None)


def _beside(key: str) -> dict[str, str]:
    sections = [".".join(key.split(".")[:end]) for end in range(len(key.split(".")), 0, -1)]
    return next((BESIDE[each] for each in sections if each in BESIDE), {})


def _loaded(config_folder: ConfigFolder, values: dict[str, str]) -> Loaded:
    document: dict[str, object] = {}
    for key, text in values.items():
        section = document
        *above, last = key.split(".")
        for name in above:
            below = section.setdefault(name, {})
            assert isinstance(below, dict)
            section = below
        file = str(config_folder.file.parent / "file.pem")
        filled = text.replace("{folder}", str(config_folder.file.parent)).replace("{file}", file)
        section[last] = yaml.load(filled, yaml.BaseLoader)
    config_folder.write(yaml.safe_dump(document))
    return config_folder.examine()


def _is_named(row: DistributionKey, loaded: Loaded) -> str:
    """Return `refused`, `without effect`, or an empty text if no message names the key."""
    shortest = row.key.removesuffix(".**")
    for messages, verdict in ((loaded.problems, "refused"), (loaded.warnings, "without effect")):
        if any(shortest in each.source and each.remedy for each in messages):
            return verdict
    return ""


@pytest.mark.parametrize("key", VALUES)
def test_no_key_of_distribution_is_ignored_silently(config_folder: ConfigFolder, key: str) -> None:
    """Each key of docker distribution changes a setting, or a message names the key and a remedy.

    A key that the table lists as honoured causes no problem. Such a key changes the settings,
    unless `_WITHOUT_A_SETTING` lists the key.
    """
    row = _row(key)
    assert row is not None, f"{key} has no row in config/distribution.py"

    beside = _beside(key)
    without = _loaded(config_folder, beside)
    found = _loaded(config_folder, beside | {key: VALUES[key]})

    if row.verdict is not KeySupport.HONOURED:
        assert _is_named(row, found) == row.verdict.value
        return
    assert not found.problems, found.problems
    followed = without.settings.followed
    changes = found.settings.changed(followed=followed) != without.settings
    assert changes or key in _WITHOUT_A_SETTING


# These honoured keys change no setting, because the appliance always behaves as they request.
_WITHOUT_A_SETTING = frozenset({"version", "http.secret", "http.h2c.enabled"})


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.verdict is KeySupport.HONOURED], ids=lambda row: str(row.key)
)
def test_each_effect_that_the_table_claims_is_shown_by_a_test(row: DistributionKey) -> None:
    """`SHOWN_BY` names an existing test for each effect that the table of keys claims.

    The tests of `config` show that a value is read; they do not show that it has an effect.
    """
    named = next((test for key, test in SHOWN_BY.items() if _covers(key, row.key)), None)
    assert named, f"name the test that shows the effect of {row.key} in tests/config/shown_by.py"
    file, _, function = named.partition("::")

    assert not file.startswith("config/") or row.key in _SHOWN_BY_THEIR_MESSAGES
    assert function in _functions(_TESTS / file), f"{named} does not exist"


# The only effect of these keys is that the configuration is accepted.
_SHOWN_BY_THEIR_MESSAGES = frozenset({"version", "auth.none.**"})


def test_each_setting_that_distribution_has_is_in_the_list() -> None:
    """Each row of the table is a setting or matches a key of `VALUES`.

    The exceptions are rows for single entries of a map or list, and the rows of
    `_NOT_KEYS_OF_EITHER_VERSION`.
    """
    listed = [tuple(key.split(".")) for key in VALUES]
    missing = [
        row.key
        for row in ROWS
        if not any(row.matches(key) for key in listed)
        and ".*." not in f"{row.key}."
        and not isinstance(keys.find(tuple(row.key.split("."))), Setting)
    ]

    assert missing == _NOT_KEYS_OF_EITHER_VERSION


# `VALUES` lacks an older driver (rados), another name of a driver (s3aws) and the scheme `none`.
_NOT_KEYS_OF_EITHER_VERSION: list[str] = ["storage.s3aws.**", "storage.rados.**", "auth.none.**"]


def _covers(pattern: str, key: str) -> bool:
    below = pattern.removesuffix(".**")
    return key == pattern or (pattern.endswith(".**") and f"{key}.".startswith(f"{below}."))


@cache
def _functions(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
