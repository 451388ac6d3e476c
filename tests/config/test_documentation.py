"""Test that config/example.yml and docs/configuration.md agree with the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from entrepot.config import keys, show
from entrepot.config.distribution import IMPLEMENTED, ROWS, SCHEMES
from entrepot.config.sources.yaml_file import read_file
from entrepot.config.upstreams import PUBLIC
from tests.config.config_folder import ConfigFolder

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config/example.yml"
PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def _rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _uncommented(folder: Path) -> Path:
    path = folder / "uncommented.yml"
    text = EXAMPLE.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^(\s*)#(?=[^\s#])", r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    return path


def test_the_example_changes_nothing(config_folder: ConfigFolder) -> None:
    """config/example.yml changes nothing: each value that it sets is the default."""
    loaded = config_folder.examine(str(EXAMPLE))

    assert loaded.problems + loaded.warnings == ()
    assert config_folder.settings() == loaded.settings


@pytest.mark.parametrize("driver", sorted(IMPLEMENTED))
@pytest.mark.parametrize("scheme", sorted(SCHEMES - {"none"}))
def test_the_commented_lines_of_the_example_are_valid(
    config_folder: ConfigFolder, tmp_path: Path, scheme: str, driver: str
) -> None:
    """The commented lines of config/example.yml are valid settings without the `#`.

    The test keeps one auth scheme and one storage driver, because a configuration may have only one
    of each.
    """
    path = _uncommented(tmp_path)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for other in SCHEMES - {scheme}:
        document["auth"].pop(other, None)
    for other in IMPLEMENTED - {driver}:
        document["storage"].pop(other)
    if driver != "filesystem":
        document["storage"].pop("statedir", None)
    if driver in {"filesystem", "inmemory"}:
        document["storage"].pop("spoolsize")
    if driver == "s3":  # The key needs `encrypt: true`.
        document["storage"]["s3"].pop("keyid")
    if driver == "azure":  # The key contradicts `realm`.
        document["storage"]["azure"].pop("serviceurl")
    if scheme != "htpasswd":  # The example's access rules need passwords.
        document.pop("access", None)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")

    loaded = config_folder.examine(str(path))

    assert loaded.problems == ()
    assert {"registry.example:8443", "other.example"} == loaded.settings.upstreams.keys()


def test_the_example_has_every_key(tmp_path: Path) -> None:
    """config/example.yml has every key, commented out or not."""
    given = read_file(_uncommented(tmp_path), "example").given
    named = {keys.general(each.key) for each in given}

    assert set(keys.settings()) == named & set(keys.settings())
    assert {"cleaner.maxsize", "upstreams.*.password"} <= {".".join(key) for key in named}


def test_every_variable_is_named_in_the_example() -> None:
    """config/example.yml names every variable whose name is not derived from a setting's key."""
    text = EXAMPLE.read_text(encoding="utf-8")
    own = [each.variables[0] for each in keys.settings().values() if len(each.variables) > 1]

    assert [name for name in own if name not in text] == []


def test_the_page_lists_every_setting() -> None:
    """docs/configuration.md lists key, variable, default, unit and meaning of every setting."""
    expected = [
        [
            f"`{each.key}`",
            "".join(f"`{name}`" for name in each.variables[:1]),
            each.default,
            each.unit,
            each.meaning,
        ]
        for each in keys.settings().values()
    ]

    assert expected == _rows("Settings")


def test_the_page_lists_every_key_of_distribution() -> None:
    """docs/configuration.md lists every key of docker distribution with verdict and reason."""
    expected = [[f"`{row.key}`", row.verdict.value, row.why] for row in ROWS]

    assert expected == _rows("Keys of docker distribution")


def test_the_page_lists_the_public_upstreams() -> None:
    """docs/configuration.md lists the public upstreams in the order of `PUBLIC`."""
    assert ", ".join(f"`{host}`" for host in PUBLIC) in " ".join(PAGE.split())


def test_the_errors_on_the_page_are_real(config_folder: ConfigFolder) -> None:
    """The errors in docs/configuration.md are real: the configuration of this test causes them.

    The tests in test_checks.py cover the errors about files.
    """
    block = PAGE.partition("```\n")[2].partition("```")[0].splitlines()
    config_folder.write("\n\nstorage: {swift: {}}" + "\n" * 9 + "cleaner: {maxsze: 1G}\n")
    found = config_folder.problems(CLEANER_MAXSIZE="10X")

    expected = [line for line in block if not line.startswith("auth.htpasswd.path=")]
    assert sorted(expected) == sorted(found)


def test_the_usage_lists_every_setting() -> None:
    """The output of `entrepot --help` lists each setting as a flag, with variable and default."""
    text = show.usage()

    assert (
        "  --cleaner.maxsize=10G\n      the size to which eviction reduces the stored content; 0:"
        " no limit (CLEANER_MAXSIZE)" in text
    )
    assert len(keys.settings()) == text.count("\n  --") + 1
