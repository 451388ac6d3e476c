"""Test the retention rules in `hosted:`."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot import config
from entrepot.config.hosted import HostedRule, rules, show
from entrepot.config.show import shown_settings
from entrepot.datastore.globs import Globs
from entrepot.runtime import run_names
from tests.config.config_folder import ConfigFolder

_DAY = 86400.0


def test_a_rule_sets_the_retention_of_a_pattern(config_folder: ConfigFolder) -> None:
    """A retention rule sets `ttl`, `keep` and `untagged`; an empty rule keeps content for ever."""
    config_folder.write(
        """
        hosted:
          "ci/**": {ttl: 7d, keep: 10}
          team/app: {keep: 3, untagged: 1h}
          "team/*": {ttl: 0}
          lone:
        """
    )

    assert config_folder.settings().hosted == (
        HostedRule("ci/**", 7 * _DAY, 10),
        HostedRule("team/app", keep=3, untagged=3600),
        HostedRule("team/*"),
        HostedRule("lone"),
    )


@pytest.mark.parametrize("text", ["hosted:", "hosted: {}", "version: 0.1"])
def test_the_default_is_no_rules(config_folder: ConfigFolder, text: str) -> None:
    """By default there are no retention rules, so pushed content is kept for ever."""
    config_folder.write(text)

    assert config_folder.settings().hosted == ()


def test_a_variable_and_a_flag_contain_rules_as_yaml(config_folder: ConfigFolder) -> None:
    """A variable or a flag can contain retention rules as YAML on one line."""
    expected = (HostedRule("ci/**", 60),)

    assert config_folder.settings(REGISTRY_HOSTED="{ci/**: {ttl: 1m}}").hosted == expected
    assert config_folder.settings("--hosted={ci/**: {ttl: 1m}}").hosted == expected
    assert config_folder.settings(REGISTRY_HOSTED="").hosted == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a]", "not a map of rules"),
        ("ever", "not a map of rules"),
        ("{a b: {}}", "'a b' can't be a name or a pattern"),
        ("{Team/app: {}}", "'Team/app' can't be a name or a pattern"),
        ("{'a:5000/b': {}}", "'a:5000/b' can't be a name or a pattern"),
        ("{a/***: {}}", "'a/***' can't be a name or a pattern"),
        ("{a: 7d}", "a: not a map"),
        ("{a: {tll: 7d}}", "a: no such key: tll, did you mean ttl?"),
        ("{a: {size: 7}}", "a: no such key: size (try ttl, keep, untagged)"),
        ("{a: {ttl: soon}}", "a: not a span"),
        ("{a: {keep: -1}}", "a: not a whole number from 0 to 1000000"),
        ("{a: {untagged: x}}", "a: not a span"),
        ("{a: [", "not YAML"),
    ],
)
def test_an_invalid_rule_is_a_problem_with_a_remedy(
    config_folder: ConfigFolder, text: str, problem: str
) -> None:
    """An invalid retention rule is a problem with a remedy."""
    (line,) = config_folder.problems(REGISTRY_HOSTED=text)

    assert line == f"REGISTRY_HOSTED={text}: {problem}; try {{ci/**: {{ttl: 7d, keep: 10}}}}"


def test_every_invalid_rule_is_reported(config_folder: ConfigFolder) -> None:
    """Every invalid retention rule is reported, not only the first."""
    (line,) = config_folder.problems(REGISTRY_HOSTED="{a: {tll: 1d}, B: {}}")

    assert "no such key: tll" in line
    assert "'B' can't be" in line


def test_every_accepted_pattern_is_valid_in_the_cleaner() -> None:
    """Every pattern that the configuration accepts is valid in the cleaner."""
    taken = rules(dict.fromkeys(("a", "a/*", "**", "a/**/b", "*-ci/x.y_z", "a__b")))

    for rule in taken:
        Globs([rule.repository])


def test_rules_are_passed_on_unchanged(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """The programs that `entrepot serve` starts read the same retention rules."""
    settings = config_folder.settings(REGISTRY_HOSTED="{ci/**: {ttl: 500ms, untagged: 0}, a: {}}")
    config.dump(settings, tmp_path / run_names.SETTINGS)
    environ = {"ENTREPOT_SETTINGS": str(tmp_path / run_names.SETTINGS)}

    assert config.resolved(environ).hosted == settings.hosted


def test_rules_are_shown_on_one_line(config_folder: ConfigFolder) -> None:
    """`entrepot check` shows retention rules on one line."""
    settings = config_folder.settings(
        REGISTRY_HOSTED="{ci/**: {ttl: 7d, keep: 10}, a: {}, b: {untagged: 0}}"
    )

    assert dict(shown_settings(settings))["hosted",] == (
        "ci/** ttl 7d, keep 10; a for ever; b untagged 0s"
    )
    assert show(()) == "none"
