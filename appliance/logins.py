"""Who a client is to the appliance: a user's auth.json, as podman and docker write it."""

from __future__ import annotations

from pathlib import Path

import config
from config import Credential
from config.errors import ConfigError, Problem


def login_for(path: Path, netloc: str) -> Credential | None:
    """Find the login for *netloc* (host and port) in an auth.json; None when it has none.

    Raises: ConfigError.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        remedy = "name a file that `podman login --authfile FILE` has written"
        raise ConfigError([Problem(f"--authfile={path}", why, remedy)]) from error
    return config.parse_pull_secret(text, source=str(path)).lookup(netloc, "")
