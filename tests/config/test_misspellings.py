"""Test that no misspelt key of docker distribution is ignored silently, at any level."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.config.config_folder import ConfigFolder
from tests.config.every_key import VALUES
from tests.sizes import scaled

# A misspelt key in these sections prevents the start. Otherwise nothing would be protected.
_PROTECTING = ("auth.", "http.tls.", "proxy.username", "proxy.password")
_EDITS = scaled(1, 40)
_OPEN = "every client that can reach the appliance"


def _misspelt(name: str) -> list[str]:
    """Return misspellings of *name*: two letters swapped, one missing, one doubled, and others."""
    found = []
    for at in [len(name) // 2, *range(len(name) - 1)]:
        found.append(name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :])
        found += [name[:at] + name[at + 1 :], name[: at + 1] + name[at:]]
    found += [f"{name}s", name.upper(), name.capitalize(), f"{name}_"]
    return [each for each in dict.fromkeys(found) if each not in {name, ""}]


def _all_misspelt(key: str) -> Iterator[list[str]]:
    parts = key.split(".")
    for level, part in enumerate(parts):
        for each in _misspelt(part)[:_EDITS]:
            yield [*parts[:level], each, *parts[level + 1 :]]


def _document(parts: list[str], text: str) -> str:
    value: object = yaml.load(text.replace("{folder}", "").replace("{file}", "/a"), yaml.BaseLoader)
    for name in reversed(parts):
        value = {name: value}
    return yaml.safe_dump(value)


@pytest.mark.parametrize("key", VALUES)
def test_no_misspelt_key_is_ignored_silently(config_folder: ConfigFolder, key: str) -> None:
    """A misspelt part of a key causes a message; in a section that protects data, a problem."""
    for parts in _all_misspelt(key):
        config_folder.write(_document(parts, VALUES[key]))
        loaded = config_folder.examine()
        warned = [each for each in loaded.warnings if _OPEN not in each.message]

        assert loaded.problems or warned, parts
        assert loaded.problems or not key.startswith(_PROTECTING), parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("health: {http: [{uri: 'http://a', heders: {a: [b]}}]}", "did you mean headers?"),
        ("health: {tcp: [{addr: 'a:1', treshold: 2}]}", "did you mean threshold?"),
        ("health: {file: [{fiel: /x}]}", "file"),
        ("log: {hooks: [{type: mail, levles: [panic]}]}", "did you mean levels?"),
        ("log: {hooks: [{type: mail, options: {smtp: {adr: a}}}]}", "did you mean addr?"),
        ("notifications: {endpoints: [{name: a, url: 'http://a', heders: {}}]}", "heders"),
        ("validation: {manifests: {indexes: {platformlist: [{arch: a}]}}}", "architecture"),
        ("http: {tls: {certificate: /x, clientcas: [{path: /x}]}}", "http.tls.clientcas"),
        ("access: [{user: ann, repositries: ['*']}]", "did you mean repository?"),
        ("middleware: {storage: [{nmae: a}]}", "middleware.storage"),
    ],
    ids=range(10),
)
def test_a_misspelt_key_in_a_list_is_named(
    config_folder: ConfigFolder, text: str, expected: str
) -> None:
    """A misspelt key in an entry of a list is named, as elsewhere in the file."""
    config_folder.write(text)

    assert any(expected in each for each in (*config_folder.problems(), *config_folder.warnings()))
