"""Test the command line."""

from __future__ import annotations

from tests.config.desk import Desk


def test_a_switch_needs_no_value(desk: Desk) -> None:
    """A switch takes a value only after an equals sign."""
    assert desk.settings("--cleaner.hosted", "--cleaner.ttl", "1h").cleaner.hosted
    assert not desk.settings("--cleaner.hosted=false").cleaner.hosted


def test_a_flag_without_its_value_is_a_problem(desk: Desk) -> None:
    """A flag without its value is a problem, here as the last argument."""
    assert desk.problems("--cleaner.ttl") == [
        "--cleaner.ttl: a value is missing; try --cleaner.ttl=VALUE"
    ]


def test_a_flag_may_be_repeated(desk: Desk) -> None:
    """The last of two equal flags takes precedence, as in other programs."""
    assert desk.settings("--cleaner.ttl=1h", "--cleaner.ttl=2h").cleaner.ttl == 7200.0


def test_a_flag_of_an_upstream_has_the_host_in_its_middle(desk: Desk) -> None:
    """A flag of an upstream has the host in its middle, with dots and possibly a port."""
    found = desk.settings(
        "--upstreams.registry.example:5000.freshness=5m", "--upstreams.quay.io={ongone: serve}"
    ).upstreams

    assert found["registry.example:5000"].freshness == 300.0
    assert found["quay.io"].ongone == "serve"
