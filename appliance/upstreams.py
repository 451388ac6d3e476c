"""Return the upstreams in force, and report pushed repositories that an upstream would hide."""

from __future__ import annotations

from entrepot import config
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.pull_secret import ParsedPullSecret
from entrepot.config.schema import Settings
from entrepot.config.upstreams import UpstreamSet
from entrepot.datastore.drivers.table import open_storage
from entrepot.datastore.errors import StorageBroken
from entrepot.registry.routing.name_conflicts import leaves_out, shadowed


def upstreams_now(settings: Settings) -> UpstreamSet:
    """Return the upstreams in force, with the current content of the pull secret."""
    return config.upstreams_in_force(settings, _secret(settings))


def upstream_names(settings: Settings) -> list[str]:
    """Return the hosts of the upstreams in force, then the globs in the pull secret."""
    known = upstreams_now(settings)
    return [*known.hosts, *known.globs]


def hidden(settings: Settings) -> list[Problem]:
    """Return a problem for each pushed repository whose first component is an upstream's host.

    If a bucket does not respond, the result is empty, because `serve` or `check` has already
    reported the bucket.
    """
    try:
        return _hidden(settings)
    except StorageBroken:
        if settings.storage.bucket:
            return []
        raise


def _hidden(settings: Settings) -> list[Problem]:
    storage, known = open_storage(settings.storage), upstreams_now(settings)
    return [
        Problem(
            str(name),
            f"was pushed, and the upstream {name.name.partition('/')[0]} would hide it",
            f"set {leaves_out(name)} to leave that upstream out, or move the repository",
        )
        for name in shadowed(storage, known.names)
    ]


def _secret(settings: Settings) -> ParsedPullSecret | None:
    path = settings.pullsecret.path
    if path is None:
        return None
    try:
        return config.parse_pull_secret(path.read_bytes(), settings.pullsecret.ignore)
    # If the pull secret became unreadable or invalid after the start, the registry logs a warning.
    except (OSError, ConfigError):
        return None
