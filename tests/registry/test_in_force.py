"""The settings and the current pull secret determine which upstreams a worker serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot import config
from entrepot.config.pull_secret import ParsedPullSecret, parse
from entrepot.config.schema import Settings
from entrepot.edge.cache_epoch import CacheEpoch, begin
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.__main__ import _InForce, _secret
from entrepot.runtime.run_names import PULL_SECRET


def test_served_upstreams_follow_the_pull_secret(tmp_path: Path) -> None:
    """If the pull secret changes, a worker adds and removes upstreams without a restart.

    The worker selects the upstreams from the new secret by the same rule as at its start.
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
    """A worker builds the settings of an upstream once for each version of the pull secret.

    Every request uses these settings, and it would be slow to build them for each request.
    """
    settings = config.load([], {"REGISTRYDIR": str(tmp_path)}).settings
    secret = parse(b'{"auths": {"a.example": {}, "*.example": {}}}')
    in_force = _InForce(settings, lambda: secret)

    assert in_force.config("a.example") is in_force.config("a.example")
    assert in_force.config("b.example") is in_force.config("b.example")


def test_a_pattern_does_not_make_any_number_of_settings(tmp_path: Path) -> None:
    """If the pull secret has a pattern, a worker keeps the settings of at most 1,024 hosts.

    Clients choose the host names that match a pattern such as `*.example`, so without a limit they
    could fill the memory.
    """
    settings = config.load([], {"REGISTRYDIR": str(tmp_path)}).settings
    secret = parse(b'{"auths": {"*.example": {}}}')
    in_force = _InForce(settings, lambda: secret)

    for number in range(3000):
        assert in_force.config(f"h{number}.example") is not None

    assert len(in_force._view.sources) <= 1024


@pytest.mark.parametrize("became", [b'{"auths": {', None], ids=["invalid", "deleted"])
def test_a_restart_with_an_unusable_pull_secret_uses_the_last_good_one(
    tmp_path: Path, became: bytes | None
) -> None:
    """If the pull secret becomes unusable while the appliance runs, a worker still starts.

    The new worker uses the last good pull secret, as running workers do.
    """
    path = tmp_path / "secret.json"
    path.write_bytes(b'{"auths": {"a.example": {}}}')
    loaded = config.load([], {"REGISTRYDIR": str(tmp_path), "PULLSECRETPATH": str(path)}).settings
    run = tmp_path / "run"
    run.mkdir()
    begin(run)
    settings = loaded.changed(run=run)
    assert _hosts(settings) == ("a.example",)

    path.unlink() if became is None else path.write_bytes(became)

    assert _hosts(settings) == ("a.example",)
    assert (run / PULL_SECRET).stat().st_mode & 0o777 == 0o600


def _hosts(settings: Settings) -> tuple[str, ...]:
    secret = _secret(settings, Invalidation(CacheEpoch(settings.run)))()
    assert secret is not None
    return secret.hosts
