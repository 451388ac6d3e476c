"""Test the settings of `validation:` and `policy:`."""

from __future__ import annotations

import pytest

from entrepot.config.handover import dump, resolved
from entrepot.config.push_settings import IndexPlatform
from entrepot.runtime import run_names
from tests.config.config_folder import ConfigFolder

_ALL = """
    validation:
      disabled: false
      manifests:
        urls:
          allow: ['^https?://([^/]+\\.)*example\\.com/', 'a{1,3}']
          deny: ['^https?://www\\.example\\.com/']
        indexes:
          platforms: list
          platformlist:
            - os: linux
              architecture: amd64
    policy: {repository: {classes: [image]}}
    """


def test_every_key_is_read_and_handed_over(config_folder: ConfigFolder) -> None:
    """The programs read the same push settings from the file that `serve` writes for them."""
    config_folder.write(_ALL)
    settings = config_folder.settings()
    written = config_folder.file.parent / run_names.SETTINGS
    dump(settings, written)

    manifests = settings.validation.manifests
    assert manifests.urls.allow == (r"^https?://([^/]+\.)*example\.com/", "a{1,3}")
    assert manifests.urls.deny == (r"^https?://www\.example\.com/",)
    assert manifests.indexes.platformlist == (IndexPlatform("linux", "amd64"),)
    assert settings.policy.repository.classes == ("image",)
    assert settings.validation.is_on
    assert config_folder.warnings() == []
    handed = resolved({"ENTREPOT_SETTINGS": str(written)})
    assert (handed.validation, handed.policy) == (settings.validation, settings.policy)


@pytest.mark.parametrize(
    ("text", "is_on"),
    [
        ("disabled: true", False),
        ("disabled: false", True),
        ("enabled: false", True),
        ("enabled: true, disabled: true", True),
    ],
)
def test_the_older_switch_has_precedence_if_it_is_on(
    config_folder: ConfigFolder, text: str, *, is_on: bool
) -> None:
    """`validation.enabled`, the older switch, has the same effect as in docker distribution."""
    config_folder.write(f"validation: {{{text}}}")

    assert config_folder.settings().validation.is_on is is_on


def test_without_the_section_nothing_is_given(config_folder: ConfigFolder) -> None:
    """Without `validation:` no URL of a layer is checked; layers of Windows images have URLs."""
    assert not config_folder.settings().validation.is_given


def test_a_variable_may_have_one_pattern_or_a_list(config_folder: ConfigFolder) -> None:
    """A variable of `validation:` is one pattern, which may contain commas, or a YAML list."""
    name = "REGISTRY_VALIDATION_MANIFESTS_URLS_DENY"

    def read(text: str) -> tuple[str, ...]:
        return config_folder.settings(**{name: text}).validation.manifests.urls.deny

    assert read("^a{1,2} [b]") == ("^a{1,2} [b]",)
    assert read("['a,b', c]") == ("a,b", "c")
    assert read("[ab]c") == ("[ab]c",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("validation: {manifests: {urls: {allow: ['(']}}}", "not a regular expression of Go"),
        ("validation: {manifests: {urls: {deny: {a: b}}}}", "not a list of regular expressions"),
        ("validation: {manifests: {indexes: {platforms: some}}}", "not one of all, none, list"),
        (
            "validation: {manifests: {indexes: {platformlist: [{os: linux}]}}}",
            "a platform is not a map of os and architecture",
        ),
        ("validation: {disabled: maybe}", "neither true nor false"),
        ("policy: {repository: {classes: [helm]}}", "not a class of repositories: helm"),
    ],
)
def test_a_wrong_value_is_refused(config_folder: ConfigFolder, text: str, reason: str) -> None:
    """A wrong value in `validation:` is refused, because a rule that protects is never ignored."""
    config_folder.write(text)
    (problem,) = config_folder.problems()

    assert reason in problem


def test_rules_without_an_effect_are_warnings(config_folder: ConfigFolder) -> None:
    """Rules of `validation:` and `policy:` without an effect cause warnings.

    Docker distribution ignores them silently.
    """
    config_folder.write(
        "validation: {disabled: true, manifests: {urls: {deny: [a]},"
        " indexes: {platformlist: [{os: a, architecture: b}]}}}"
    )

    off = "the rule has no effect: validation.disabled is true; take one of the two keys out"
    assert [each.partition(": validation.manifests.")[2] for each in config_folder.warnings()] == [
        f"urls.deny: {off}",
        f"indexes.platformlist: {off}",
        (
            "indexes.platformlist: the key has no effect: indexes.platforms is not list;"
            " set validation.manifests.indexes.platforms: list"
        ),
    ]
