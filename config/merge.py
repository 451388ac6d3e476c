"""Merge the values of all sources; flags override the environment, which overrides the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from entrepot.config import keys, parts, unknown_keys
from entrepot.config.address import registry_host
from entrepot.config.distribution import (
    DRIVERS,
    IMPLEMENTED,
    SCHEMES,
    DistributionKey,
    KeySupport,
)
from entrepot.config.errors import Problem, Unreadable
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue, SourceValues
from entrepot.config.sources import aliases, cache_server

_LISTEN: Final = ("http", "addr")
_KINDS = {"auth": SCHEMES, "storage": DRIVERS}
# A file with more unknown keys than this is probably not the configuration of a registry.
_MOST_UNKNOWN: Final = 100
_MOST_UPSTREAMS: Final = 1000
_EMPTY: Final[tuple[object, ...]] = ("", "[]", "{}", [], {}, None)


@dataclass(slots=True)
class Merged:
    """A `Merged` is the result of merging all sources.

    `winners` maps each key to the value of the source with the highest precedence. `ignored`
    contains a warning for each unknown key that is not an error.
    """

    winners: dict[Key, RawValue] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[Problem] = field(default_factory=list)


def merge(layers: Sequence[SourceValues]) -> Merged:
    """Merge the values of *layers*; if several layers contain a key, the last of them wins.

    Unknown keys become problems or warnings. A second authentication scheme, a second storage
    driver and too many upstreams become problems.
    """
    merged = Merged()
    for layer in layers:
        merged.problems += layer.problems
        known = [each for each in layer.given if _is_known(each.key)]
        _report([each for each in layer.given if not _is_known(each.key)], merged)
        for each in sorted(known, key=_rank):
            _lay(each, merged)
    winners = merged.winners
    if level := winners.pop(("loglevel",), None):
        winners.setdefault(("log", "level"), replace(level, key=("log", "level")))
    if (ttl := winners.pop(("proxy", "ttl"), None)) and ttl.value not in _EMPTY:
        winners.setdefault(("cleaner", "ttl"), replace(ttl, key=("cleaner", "ttl")))
    merged.problems += _second_scheme(winners)
    merged.problems += _second_driver(winners)
    merged.problems += _too_many_upstreams(winners)
    merged.problems += parts.join(winners)
    return merged


def unsupported_keys(winners: Iterable[RawValue]) -> tuple[list[Problem], list[Problem]]:
    """Return problems and warnings for the keys of docker distribution that are not implemented.

    A refused key causes a problem, and a key without effect causes a warning. If several variables
    set keys of one section, they cause one message, which names the first key.
    """
    found: dict[DistributionKey, list[RawValue]] = {}
    for each in winners:
        row = keys.find(each.key)
        if not isinstance(row, DistributionKey) or row.verdict is KeySupport.HONOURED:
            continue
        if not _is_harmless(each.value, row):
            found.setdefault(row, []).append(each)
    is_refused = {row: row.verdict is KeySupport.REFUSED for row in found}
    refused = [_line(row, "refused", given) for row, given in found.items() if is_refused[row]]
    ineffective = [
        _line(row, "without effect", given) for row, given in found.items() if not is_refused[row]
    ]
    return refused, ineffective


def _line(row: DistributionKey, verdict: str, given: Sequence[RawValue]) -> Problem:
    others = len(given) - 1
    count = "1 more key" if others == 1 else f"{others} more keys"
    more = f" with {count} of {row.key.removesuffix('.**')}" if others else ""
    return given[0].objection(f"{verdict}{more}: {row.why}", row.instead)


def _rank(given: RawValue) -> tuple[bool, bool]:
    """Return a sort key for the values of one source.

    Values that choose a driver or scheme come first, then docker-cache-server's keys, then the
    appliance's own keys. If two values set the same setting, the later value in this order wins.
    """
    return not given.chooses, given.key not in cache_server.MEANT


def _is_known(key: Key) -> bool:
    return keys.find(key) is not None or keys.is_section(key)


def _report(unknown: Sequence[RawValue], merged: Merged) -> None:
    """Add a problem or a warning to *merged* for each of the *unknown* keys.

    If there are more than 100 unknown keys, add one problem for all of them.
    """
    if len(unknown) > _MOST_UNKNOWN:
        message = f"{len(unknown):,} unknown keys, of which this is the first"
        remedy = "name the configuration of a registry; compare config/example.yml"
        merged.problems.append(unknown[0].objection(message, remedy))
        return
    for each in unknown:
        is_weighty = unknown_keys.stops(keys.unknown_part(each.key))
        (merged.problems if is_weighty else merged.ignored).append(_unknown(each))


def _lay(given: RawValue, merged: Merged) -> None:
    winners = merged.winners
    try:
        key = _with_host_folded(given.key)
    except Unreadable as error:
        merged.problems.append(given.objection(error.message, error.remedy))
        return
    if given.chooses:
        _switch_off(key, winners)
    if key == _LISTEN:  # The setting `http.addr` overrides docker-cache-server's address and port.
        winners.pop(cache_server.ADDRESS, None)
        winners.pop(cache_server.PORT, None)
    parts.forget(key, winners)
    winners[key] = replace(given, key=key)
    if renamed := aliases.ours(given):
        winners[renamed.key] = renamed


def _unknown(given: RawValue) -> Problem:
    part = keys.unknown_part(given.key)
    near = keys.nearest(part)
    name = given.name.replace(".".join(given.key), ".".join(part))
    return Problem(name, "no such key", f"did you mean {near}?" if near else "take it out")


def _with_host_folded(key: Key) -> Key:
    if key[0] == "upstreams" and len(key) > 1:
        return ("upstreams", registry_host(key[1]), *key[2:])
    return key


def _switch_off(key: Key, winners: dict[Key, RawValue]) -> None:
    others = _KINDS[key[0]] - {key[1]}
    for each in [name for name in winners if name[0] == key[0] and name[1:2] and name[1] in others]:
        del winners[each]


def _second_scheme(winners: dict[Key, RawValue]) -> list[Problem]:
    schemes = {key[1]: each for key, each in winners.items() if key[0] == "auth" and key[1:]}
    found = [schemes[name] for name in sorted(SCHEMES & schemes.keys())]
    return [found[1].objection("a second auth scheme", "keep one")] if found[1:] else []


def _second_driver(winners: dict[Key, RawValue]) -> list[Problem]:
    named = {key[1]: each for key, each in winners.items() if key[0] == "storage" and key[1:]}
    found = [named[name] for name in sorted(IMPLEMENTED & named.keys())]
    return [found[1].objection("a second storage driver", "keep one")] if found[1:] else []


def _too_many_upstreams(winners: dict[Key, RawValue]) -> list[Problem]:
    """If there are too many upstreams, remove all of them and return a problem."""
    named = [key for key in winners if key[0] == "upstreams" and key[1:]]
    if len({key[1] for key in named}) <= _MOST_UPSTREAMS:
        return []
    first = winners[named[0]]
    for each in named:
        del winners[each]
    return [first.objection(f"more than {_MOST_UPSTREAMS:,} upstreams", "remove some")]


def _is_harmless(value: object, row: DistributionKey) -> bool:
    if value in _EMPTY or _is_disabled(value):
        return "" in row.harmless
    return isinstance(value, str) and value.strip().lower() in row.harmless


def _is_disabled(value: object) -> bool:
    """Return whether *value* is a list in which every entry (a hook, for example) is disabled."""
    return isinstance(value, list) and all(
        isinstance(each, dict) and str(each.get("disabled")).lower() == "true" for each in value
    )
