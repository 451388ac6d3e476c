"""Decide which unknown keys are errors and which are only warnings.

docker distribution ignores unknown keys, so configurations written for it can contain some. An
unknown key is an error if it resembles a key that protects data, a key that selects where data is
stored, or a key that only this appliance has. Such a key is probably misspelt. If the key were
ignored, the appliance could be open to all clients or could write to another folder, and the
operator would not notice.
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import Final

from entrepot.config import keys
from entrepot.config.distribution import ROWS, KeySupport
from entrepot.config.keys import Key
from entrepot.config.sources import cache_server

# In these sections every unknown key is an error, even if it resembles no known key.
_STRICT_SECTIONS: Final[tuple[Key, ...]] = (
    ("auth",),
    ("access",),
    ("hosted",),
    ("http", "tls"),
    ("upstreams",),
    ("pullsecret",),
    ("cleaner",),
    ("storage", "azure"),
    ("storage", "oss"),
    ("storage", "s3"),
    ("server",),
    ("cache",),
)
# These keys of docker distribution, which the appliance implements, protect data or select where
# data is stored.
_PROTECTING: Final[frozenset[Key]] = frozenset(
    {
        ("auth", "htpasswd", "path"),
        ("auth", "htpasswd", "realm"),
        ("auth", "none"),
        ("auth", "silly"),
        ("auth", "token"),
        ("http", "addr"),
        ("http", "tls", "certificate"),
        ("http", "tls", "key"),
        ("storage", "filesystem", "rootdirectory"),
        ("storage", "inmemory", "rootdirectory"),
        ("storage", "azure", "container"),
        ("storage", "azure", "rootdirectory"),
        ("storage", "oss", "bucket"),
        ("storage", "oss", "rootdirectory"),
        ("storage", "s3", "bucket"),
        ("storage", "s3", "rootdirectory"),
        ("storage", "delete", "enabled"),
        ("storage", "maintenance", "readonly", "enabled"),
        ("storage", "maintenance", "uploadpurging", "enabled"),
        ("storage", "maintenance", "uploadpurging", "dryrun"),
        ("middleware", "registry"),
        ("middleware", "repository"),
        ("middleware", "storage"),
        ("validation", "manifests", "urls", "allow"),
        ("validation", "manifests", "urls", "deny"),
        ("policy", "repository", "classes"),
        ("proxy", "remoteurl"),
        ("proxy", "username"),
        ("proxy", "password"),
        ("proxy", "ttl"),
        ("proxy", "exec", "command"),
    }
)
_CLOSE: Final = 0.66
_SHORTEST_START: Final = 3


def stops(key: Key) -> bool:
    """Return whether an unknown key is an error.

    *key* ends with its first unknown part.
    """
    above, last = key[:-1], key[-1]
    if any(above[: len(each)] == each for each in _STRICT_SECTIONS):
        return True
    if above == ("storage",):
        return True  # docker distribution also fails to start with an unknown driver.
    beside = {
        name[len(above)]
        for name in _strict_keys()
        if len(name) > len(above) and name[: len(above)] == above
    }
    return _is_known_elsewhere(last) or any(_is_close(last, each) for each in beside)


def _is_known_elsewhere(last: str) -> bool:
    """Return whether the name *last* occurs only in strict keys of a single top-level section."""
    elsewhere = {each for each in _parts(keys.names()) if each[-1] == last}
    return len({each[0] for each in elsewhere}) == 1 and elsewhere <= _parts(_strict_keys())


@cache
def _parts(names: frozenset[Key]) -> frozenset[Key]:
    """Return the keys *names* and all sections that contain them."""
    return frozenset(name[:end] for name in names for end in range(1, len(name) + 1))


@cache
def _strict_keys() -> frozenset[Key]:
    """Return the strict keys, that is, the keys whose misspellings are errors.

    These keys protect data, select where data is stored, are refused, or do not exist in docker
    distribution.
    """
    honoured = {_name(row.key) for row in ROWS if row.verdict is KeySupport.HONOURED}
    refused = {_name(row.key) for row in ROWS if row.verdict is KeySupport.REFUSED}
    theirs = {_name(row.key) for row in cache_server.ROWS}
    ours = set(keys.settings()) - honoured
    return frozenset(ours | refused | theirs | _PROTECTING)


def _name(key: str) -> Key:
    return tuple(key.removesuffix(".**").split("."))


def _is_close(written: str, known: str) -> bool:
    if not written or known == "*":
        return False
    written = written.lower()
    is_start = min(len(written), len(known)) >= _SHORTEST_START and (
        known.startswith(written) or written.startswith(known)
    )
    return is_start or difflib.SequenceMatcher(None, written, known).ratio() >= _CLOSE
