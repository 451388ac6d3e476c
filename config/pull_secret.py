"""Read a pull secret: the registries that the secret names, and the credential for each registry.

Two formats are accepted: Docker's `config.json`, which Kubernetes secrets use as
`.dockerconfigjson`, and the older `.dockercfg`, which has only the content of `auths`. In both
formats the whole file may be in base64. Each entry has a key and a credential. The key is a host or
a glob, as in the kubelet, with an optional scheme, port and path. The host of a key declares an
upstream. The path of a key restricts the credential to the repositories whose names begin with the
path.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from entrepot.config.address import registry_host
from entrepot.config.credential import SecretCredential, credential
from entrepot.config.errors import ConfigError, Problem, Unreadable

SOURCE = "pull secret"

_NOT_REGISTRIES = frozenset(
    {"HttpHeaders", "credHelpers", "credsStore", "currentContext", "detachKeys", "psFormat"}
)
_TIP = "compare ~/.docker/config.json after `docker login`"
_GLOB = frozenset("*?[")
_API_VERSIONS = frozenset({"v1", "v2"})


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A `SecretKey` is one entry of the pull secret.

    `host` is a host or a glob. `path` contains the parts of the key's path; it is empty if the key
    has no path.
    """

    host: str
    path: tuple[str, ...]
    credential: SecretCredential | None

    @property
    def is_glob(self) -> bool:
        """Return whether `host` is a glob, a pattern of hosts such as `*.example.com`."""
        return _is_glob(self.host)

    def is_about(self, host: str) -> bool:
        """Return whether *host* is the entry's host or matches its glob."""
        return _glob_matches(self.host, host) if self.is_glob else self.host == host

    def covers(self, repository: Sequence[str]) -> bool:
        """Return whether the entry's path is a prefix of *repository*, the parts of a name."""
        return tuple(repository[: len(self.path)]) == self.path


@dataclass(frozen=True, slots=True)
class ParsedPullSecret:
    """A `ParsedPullSecret` holds the entries of a pull secret and the hosts to ignore.

    `warnings` name the parts of the secret that have no effect.
    """

    entries: tuple[SecretKey, ...] = ()
    ignored: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return each host once, in the order of the pull secret."""
        return tuple(dict.fromkeys(each.host for each in self.entries if not each.is_glob))

    @property
    def globs(self) -> tuple[str, ...]:
        """Return each glob once, in the order of the pull secret."""
        return tuple(dict.fromkeys(each.host for each in self.entries if each.is_glob))

    def names(self, host: str) -> bool:
        """Return whether an entry of the secret makes *host* an upstream."""
        return any(True for _ in self._about(host))

    def lookup(self, host: str, repository: str) -> SecretCredential | None:
        """Return the credential for *repository* at *host*; None means anonymous access.

        An entry with a host takes precedence over an entry with a glob. Among entries with a host,
        the longest path takes precedence. Among entries with a glob, the longest path takes
        precedence, and for equal paths the longest glob.
        """
        parts = repository.split("/")
        fitting = [each for each in self._about(host) if each.covers(parts)]
        best = max(fitting, key=_rank, default=None)
        return best.credential if best else None

    def _about(self, host: str) -> Iterator[SecretKey]:
        name = _folded(host)
        fitting = () if name in self.ignored else self.entries
        return (each for each in fitting if each.is_about(name))


def parse(data: bytes, ignore: Sequence[str] = (), *, source: str = SOURCE) -> ParsedPullSecret:
    """Read a pull secret without the entries of the hosts in *ignore*.

    Each message about the pull secret begins with *source*.

    Raises: ConfigError with a problem for each invalid entry. No message contains a credential.
    """
    document = _document(data, source)
    reading = _Reading(frozenset(_folded(each) for each in ignore), source)
    reading.warnings += _helpers(document, source)
    for key, value in _auths(document, source).items():
        reading.read(key, value)
    if reading.problems:
        raise ConfigError(reading.problems)
    return ParsedPullSecret(tuple(reading.entries), reading.ignored, tuple(reading.warnings))


class _Reading:
    """A `_Reading` collects the entries, problems and warnings while a pull secret is read."""

    def __init__(self, ignored: frozenset[str], source: str) -> None:
        self.ignored = ignored
        self._source = source
        self.entries: list[SecretKey] = []
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def read(self, key: str, value: object) -> None:
        """Read one entry of the pull secret; do not validate the entry of an ignored host."""
        source = f'{self._source}: entry "{_without_login(key)}"'
        try:
            host, path = _key(key)
            if host in self.ignored:
                return
            entry = SecretKey(host, path, credential(value))
        except Unreadable as error:
            self.problems.append(Problem(source, error.message, error.remedy))
            return
        self.warnings += _remarks(entry, self.entries, source)
        self.entries.append(entry)


def _without_login(key: str) -> str:
    """Return a key for a message, with the user and the password in front of the host masked."""
    scheme, marked, rest = key.rpartition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}{marked}{'***@' if at and login else at}{host}"


def _plain(data: bytes) -> bytes:
    """Return the pull secret, decoded if it is in base64.

    Podman 4.3 mounts a secret in base64 (podman issue 16625).
    """
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
        raise ConfigError(
            [
                Problem(
                    source,
                    "the file is a Kubernetes manifest, not the content of the secret",
                    remedy,
                )
            ]
        )
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
                "the key has no effect: credential helpers are not run",
                "put the credentials into auths",
            )


def _remarks(entry: SecretKey, before: list[SecretKey], source: str) -> Iterator[Problem]:
    if any((each.host, each.path) == (entry.host, entry.path) for each in before):
        name = "/".join((entry.host, *entry.path))
        yield Problem(source, f"{name} has two entries", "keep one of them")


def _key(key: str) -> tuple[str, tuple[str, ...]]:
    """Split a key of the pull secret into its host or glob and its path. Raises: Unreadable."""
    bare = key.strip().partition("://")[2] or key.strip()
    host, *path = bare.rstrip("/").split("/")
    if path and path[0] in _API_VERSIONS:
        path = path[1:]
    return (_glob(host.lower()) if _is_glob(host) else registry_host(host)), tuple(path)


def _is_glob(host: str) -> bool:
    return not host.startswith("[") and not _GLOB.isdisjoint(host)


def _glob(text: str) -> str:
    # A glob is valid if a letter in place of each wildcard makes it a valid host.
    registry_host("".join("x" if each in "*?[]^!" else each for each in text))
    return text


def _folded(host: str) -> str:
    try:
        return registry_host(host)
    except Unreadable:
        return host.strip().lower()


def _glob_matches(glob: str, host: str) -> bool:
    # As in the kubelet, the wildcard `*` does not match a dot, and the ports must be equal.
    glob_name, _, glob_port = glob.partition(":")
    name, _, port = host.partition(":")
    patterns, labels = glob_name.replace("[^", "[!").split("."), name.split(".")
    return (
        glob_port == port
        and len(patterns) == len(labels)
        and all(map(fnmatchcase, labels, patterns))
    )


def _rank(entry: SecretKey) -> tuple[bool, int, int, bool]:
    is_known = entry.credential is not None
    return (not entry.is_glob, len(entry.path), len(entry.host), is_known)
