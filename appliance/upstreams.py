"""The upstreams by name: what an operator reads at the start, and what they would hide."""

from __future__ import annotations

import config
from config.errors import ConfigError, Problem
from config.pull_secret import PullSecret
from config.schema import Settings
from datastore.filesystem import Filesystem
from registry.names import fold, unfold
from registry.shadows import shadowed


def upstream_names(settings: Settings) -> list[str]:
    """Return the hosts of the configuration, then hosts and globs of the pull secret."""
    named = [each.host for each in config.upstreams(settings)]
    secret = _secret(settings)
    if secret:
        named += [*secret.hosts, *secret.globs]
    return list(dict.fromkeys(named or [each.host for each in config.public_upstreams(settings)]))


def hidden(settings: Settings) -> list[Problem]:
    """Return a problem for each repository that was pushed and that an upstream would hide."""
    named = {fold(each.host) for each in config.upstreams(settings)}
    secret = _secret(settings)

    def is_upstream(first: str) -> bool:
        return first in named or (secret is not None and secret.names(unfold(first)))

    return [
        Problem(
            str(name),
            f"was pushed, and the upstream {name.name.partition('/')[0]} would hide it",
            "leave that upstream out, or move the repository",
        )
        for name in shadowed(Filesystem(settings.storage.rootdirectory), is_upstream)
    ]


def _secret(settings: Settings) -> PullSecret | None:
    path = settings.pullsecret.path
    if path is None:
        return None
    try:
        return config.parse_pull_secret(path.read_bytes(), settings.pullsecret.ignore)
    except (OSError, ConfigError):  # it has changed since it was read; the registry has warned
        return None
