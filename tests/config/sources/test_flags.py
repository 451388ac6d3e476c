"""Tests the command line, as `entrepot serve` and `entrepot check` read it."""

from __future__ import annotations

from tests.config.config_folder import ConfigFolder


def test_a_switch_needs_no_value(config_folder: ConfigFolder) -> None:
    """A flag for true or false takes a value only after "="."""
    assert config_folder.settings("--cleaner.hosted", "--cleaner.ttl", "1h").cleaner.hosted
    assert not config_folder.settings("--cleaner.hosted=false").cleaner.hosted


def test_a_flag_without_its_value_is_a_problem(config_folder: ConfigFolder) -> None:
    """A flag that needs a value, and is the last argument, is a problem."""
    assert config_folder.problems("--cleaner.ttl") == [
        "--cleaner.ttl: a value is missing; try --cleaner.ttl=VALUE"
    ]


def test_a_flag_may_be_repeated(config_folder: ConfigFolder) -> None:
    """If a flag is repeated, the last value counts, as in other programs."""
    assert config_folder.settings("--cleaner.ttl=1h", "--cleaner.ttl=2h").cleaner.ttl == 7200.0


def test_a_flag_of_an_upstream_has_the_host_in_its_middle(config_folder: ConfigFolder) -> None:
    """The name of an upstream's flag contains the host, with dots and possibly a port."""
    found = config_folder.settings(
        "--upstreams.registry.example:5000.freshness=5m", "--upstreams.quay.io={ongone: serve}"
    ).upstreams

    assert found["registry.example:5000"].freshness == 300.0
    assert found["quay.io"].ongone == "serve"
