"""The example and the documentation say what the schema says."""

from __future__ import annotations

import re
from pathlib import Path

from config import keys, show
from config.distribution import ROWS
from config.document import read_file
from config.upstreams import PUBLIC
from tests.config.desk import Desk

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


def test_the_example_changes_nothing(desk: Desk) -> None:
    """Every value that it sets is the default."""
    loaded = desk.examine(str(EXAMPLE))

    assert loaded.problems + loaded.warnings == ()
    assert desk.settings() == loaded.settings


def test_the_example_is_right_in_its_comments_too(desk: Desk, tmp_path: Path) -> None:
    """Who takes a # off gets what the line says."""
    loaded = desk.examine(str(_uncommented(tmp_path)))

    assert loaded.problems == ()
    assert {"registry.example:8443", "other.example"} == loaded.settings.upstreams.keys()


def test_the_example_has_every_key(tmp_path: Path) -> None:
    """Commented out or not, and each line that sets something explains it."""
    given = read_file(_uncommented(tmp_path), "example").given
    named = {keys.general(each.key) for each in given}

    assert set(keys.settings()) == named & set(keys.settings())
    assert {"cleaner.maxsize", "upstreams.*.password"} <= {".".join(key) for key in named}


def test_every_variable_is_named_in_the_example() -> None:
    """Where it is not the one that the key makes."""
    text = EXAMPLE.read_text(encoding="utf-8")
    own = [each.variables[0] for each in keys.settings().values() if len(each.variables) > 1]

    assert [name for name in own if name not in text] == []


def test_the_page_lists_every_setting() -> None:
    """Key, variable, default, unit and meaning, in the schema's order."""
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
    """With its verdict and why."""
    expected = [[f"`{row.key}`", row.verdict.value, row.why] for row in ROWS]

    assert expected == _rows("Keys of docker distribution")


def test_the_page_lists_the_public_upstreams() -> None:
    """In their order."""
    assert ", ".join(f"`{host}`" for host in PUBLIC) in PAGE


def test_the_errors_on_the_page_are_real(desk: Desk) -> None:
    """Each can be had by doing what it says; those of the files, test_checks shows."""
    block = PAGE.partition("```\n")[2].partition("```")[0].splitlines()
    desk.write("\n\nauth: {token: {}}" + "\n" * 9 + "cleaner: {maxsze: 1G}\n")
    found = desk.problems(CLEANER_MAXSIZE="10X")

    expected = [line for line in block if not line.startswith("auth.htpasswd.path=")]
    assert sorted(expected) == sorted(found)


def test_the_usage_lists_every_setting() -> None:
    """As a flag, with its variable and default."""
    text = show.usage()

    assert (
        "  --cleaner.maxsize=10G\n      how much is kept, 0 for no limit (CLEANER_MAXSIZE)" in text
    )
    assert len(keys.settings()) == text.count("\n  --") + 1
