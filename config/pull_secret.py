"""Reads a pull secret: which registries it names, and who we are to each of them.

The forms are Docker's `config.json`, of which `.dockerconfigjson` of a Kubernetes secret is one,
and the older `.dockercfg`, its `auths` alone; either may come in base64, as it stands in such a
secret. A key is a host, with a port, a path, a scheme or a glob, as the kubelet reads it; its host
makes an upstream, its path only chooses the credential.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from config.address import registry_host
from config.credential import Credential, credential
from config.errors import ConfigError, Problem, Unreadable

SOURCE = "pull secret"

_NOT_REGISTRIES = frozenset(
    {"HttpHeaders", "credHelpers", "credsStore", "currentContext", "detachKeys", "psFormat"}
)
_TIP = "compare ~/.docker/config.json after `docker login`"
_GLOB = frozenset("*?[")
_API_VERSIONS = frozenset({"v1", "v2"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the secret: its host or glob, its path in names, and what it gives."""

    host: str
    path: tuple[str, ...]
    credential: Credential | None

    @property
    def is_glob(self) -> bool:
        """Say whether the host stands for several."""
        return _is_glob(self.host)

    def is_about(self, host: str) -> bool:
        """Say whether *host* is the one, or one of those, of this entry."""
        return _glob_matches(self.host, host) if self.is_glob else self.host == host

    def covers(self, repository: Sequence[str]) -> bool:
        """Say whether the entry's path leads to *repository*, name by name."""
        return tuple(repository[: len(self.path)]) == self.path


@dataclass(frozen=True, slots=True)
class PullSecret:
    """What a secret says; `warnings` are what it says in vain."""

    entries: tuple[Entry, ...] = ()
    ignored: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that it names, each once, in its order."""
        return tuple(dict.fromkeys(each.host for each in self.entries if not each.is_glob))

    @property
    def globs(self) -> tuple[str, ...]:
        """The globs that stand for hosts, each once, in its order."""
        return tuple(dict.fromkeys(each.host for each in self.entries if each.is_glob))

    def names(self, host: str) -> bool:
        """Say whether *host* is an upstream by this secret."""
        return any(True for _ in self._about(host))

    def lookup(self, host: str, repository: str) -> Credential | None:
        """Find who we are to *host* for *repository*, None for nobody.

        A host goes before a glob, then the longest path wins, then the longest glob.
        """
        parts = repository.split("/")
        fitting = [each for each in self._about(host) if each.covers(parts)]
        best = max(fitting, key=_rank, default=None)
        return best.credential if best else None

    def _about(self, host: str) -> Iterator[Entry]:
        name = _folded(host)
        fitting = () if name in self.ignored else self.entries
        return (each for each in fitting if each.is_about(name))


def parse(data: bytes, ignore: Sequence[str] = (), *, source: str = SOURCE) -> PullSecret:
    """Read a secret, without the hosts *ignore*; *source* starts each line about it.

    Raises: ConfigError, with every entry that can't be read; none of its lines shows a secret.
    """
    document = _document(data, source)
    reading = _Reading(frozenset(_folded(each) for each in ignore), source)
    reading.warnings += _helpers(document, source)
    for key, value in _auths(document, source).items():
        reading.read(key, value)
    if reading.problems:
        raise ConfigError(reading.problems)
    return PullSecret(tuple(reading.entries), reading.ignored, tuple(reading.warnings))


class _Reading:
    """What has been read of a secret."""

    def __init__(self, ignored: frozenset[str], source: str) -> None:
        self.ignored = ignored
        self._source = source
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def read(self, key: str, value: object) -> None:
        """Read one entry, unless its host is ignored: then it may say anything."""
        source = f'{self._source}: entry "{_without_login(key)}"'
        try:
            host, path = _key(key)
            if host in self.ignored:
                return
            entry = Entry(host, path, credential(value))
        except Unreadable as error:
            self.problems.append(Problem(source, error.message, error.remedy))
            return
        self.warnings += _remarks(entry, self.entries, source)
        self.entries.append(entry)


def _without_login(key: str) -> str:
    """Write a key as it may be shown: a user and a password before its host are left out."""
    scheme, marked, rest = key.rpartition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}{marked}{'***@' if at and login else at}{host}"


def _plain(data: bytes) -> bytes:
    """Take the base64 off a secret that podman 4.3 has mounted with it (its issue 16625)."""
    if b"{" in data:
        return data
    try:
        decoded = base64.b64decode(b"".join(data.split()), validate=True)
    except ValueError:
        return data
    return decoded if b"{" in decoded else data


def _document(data: bytes, source: str) -> dict[str, object]:
    try:
        document = json.loads(_plain(data))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        why = f"not JSON: {error.msg.lower()} in {where}" if data.strip() else "empty"
        raise ConfigError([Problem(source, why, _TIP)]) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ConfigError([Problem(source, "not JSON", _TIP)]) from error
    if not isinstance(document, dict):
        raise ConfigError([Problem(source, "not a JSON object", _TIP)])
    if document.get("kind") == "Secret":
        remedy = "mount its .dockerconfigjson, decoded"
        raise ConfigError([Problem(source, "a Kubernetes manifest, not what it holds", remedy)])
    return document


def _auths(document: dict[str, object], source: str) -> dict[str, object]:
    older = {key: value for key, value in document.items() if key not in _NOT_REGISTRIES}
    auths = document.get("auths", {} if len(older) < len(document) else older)
    if not isinstance(auths, dict):
        raise ConfigError([Problem(source, "auths is not a JSON object", _TIP)])
    return auths


def _helpers(document: dict[str, object], source: str) -> Iterator[Problem]:
    for key in ("credHelpers", "credsStore"):
        if document.get(key):
            yield Problem(
                f"{source}: {key}",
                "without effect: credential helpers are not asked",
                "put the credentials into auths",
            )


def _remarks(entry: Entry, before: list[Entry], source: str) -> Iterator[Problem]:
    if any((each.host, each.path) == (entry.host, entry.path) for each in before):
        name = "/".join((entry.host, *entry.path))
        yield Problem(source, f"{name} is named twice", "keep one of them")


def _key(key: str) -> tuple[str, tuple[str, ...]]:
    """Part a key into host, or glob, and path. Raises: Unreadable."""
    bare = key.strip().partition("://")[2] or key.strip()
    host, *path = bare.rstrip("/").split("/")
    if path and path[0] in _API_VERSIONS:
        path = path[1:]
    return (_glob(host.lower()) if _is_glob(host) else registry_host(host)), tuple(path)


def _is_glob(host: str) -> bool:
    return not host.startswith("[") and not _GLOB.isdisjoint(host)


def _glob(text: str) -> str:
    # A glob is a host once each of its signs stands for a letter.
    registry_host("".join("x" if each in "*?[]^!" else each for each in text))
    return text


def _folded(host: str) -> str:
    try:
        return registry_host(host)
    except Unreadable:
        return host.strip().lower()


def _glob_matches(glob: str, host: str) -> bool:
    # As the kubelet does: a star stays within its label, and the port must be the same.
    glob_name, _, glob_port = glob.partition(":")
    name, _, port = host.partition(":")
    patterns, labels = glob_name.replace("[^", "[!").split("."), name.split(".")
    return (
        glob_port == port
        and len(patterns) == len(labels)
        and all(map(fnmatchcase, labels, patterns))
    )


def _rank(entry: Entry) -> tuple[bool, int, int, bool]:
    is_known = entry.credential is not None
    return (not entry.is_glob, len(entry.path), len(entry.host), is_known)
