"""The upstreams that the workers serve are the configuration's and the pull secret's of now."""

from __future__ import annotations

from pathlib import Path

from entrepot import config
from entrepot.config.pull_secret import ParsedPullSecret, parse
from entrepot.registry.__main__ import _InForce


def test_served_upstreams_follow_the_pull_secret(tmp_path: Path) -> None:
    """A changed pull secret changes the served upstreams without a restart.

    The rule is the same as at the start.
    """
    settings = config.load([], {"REGISTRYDIR": str(tmp_path)}).settings
    now: list[ParsedPullSecret] = [parse(b'{"auths": {}, "credsStore": "desktop"}')]
    in_force = _InForce(settings, lambda: now[0])
    before = in_force.config("quay.io")
    now[0] = parse(b'{"auths": {"*.example": {}}}')

    assert before is not None
    assert in_force.config("quay.io") is None
    assert in_force.config("a.example") is not None
    assert in_force.hosts() == ()


def test_the_settings_of_an_upstream_are_built_once(tmp_path: Path) -> None:
    """The settings of an upstream are built once for each pull secret.

    Each warm hit reads them.
    """
    settings = config.load([], {"REGISTRYDIR": str(tmp_path)}).settings
    secret = parse(b'{"auths": {"a.example": {}, "*.example": {}}}')
    in_force = _InForce(settings, lambda: secret)

    assert in_force.config("a.example") is in_force.config("a.example")
    assert in_force.config("b.example") is in_force.config("b.example")


def test_a_pattern_does_not_make_any_number_of_settings(tmp_path: Path) -> None:
    """A pattern in the pull secret causes a bounded number of settings.

    Clients choose the names that match the pattern.
    """
    settings = config.load([], {"REGISTRYDIR": str(tmp_path)}).settings
    secret = parse(b'{"auths": {"*.example": {}}}')
    in_force = _InForce(settings, lambda: secret)

    for number in range(3000):
        assert in_force.config(f"h{number}.example") is not None

    assert len(in_force._view.sources) <= 1024
