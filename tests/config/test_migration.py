"""Test that docs/migration.md has a row for each setting of the programs on that page."""

from __future__ import annotations

import re
from pathlib import Path

from entrepot.config.distribution import ROWS
from entrepot.config.keys import find
from entrepot.config.sources import cache_server
from tests.config.config_folder import ConfigFolder

_PAGE = (Path(__file__).parents[2] / "docs/migration.md").read_text(encoding="utf-8")
_OF_REGISTRY_CACHE = (
    "CLEANER_MAXSIZE",
    "CLEANER_THRESHOLD_PERCENTAGE",
    "CLEANER_RUNEVERY_TIME",
    "CLEANER_BTWDELETES_TIME",
    "IGNOREREGISTRYLIST",
    "PULLSECRETPATH",
    "REGISTRYDIR",
    "REGISTRY_AUTH",
    "REGISTRY_AUTH_HTPASSWD_REALM",
    "REGISTRY_AUTH_HTPASSWD_PATH",
)


def _rows(heading: str) -> dict[str, list[str]]:
    section = _PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_each_setting_of_docker_cache_server_has_a_row() -> None:
    """docs/migration.md has a row for each setting of docker-cache-server and its variable."""
    rows = _rows("From docker-cache-server")

    for name, key in cache_server.VARIABLES.items():
        variable, ours, changes = rows[".".join(key)]
        assert variable == f"`{name}`"
        assert set(re.findall(r"[a-z]+\.[a-z.]+", cache_server.MEANT[key])) <= set(
            re.findall(r"[a-z]+\.[a-z.]+", ours)
        )
        assert changes


def test_each_setting_of_registry_cache_has_a_row_and_is_read(config_folder: ConfigFolder) -> None:
    """Each setting of registry-cache has a row in docs/migration.md.

    A start with all settings of registry-cache causes neither problems nor warnings.
    """
    rows = _rows("From registry-cache")

    assert [name for name in _OF_REGISTRY_CACHE if name not in rows] == []
    environ = {
        "CLEANER_MAXSIZE": "10G",
        "CLEANER_THRESHOLD_PERCENTAGE": "20",
        "CLEANER_RUNEVERY_TIME": "1h2m3s",
        "CLEANER_BTWDELETES_TIME": "2",
        "IGNOREREGISTRYLIST": "registry.example.com:5000 cloud.openshift.com",
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "Registry Realm",
        "REGISTRY_AUTH_HTPASSWD_PATH": "/auth/htpasswd",
    }
    assert config_folder.problems(**environ) == []
    assert config_folder.warnings(**environ) == []


def test_each_key_of_distribution_has_a_row() -> None:
    """Each key of docker distribution has a row in docs/migration.md with the table's verdict."""
    rows = _rows("From registry:2")

    assert [row.key for row in ROWS if rows[row.key][0] != row.verdict.value] == []


def test_each_key_that_the_page_recommends_exists() -> None:
    """Each key in the second column of docs/migration.md's tables exists and can be set."""
    sections = [_rows("From docker-cache-server"), _rows("From registry-cache")]
    named = [cell for rows in sections for row in rows.values() for cell in row[:2]]
    keys = {key for cell in named for key in re.findall(r"`([a-z]+(?:\.[a-z]+)+)", cell)}

    known = {key for key in keys if find(tuple(key.split("."))) or key == "auth.htpasswd"}
    assert keys - known == {"app.close", "cloud.openshift.com"}
