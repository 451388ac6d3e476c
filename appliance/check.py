"""Show the active configuration, its sources and its problems (`entrepot check`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from entrepot import config
from entrepot.appliance import takeover
from entrepot.appliance.privileges import trusted_path, users
from entrepot.appliance.upstreams import hidden
from entrepot.config import Loaded, ParsedPullSecret, Problem, UpstreamValues
from entrepot.config.distribution import ROWS, DistributionKey, KeySupport
from entrepot.config.notifications import bare_url
from entrepot.config.schema import Settings
from entrepot.config.units import show_span

if TYPE_CHECKING:
    from entrepot.datastore.owned import TriedRequest

_BAD_INPUT = 2
_JSON = "--json"
# An upstream does not inherit these keys from `proxy:`, although `proxy:` has keys with the same
# names.
_NOT_INHERITED = frozenset({"default", "username", "password"})


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print a report of the configuration from *argv* (the words after `check`) and *environ*.

    With `--json` the report is one JSON object. Return the exit code: 2 if there is a problem, else
    0. The files that the settings name are checked only if the settings themselves are valid.
    """
    loaded = config.examine([word for word in argv if word != _JSON], environ)
    _step_down_unless_trusted(loaded, environ)
    found = [] if loaded.problems else config.check(loaded.settings)
    noticed: list[Problem] = []
    tried: list[TriedRequest] = []
    if not loaded.problems and not found:
        # The checks below read the data directory. The service user could put a symlink there, and
        # root would read the file to which the symlink points. So the checks run as the service
        # user.
        users.step_down(environ)
        noticed = list(takeover.remarks(loaded.settings))
        found, tried = _of_bucket(loaded.settings)
        found = found or hidden(loaded.settings)
    write = as_json if _JSON in argv else report
    sys.stdout.write(write(loaded, found, noticed, tried))
    return _BAD_INPUT if loaded.problems or found else 0


def _of_bucket(settings: Settings) -> tuple[list[Problem], list[TriedRequest]]:
    """Return the problems of the bucket, and the test requests that were sent to it."""
    if not settings.storage.bucket:
        return [], []
    from entrepot.appliance import bucket  # noqa: PLC0415 - only with this driver
    from entrepot.datastore.errors import StorageBroken  # noqa: PLC0415 - likewise

    tried: list[TriedRequest] = []
    try:
        tried.extend(bucket.tried(settings))
    except config.ConfigError as error:
        return list(error.problems), tried
    except StorageBroken as error:
        return [bucket.no_answer(settings, error)], tried
    return [bucket.problem(settings, each) for each in tried if each.why], tried


