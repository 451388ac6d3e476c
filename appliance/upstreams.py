"""The names of all upstreams, for an operator to read."""

from __future__ import annotations

import config
from config.errors import ConfigError
from config.schema import Settings


def upstream_names(settings: Settings) -> list[str]:
    """Return the hosts of the configuration, then hosts and globs of the pull secret."""
    named = [each.host for each in config.upstreams(settings)]
    path = settings.pullsecret.path
    if path is None:
        return named
    try:
        secret = config.parse_pull_secret(path.read_bytes(), settings.pullsecret.ignore)
    except (OSError, ConfigError):  # it has changed since it was read; the registry has warned
        return named
    return list(dict.fromkeys([*named, *secret.hosts, *secret.globs]))
