"""Puts the parts of a map or list together, which variables and flags can set one by one.

docker distribution reads REGISTRY_HTTP_HEADERS_X-Frame-Options as a key of the map `http.headers`,
and REGISTRY_HTTP_TLS_CLIENTCAS_0 as the first entry of the list `http.tls.clientcas`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from entrepot.config import readers, response_headers
from entrepot.config.errors import Problem, Unreadable
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue

_MAPS: Final = frozenset({("http", "headers")})
_LISTS: Final = frozenset({("http", "tls", "clientcas"), ("http", "tls", "ciphersuites")})
_LONGEST_LIST: Final = 64


def forget(key: Key, winners: dict[Key, RawValue]) -> None:
    """Remove the parts of *key* that sources of lower precedence have set."""
    if key in _MAPS | _LISTS:
        for each in [name for name in winners if name[:-1] == key]:
            del winners[each]


def join(winners: dict[Key, RawValue]) -> list[Problem]:
    """Replace parts by the whole value that contains them. Return the problems."""
    problems = []
    for part in [name for name in winners if name[:-1] in _MAPS | _LISTS]:
        given = winners.pop(part)
        whole = winners.get(part[:-1])
        below = whole.value if whole else None
        try:
            value = _joined(part, below, given.value)
        except Unreadable as error:
            problems.append(given.problem(error.message, error.remedy))
        else:
            winners[part[:-1]] = replace(given, key=part[:-1], value=value)
    return problems


def _joined(part: Key, below: object, value: object) -> object:
    if part[:-1] in _MAPS:
        return response_headers.merged(below, part[-1], value)
    entries = list(readers.words(below)) if below is not None else []
    if not part[-1].isdecimal() or int(part[-1]) > min(len(entries), _LONGEST_LIST):
        raise Unreadable(f"not the index of an entry: {part[-1][:32]}", f"try {len(entries)}")
    return [*entries[: int(part[-1])], readers.text(value), *entries[int(part[-1]) + 1 :]]
