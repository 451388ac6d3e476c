"""Load the configuration from all sources.

Flags have the highest precedence, followed by the environment, the YAML file, files in usual places
and the defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from entrepot.config import follow, unused_values
from entrepot.config.build import build
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.keys import Key
from entrepot.config.merge import merge, unsupported_keys
from entrepot.config.raw_value import RawValue, SourceValues
from entrepot.config.schema import Settings
from entrepot.config.setting_conflicts import advice, contradictions
from entrepot.config.sources import aliases, environment, flags
from entrepot.config.sources.yaml_file import read_file
from entrepot.config.upstreams import adjusted_only

_CERTIFICATE = ("http", "tls", "certificate")
_ADDRESS = ("http", "addr")
_ACCESS_LOG = ("log", "accesslog", "disabled")
_ROOT = ("storage", "filesystem", "rootdirectory")
_IN_MEMORY = ("storage", "inmemory")
_MAXSIZE = ("cleaner", "maxsize")
_SHARED = ("storage", "shared")
_SECRET = ("pullsecret", "path")


@dataclass(frozen=True, slots=True)
class DefaultPaths:
    """The appliance looks at these paths for files that the operator has not named."""

    file: Path = Path("/etc/docker/registry/config.yml")
    secret: Path = Path("/pull-secret.json")
    certs: Path = Path("/certs")
    newer_file: Path = Path("/etc/distribution/config.yml")

    def files(self) -> list[Path]:
        """Return the existing configuration files of the registry:3 and registry:2 images.

        The file of registry:3 comes first.
        """
        return [each for each in (self.newer_file, self.file) if _is_there(each)]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A `Loaded` holds the settings, the source of each setting, the warnings and the problems.

    `given` maps each configured key to its value and source; every other setting has its default.
    If there are `problems`, `settings` contains the default in place of each invalid value. A
    program may show such settings to the operator, but the appliance must not serve with them.
    """

    settings: Settings
    given: Mapping[Key, RawValue]
    warnings: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    file: Path | None

    def origin(self, key: Key) -> str:
        """Return the source of the value of *key*, or `default` if the key is not set."""
        return self.given[key].origin if key in self.given else "default"


def load(
    argv: Sequence[str], environ: Mapping[str, str], places: DefaultPaths | None = None
) -> Loaded:
    """Load the configuration from *argv*, the arguments after `serve`, and from *environ*.

    Raises: ConfigError with every problem of the configuration.
    """
    loaded = examine(argv, environ, places)
    if loaded.problems:
        raise ConfigError(loaded.problems)
    return loaded


def examine(
    argv: Sequence[str], environ: Mapping[str, str], places: DefaultPaths | None = None
) -> Loaded:
    """Load the configuration like `load`, but return its problems instead of raising an error."""
    sources = _Sources(argv, environ, places or DefaultPaths())
    layers = sources.layers()
    merged = merge(layers)
    folded = aliases.fold(merged.winners, _address(merged.winners, is_image=sources.is_image))
    given = folded.given
    refused, ineffective = unsupported_keys(given.values())
    built = build(given | _defaults(given, is_image=sources.is_image))
    followed = follow.followed(built.settings, given, sources.file)
    adjusted = adjusted_only(built.settings, given)
    settings = built.settings.changed(followed=followed, adjusted=adjusted)
    clashes = [
        *contradictions(settings, built.used),
        *sources.certs_without_certificate(given, settings),
    ]
    renamed = [*aliases.warnings(layers), *folded.warnings]
    warnings = [
        *sources.warnings(),
        *renamed,
        *dict.fromkeys(merged.ignored),
        *ineffective,
        *unused_values.remarks(given.values()),
        *advice(settings, built.used),
    ]
    problems = [*merged.problems, *folded.problems, *refused, *built.problems, *clashes]
    return Loaded(
        settings, built.used, tuple(warnings), tuple(dict.fromkeys(problems)), sources.file
    )