def _step_down_unless_trusted(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Become the service user if that user can replace a file that the settings name.

    The service user could replace such a file by a symlink, and root would read the file to which
    the symlink points. If only root can change these files, the process remains root.
    """
    user = users.choose(environ).user
    if user is None or loaded.problems:
        return
    if not all(trusted_path.is_trusted(each, user) for each in config.named_files(loaded.settings)):
        users.become(user)


def report(
    loaded: Loaded,
    found: Sequence[Problem] = (),
    noticed: Sequence[Problem] = (),
    tried: Sequence[TriedRequest] = (),
) -> str:
    """Format every setting, every key of docker distribution, every warning and every problem.

    *found* has the problems of files and of the bucket, and the pushed repositories that an
    upstream would hide. *noticed* has warnings about the state of the data directory. *tried* has
    the test requests to the bucket.
    """
    problems, warnings = _all_problems(loaded, found, noticed)
    sections = [
        ("Settings, and the source of each", list(_table(_settings(loaded)))),
        ("Upstreams", list(_table(_upstreams(loaded))) or ["  none"]),
        ("Endpoints of notifications", _endpoints(loaded)),
        ("Keys of docker distribution", _distribution(loaded)),
        *([("Requests to the bucket", list(_table(list(map(_tried, tried)))))] if tried else []),
        ("Warnings", _lines(warnings)),
        ("Problems", _lines(problems)),
    ]
    return "\n".join("\n".join((title, *lines, "")) for title, lines in sections)


def as_json(
    loaded: Loaded,
    found: Sequence[Problem] = (),
    noticed: Sequence[Problem] = (),
    tried: Sequence[TriedRequest] = (),
) -> str:
    """Format the same facts as `report` as one JSON object, with secrets masked."""
    problems, warnings = _all_problems(loaded, found, noticed)
    document = {
        "file": str(loaded.file) if loaded.file else None,
        "settings": [
            {"key": key, "value": value, "source": source}
            for key, value, source in _settings(loaded)
        ],
        "upstreams": [
            {"host": host, "url": url, "login": login} for host, url, login in _upstreams(loaded)
        ],
        "distribution": [_key(row, loaded) for row in ROWS],
        "requests": [asdict(each) for each in tried],
        "warnings": [asdict(each) for each in warnings],
        "problems": [asdict(each) for each in problems],
    }
    return f"{json.dumps(document, indent=2)}\n"


def _all_problems(
    loaded: Loaded, found: Sequence[Problem], noticed: Sequence[Problem]
) -> tuple[list[Problem], list[Problem]]:
    problems = [*loaded.problems, *found]
    warnings = [*loaded.warnings, *([] if problems else config.remarks(loaded.settings)), *noticed]
    return problems, warnings


def _tried(each: TriedRequest) -> tuple[str, str, str]:
    return each.name, f"{each.seconds * 1000:.0f} ms", "refused" if each.why else "accepted"


def _key(row: DistributionKey, loaded: Loaded) -> dict[str, object]:
    remedy = {} if row.verdict is KeySupport.HONOURED else {"remedy": row.instead}
    return {
        "key": row.key,
        "verdict": row.verdict.value,
        "why": row.why,
        **remedy,
        "sources": _sources(row, loaded),
    }


def _sources(row: DistributionKey, loaded: Loaded) -> list[str]:
    """Return the sources in which the key of *row* is set."""
    origins = (given.origin for key, given in loaded.given.items() if row.matches(key))
    return [each for each in dict.fromkeys(origins) if each != "default"]


def _settings(loaded: Loaded) -> list[tuple[str, str, str]]:
    return [
        (".".join(key), value, _origin(key, loaded))
        for key, value in config.shown_settings(loaded.settings)
    ]


def _upstreams(loaded: Loaded) -> list[tuple[str, str, str]]:
    settings = loaded.settings
    secret, _ = config.read_secret(settings)
    known = config.upstreams_in_force(settings, secret)
    values = (known.values(host) for host in known.hosts)
    rows = [(each.host, each.url, _login(each, secret)) for each in values]
    return [*rows, *((glob, "", "from the pull secret") for glob in known.globs)]


def _endpoints(loaded: Loaded) -> list[str]:
    rows = [
        (
            each.name,
            "disabled" if each.disabled else bare_url(each.url),
            f"time-out {show_span(each.timeout)}",
            f"after {each.threshold} failures every {show_span(each.backoff)}",
            f"ignores {' '.join((*each.ignoredmediatypes, *each.actions)) or 'nothing'}",
        )
        for each in loaded.settings.notifications.endpoints
    ]
    return (list(_table(rows)) if rows else []) or ["  none"]


def _login(upstream: UpstreamValues, secret: ParsedPullSecret) -> str:
    login = f"as {upstream.username}" if upstream.username else "anonymous"
    if not upstream.username and upstream.host in secret.hosts:
        login = "login from the pull secret"
    return f"{login}, the default" if upstream.default else login


def _distribution(loaded: Loaded) -> list[str]:
    rows = [(row.key, row.verdict.value, _why(row, loaded)) for row in ROWS]
    return list(_table(rows))


def _why(row: DistributionKey, loaded: Loaded) -> str:
    origins = _sources(row, loaded)
    source = f"set by {', '.join(origins)}" if origins else ""
    remedy = row.instead if origins and row.verdict is not KeySupport.HONOURED else ""
    return "; ".join(filter(None, (row.why, source, remedy)))


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
