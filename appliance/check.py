"""`entrepot check`: what would be done with the configuration, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from entrepot import config
from entrepot.appliance import takeover
from entrepot.appliance.privileges import users
from entrepot.appliance.upstreams import hidden
from entrepot.config import Loaded, ParsedPullSecret, Problem, UpstreamValues
from entrepot.config.distribution import ROWS, DistributionKey, KeySupport

_BAD_INPUT = 2
# Of an upstream, though `proxy:` has settings of the same name.
_OWN = frozenset({"default", "username", "password"})


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the report of what *argv* (behind `check`) and *environ* say: 2 for bad input, else 0.

    The files that the settings name are looked at once the settings themselves can be read.
    """
    loaded = config.examine(argv, environ)
    found = [] if loaded.problems else config.check(loaded.settings)
    noticed: list[Problem] = []
    if not loaded.problems and not found:
        users.step_down(environ)  # what lies in the data directory could lead root astray
        noticed = list(takeover.remarks(loaded.settings))
        found = hidden(loaded.settings)
    sys.stdout.write(report(loaded, found, noticed))
    return _BAD_INPUT if loaded.problems or found else 0


def report(loaded: Loaded, found: Sequence[Problem] = (), noticed: Sequence[Problem] = ()) -> str:
    """Write every setting, every key of distribution, every warning and every problem.

    *found* are the problems of the files that the settings name, or what an upstream would hide.
    *noticed* is what the data directory itself gives to warn of.
    """
    problems = [*loaded.problems, *found]
    warnings = [*loaded.warnings, *([] if problems else config.remarks(loaded.settings)), *noticed]
    sections = [
        ("Settings, and where each came from", _settings(loaded)),
        ("Upstreams", _upstreams(loaded)),
        ("Keys of docker distribution", _distribution(loaded)),
        ("Warnings", _told(warnings)),
        ("Problems", _told(problems)),
    ]
    return "\n".join("\n".join((title, *lines, "")) for title, lines in sections)


def _settings(loaded: Loaded) -> list[str]:
    rows = [
        (".".join(key), value, _origin(key, loaded))
        for key, value in config.shown_settings(loaded.settings)
    ]
    return list(_table(rows))


def _upstreams(loaded: Loaded) -> list[str]:
    settings = loaded.settings
    secret, _ = config.read_secret(settings)
    known = config.upstreams_in_force(settings, secret)
    values = (known.values(host) for host in known.hosts)
    rows = [(each.host, each.url, _who(each, secret)) for each in values]
    rows += [(glob, "", "of the pull secret") for glob in known.globs]
    return list(_table(rows)) or ["  none"]


def _who(upstream: UpstreamValues, secret: ParsedPullSecret) -> str:
    login = f"as {upstream.username}" if upstream.username else "anonymous"
    if not upstream.username and upstream.host in secret.hosts:
        login = "by the pull secret"
    return f"{login}, the default" if upstream.default else login


def _distribution(loaded: Loaded) -> list[str]:
    rows = [(row.key, row.verdict.value, _why(row, loaded)) for row in ROWS]
    return list(_table(rows))


def _why(row: DistributionKey, loaded: Loaded) -> str:
    origins = [given.origin for key, given in loaded.given.items() if row.matches(key)]
    taken = [each for each in row.harmless if each] if row.verdict is KeySupport.REFUSED else []
    said = f"set by {', '.join(dict.fromkeys(origins))}" if origins else ""
    but = f"but for {', '.join(taken)}" if taken else ""
    return "; ".join(filter(None, (row.why, but, said)))


def _origin(key: tuple[str, ...], loaded: Loaded) -> str:
    inherited = ("proxy", key[-1])
    if key not in loaded.given and key[0] == "upstreams" and key[-1] not in _OWN:
        return loaded.origin(inherited)
    return loaded.origin(key)


def _told(problems: Iterable[Problem]) -> list[str]:
    return [f"  {each}" for each in problems] or ["  none"]


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
