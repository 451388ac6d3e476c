"""Test that an excessive configuration file is refused in bounded time and memory."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.config.config_folder import ConfigFolder

_MANY_MERGES = "".join(
    f"x-{each}: &m{each} {{<<: [*m{each - 1}, *m{each - 1}]}}\n" for each in range(1, 40)
)
_MANY_ALIASES = "".join(
    f"x-{each}: &m{each} [{', '.join([f'*m{each - 1}'] * 9)}]\n" for each in range(1, 20)
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            f"x-0: &m0 {{a: 1}}\n{_MANY_ALIASES}access: *m19\n",
            "config.yml:6: more than 50,000 values with expanded aliases; write each value once",
        ),
        (
            f"x-0: &m0 {{a: 1}}\n{_MANY_MERGES}http: {{<<: *m39}}\n",
            "config.yml:15: more than 50,000 values with expanded aliases; write each value once",
        ),
        ("http: &a {<<: *a}", "config.yml:1: an alias contains itself; "),
        ("http:\n  headers: " + "[" * 2000, "config.yml:2: more than 64 levels; "),
        ("access: " + "{a: " * 500 + "1" + "}" * 500, "config.yml:1: more than 64 levels; "),
        ("# comment\n" * 120_000, "config.yml:1: larger than 1 MiB; "),
        (
            "".join(f"k{each}: 1\n" for each in range(101)),
            "config.yml:1: k0: 101 unknown keys, of which this is the first; name the config",
        ),
        (
            "upstreams:\n" + "".join(f"  h{each}.io: {{}}\n" for each in range(1001)),
            "config.yml:2: upstreams.h0.io: more than 1,000 upstreams; remove some",
        ),
    ],
    ids=(
        "aliases",
        "merge keys",
        "a merge of itself",
        "nested lists",
        "nested maps",
        "more than 1 MiB",
        "unknown keys",
        "upstreams",
    ),
)
def test_an_excessive_file_is_one_problem(
    config_folder: ConfigFolder, content: str, expected: str
) -> None:
    """An excessive YAML file causes one problem, which names the bound that the file exceeds."""
    config_folder.file.write_text(content, encoding="utf-8")

    (problem,) = config_folder.problems()
    assert problem.startswith(expected)


@pytest.mark.parametrize("lines", [_MANY_ALIASES, _MANY_MERGES], ids=["aliases", "merge keys"])
def test_aliases_take_little_memory(config_folder: ConfigFolder, lines: str) -> None:
    """Refused YAML aliases need less than 16 MiB: they are refused before their expansion."""
    config_folder.write(f"x-0: &m0 {{a: 1}}\n{lines}")
    tracemalloc.start()

    try:
        assert len(config_folder.problems()) == 1
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 16 * 2**20


@pytest.mark.slow
def test_a_large_but_plausible_file_is_read(config_folder: ConfigFolder) -> None:
    """A large but plausible file, with a thousand upstreams and a thousand users, is read."""
    hosts = "".join(f"  h{each}.io: {{}}\n" for each in range(1000))
    hashed = "$2y$05$" + "a" * 53
    users = "".join(f"      user{each}: {hashed}\n" for each in range(1000))
    config_folder.write(f"upstreams:\n{hosts}auth:\n  htpasswd:\n    users:\n{users}")

    found = config_folder.settings()

    assert len(found.upstreams) == 1000
    assert found.auth.htpasswd is not None
    assert len(found.auth.htpasswd.users or {}) == 1000