class _Sources:
    """A `_Sources` holds the values of each source, such as the YAML file and the environment."""

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str], places: DefaultPaths
    ) -> None:
        self._places = places
        self._flags = flags.read(argv)
        self._environment = environment.read(environ)
        self.is_image = environment.is_image(environ)
        named = self._flags.files or _file_named(environ)
        if not named and self.is_image:
            named = [(str(each), str(each)) for each in places.files()[:1]]
        self.file = Path(named[0][1]) if named else None
        self._document = read_file(self.file, named[0][0]) if self.file else SourceValues()

    def layers(self) -> list[SourceValues]:
        """Return the values of each source; the source with the lowest precedence is first."""
        return [self._found(), self._document, self._environment, self._flags.reading]

    def warnings(self) -> list[Problem]:
        """Return warnings about configuration files that are not read, and about variables."""
        return [*self._unread_files(), *self._environment.warnings]

    def certs_without_certificate(
        self, given: Mapping[Key, RawValue], settings: Settings
    ) -> list[Problem]:
        """Return a problem if the folder `/certs` exists but has no file certs.pem.

        Without this check, the appliance would serve plain HTTP although the operator intended TLS.
        In the image, even an empty folder is a problem: it exists only if the operator has mounted
        it, so TLS is intended. Outside the image, an empty folder is not a problem.
        """
        folder = self._places.certs
        if _CERTIFICATE in given or not _is_there(folder):
            return []
        try:
            visible = {each for each in folder.iterdir() if not each.name.startswith(".")}
        except OSError as error:
            remedy = "make it readable, or set http.tls.certificate"
            return [Problem(str(folder), (error.strerror or str(error)).lower(), remedy)]
        authorities = {each.ca for each in settings.upstreams.values()}
        if visible <= authorities and (visible or not self.is_image):
            return []
        remedy = f"name it {folder / 'certs.pem'}, or set http.tls.certificate"
        return [Problem(str(folder), "the folder has no certs.pem", remedy)]

    def _found(self) -> SourceValues:
        places = {_CERTIFICATE: self._places.certs / "certs.pem", _SECRET: self._places.secret}
        return SourceValues(
            given=[
                RawValue(key, str(path), "found", str(path))
                for key, path in places.items()
                if _is_there(path)
            ]
        )

    def _unread_files(self) -> list[Problem]:
        """Return a warning for each configuration file at a usual path that is not read.

        If the operator has named a configuration file, there is no such warning.
        """
        if self.is_image:
            is_found = self.file in self._places.files()
            unread = [each for each in self._places.files() if is_found and each != self.file]
            why = f"the file is not read, because {self.file} exists too"
            return [Problem(str(each), why, "keep one of the two files") for each in unread]
        # Outside the image, no file at a usual path is read. Debian's package docker-registry
        # installs such a file, which names a folder as the password file. With that file, the
        # appliance would not start.
        return [
            Problem(
                str(each),
                "the file is not read outside the image",
                f"name the file to use it: serve {each}",
            )
            for each in ([] if self.file else self._places.files())
        ]


def _address(given: Mapping[Key, RawValue], *, is_image: bool) -> str:
    certificate = given.get(_CERTIFICATE)
    if certificate is not None and certificate.value:
        return ":8443"
    return ":5000" if is_image else "127.0.0.1:5000"


def _defaults(given: Mapping[Key, RawValue], *, is_image: bool) -> dict[Key, RawValue]:
    address = _address(given, is_image=is_image)
    values: dict[Key, str] = {_ADDRESS: address}
    if is_image:
        values |= {_ROOT: "/var/lib/registry", _ACCESS_LOG: "false"}
    if any(key[:2] == _IN_MEMORY for key in given):
        from entrepot.runtime.memory_limit import memory_limit  # noqa: PLC0415 - rarely used

        values[_MAXSIZE] = str(memory_limit() // 2)
    if (shared := given.get(_SHARED)) is not None and str(shared.value).lower() == "true":
        # The appliance evicts nothing from a shared bucket. With a size limit, the appliance could
        # store no new content once the limit is reached.
        values[_MAXSIZE] = "0"
    return {
        key: RawValue(key, value, "default", ".".join(key))
        for key, value in values.items()
        if key not in given
    }


def _file_named(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    path = environment.unquoted(environ.get(environment.FILE, ""))
    return [(f"{environment.FILE}={path}", path)] if path else []


def _is_there(path: Path) -> bool:
    return os.access(path, os.F_OK)
