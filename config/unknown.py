"""Which unknown keys stop the start, and which are only warned of.

docker distribution ignores unknown keys, so configurations that were written for it have some. A
key that is close to one that protects or places data, or to one that only we have, was meant to do
something: without it the appliance would be open, or write elsewhere, and nobody would know.
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import Final

from config import cache_server, keys
from config.distribution import ROWS, Verdict
from config.keys import Key

# What lies below these is never ignored, however little it resembles a key that is known.
_STRICT: Final[tuple[Key, ...]] = (
    ("auth",),
    ("access",),
    ("hosted",),
    ("http", "tls"),
    ("upstreams",),
    ("pullsecret",),
    ("cleaner",),
    ("server",),
    ("cache",),
)
# Of the keys that distribution knows and that are honoured: those that protect or place data.
_PROTECTING: Final[frozenset[Key]] = frozenset(
    {
        ("auth", "htpasswd", "path"),
        ("auth", "htpasswd", "realm"),
        ("auth", "none"),
        ("http", "addr"),
        ("http", "tls", "certificate"),
        ("http", "tls", "key"),
        ("storage", "filesystem", "rootdirectory"),
        ("storage", "delete", "enabled"),
        ("proxy", "remoteurl"),
        ("proxy", "username"),
        ("proxy", "password"),
    }
)
_CLOSE: Final = 0.66
_SHORTEST_START: Final = 3


def stops(key: Key) -> bool:
    """Return whether an unknown *key*, cut behind its first unknown part, stops the start."""
    above, last = key[:-1], key[-1]
    if any(above[: len(each)] == each for each in _STRICT):
        return True
    if above == ("storage",):
        return True  # distribution refuses an unknown driver too
    beside = {
        name[len(above)]
        for name in _weighty()
        if len(name) > len(above) and name[: len(above)] == above
    }
    return _is_known_elsewhere(last) or any(_is_close(last, each) for each in beside)


def _is_known_elsewhere(last: str) -> bool:
    """Return whether this names one key or section only, in another place, and it is weighty."""
    elsewhere = [each for each in _parts(keys.names()) if each[-1] == last]
    return len(elsewhere) == 1 and elsewhere[0] in _parts(_weighty())


@cache
def _parts(names: frozenset[Key]) -> frozenset[Key]:
    """Return *names* and all sections that they lie in."""
    return frozenset(name[:end] for name in names for end in range(1, len(name) + 1))


@cache
def _weighty() -> frozenset[Key]:
    """Return every key that must not be misspelt: those that protect, and those that are ours."""
    honoured = {_name(row.key) for row in ROWS if row.verdict is Verdict.HONOURED}
    refused = {_name(row.key) for row in ROWS if row.verdict is Verdict.REFUSED}
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
