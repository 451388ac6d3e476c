"""Join the parts of a map or list that were set by separate variables or flags.

As in docker distribution, the variable REGISTRY_HTTP_HEADERS_X-Frame-Options sets one key of the
map `http.headers`, and REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL sets one key in the first entry of a
list. The appliance also accepts REGISTRY_HTTP_TLS_CLIENTCAS_0 for one entry of a list of texts;
docker distribution does not read the value of such a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from entrepot.config import log_fields, push_settings, readers, response_headers
from entrepot.config.errors import Problem, Unreadable
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.yaml_text import from_yaml, with_part

_MERGE: Final[Mapping[Key, Callable[[object, str, object], object]]] = {
    ("http", "headers"): response_headers.merged,
    ("log", "fields"): log_fields.merged,
}
_MAPS: Final = frozenset(_MERGE)
# Each setting in this table is a list of texts. The table maps it to the function that reads the
# whole list.
_LISTS: Final[Mapping[Key, Callable[[object], tuple[str, ...]]]] = {
    ("auth", "token", "signingalgorithms"): readers.words,
    ("http", "tls", "clientcas"): readers.words,
    ("http", "tls", "ciphersuites"): readers.words,
    ("policy", "repository", "classes"): readers.words,
    ("validation", "manifests", "urls", "allow"): push_settings.url_patterns,
    ("validation", "manifests", "urls", "deny"): push_settings.url_patterns,
}
# Each setting in this set is a list of maps, which can contain lists and maps.
_NESTED: Final = frozenset(
    {
        ("log", "hooks"),
        ("notifications", "endpoints"),
        ("middleware", "registry"),
        ("middleware", "repository"),
        ("middleware", "storage"),
        ("health", "file"),
        ("health", "http"),
        ("health", "tcp"),
        ("validation", "manifests", "indexes", "platformlist"),
    }
)
# The values of keys with these names are read as text. They are not parsed as YAML, because a
# password such as `%x: [` is not valid YAML.
_TEXTS: Final = frozenset(
    {"addr", "file", "from", "name", "password", "type", "uri", "url", "username"}
)
_LONGEST_LIST: Final = 64
_EXAMPLE: Final = "compare config/example.yml"


def forget(key: Key, winners: dict[Key, RawValue]) -> None:
    """Remove the parts of *key* from *winners*, because a later source sets *key* as a whole."""
    for each in [name for name in winners if name != key and _whole(name) == key]:
        del winners[each]


def join(winners: dict[Key, RawValue]) -> list[Problem]:
    """Replace the parts of each map or list in *winners* by one value that contains all of them.

    Return a problem for each invalid part.
    """
    problems = []
    for part in [name for name in winners if _whole(name) not in {None, name}]:
        given = winners.pop(part)
        key = _whole(part) or part
        whole = winners.get(key)
        below = whole.value if whole else None
        try:
            value = _joined(part, below, given.value)
        except Unreadable as error:
            is_secret = key in _NESTED
            problems.append(given.problem(error.message, error.remedy, is_secret=is_secret))
        else:
            winners[key] = replace(given, key=key, value=value)
    return problems


def _whole(part: Key) -> Key | None:
    """Return the key of the map or list to which *part* belongs, or None if it belongs to none."""
    if part[:-1] in _MAPS or part[:-1] in _LISTS:
        return part[:-1]
    return next((part[:end] for end in range(2, len(part) + 1) if part[:end] in _NESTED), None)


def _joined(part: Key, below: object, value: object) -> object:
    whole = _whole(part)
    if whole in _NESTED:
        read = value if part[-1] in _TEXTS else from_yaml(value, _EXAMPLE)
        return with_part(from_yaml(below, _EXAMPLE), part[len(whole) :], read)
    if part[:-1] in _MAPS:
        return _MERGE[part[:-1]](below, part[-1], value)
    entries = list(_LISTS[part[:-1]](below)) if below is not None else []
    if not part[-1].isdecimal() or int(part[-1]) > min(len(entries), _LONGEST_LIST):
        raise Unreadable(f"not the index of an entry: {part[-1][:32]}", f"try {len(entries)}")
    return [*entries[: int(part[-1])], readers.text(value), *entries[int(part[-1]) + 1 :]]
