"""`entrepot check` shows the configuration in force, its sources and its problems."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from entrepot import config
from entrepot.appliance import takeover
from entrepot.appliance.privileges import trusted_path, users
from entrepot.appliance.upstreams import hidden
from entrepot.config import Loaded, ParsedPullSecret, Problem, UpstreamValues
from entrepot.config.distribution import ROWS, DistributionKey, KeySupport

_BAD_INPUT = 2
# Keys of an upstream that do not inherit from `proxy:`, although `proxy:` has the same names.
_NOT_INHERITED = frozenset({"default", "username", "password"})


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print a report of the configuration from *argv* (the words after `check`) and *environ*.

    Return 2 for bad input, else 0. The files that the settings name are checked only if the
    settings themselves are valid.
    """
    loaded = config.examine(argv, environ)
    _step_down_unless_trusted(loaded, environ)
    found = [] if loaded.problems else config.check(loaded.settings)
    noticed: list[Problem] = []
    if not loaded.problems and not found:
        users.step_down(environ)  # as root, paths in the data directory could lead to any file
        noticed = list(takeover.remarks(loaded.settings))
        found = hidden(loaded.settings)
    sys.stdout.write(report(loaded, found, noticed))
    return _BAD_INPUT if loaded.problems or found else 0


def _step_down_unless_trusted(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Become the service user if it can replace a file that the settings name.

    Root reads files that only root may read, but none to which the service user could lead it.
    """
    user = users.choose(environ).user
    if user is None or loaded.problems:
        return
    if not all(trusted_path.is_trusted(each, user) for each in config.named_files(loaded.settings)):
        users.become(user)


def report(loaded: Loaded, found: Sequence[Problem] = (), noticed: Sequence[Problem] = ()) -> str:
    """Format every setting, every key of docker distribution, every warning and every problem.

    *found* are problems of the files that the settings name, and repositories that an upstream
    would hide. *noticed* are warnings from the state of the data directory.
    """
    problems = [*loaded.problems, *found]
    warnings = [*loaded.warnings, *([] if problems else config.remarks(loaded.settings)), *noticed]
    sections = [
        ("Settings, and the source of each", _settings(loaded)),
        ("Upstreams", _upstreams(loaded)),
        ("Keys of docker distribution", _distribution(loaded)),
        ("Warnings", _lines(warnings)),
        ("Problems", _lines(problems)),
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
    rows = [(each.host, each.url, _login(each, secret)) for each in values]
    rows += [(glob, "", "from the pull secret") for glob in known.globs]
    return list(_table(rows)) or ["  none"]


def _login(upstream: UpstreamValues, secret: ParsedPullSecret) -> str:
    login = f"as {upstream.username}" if upstream.username else "anonymous"
    if not upstream.username and upstream.host in secret.hosts:
        login = "login from the pull secret"
    return f"{login}, the default" if upstream.default else login


def _distribution(loaded: Loaded) -> list[str]:
    rows = [(row.key, row.verdict.value, _why(row, loaded)) for row in ROWS]
    return list(_table(rows))


def _why(row: DistributionKey, loaded: Loaded) -> str:
    origins = [given.origin for key, given in loaded.given.items() if row.matches(key)]
    accepted = [each for each in row.harmless if each] if row.verdict is KeySupport.REFUSED else []
    source = f"set by {', '.join(dict.fromkeys(origins))}" if origins else ""
    but = f"except {', '.join(accepted)}" if accepted else ""
    return "; ".join(filter(None, (row.why, but, source)))


def _origin(key: tuple[str, ...], loaded: Loaded) -> str:
    inherited = ("proxy", key[-1])
    if key not in loaded.given and key[0] == "upstreams" and key[-1] not in _NOT_INHERITED:
        return loaded.origin(inherited)
    return loaded.origin(key)


def _lines(problems: Iterable[Problem]) -> list[str]:
    return [f"  {each}" for each in problems] or ["  none"]


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
