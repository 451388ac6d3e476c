"""Define the settings of `middleware:`: functions of installed Python packages, and redirects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from entrepot.config import readers
from entrepot.config.errors import Problem, Unreadable
from entrepot.config.section import ReadBy, Section, WrittenBy, setting
from entrepot.config.storage_middleware import Target, target_of
from entrepot.config.yaml_text import from_yaml

_KEYS: Final = frozenset({"name", "options", "disabled"})
_MOST: Final = 16
_LONGEST_NAME: Final = 128
_EXAMPLE: Final = "try [{name: NAME, options: {key: value}}]"


@dataclass(frozen=True, slots=True)
class Middleware:
    """A `Middleware` is the name of a Python entry point, and the operator's options for it.

    The values of `options` are texts, lists and maps as parsed from YAML. The options may contain a
    password.
    """

    name: str
    options: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def as_pair(self) -> tuple[str, Mapping[str, object]]:
        """Return the name and the options of the middleware."""
        return self.name, self.options


def middleware(given: object) -> tuple[Middleware, ...]:
    """Read a list of middleware or its YAML text; omit disabled entries.

    Raises: Unreadable.
    """
    found = from_yaml(given, _EXAMPLE)
    if found is None or found == "":
        return ()
    if isinstance(found, (str, Mapping)) or not isinstance(found, Sequence) or len(found) > _MOST:
        raise Unreadable(f"not a list of at most {_MOST} entries", _EXAMPLE)
    read = (_entry(number, each) for number, each in enumerate(found))
    return tuple(each for each in read if each is not None)


def as_list(given: tuple[Middleware, ...]) -> list[dict[str, Any]]:
    """Return the middleware as a list that `middleware` can read."""
    return [{"name": each.name, "options": each.options} for each in given]


def show(given: tuple[Middleware, ...]) -> str:
    """Return the names of the middleware on one line, without the options."""
    return " ".join(map(str, given)) or "none"


def _entry(number: int, given: object) -> Middleware | None:
    if isinstance(given, Middleware):
        return given
    if not isinstance(given, Mapping) or not given.keys() <= _KEYS:
        raise Unreadable(f"entry {number}: not a map of name, options and disabled", _EXAMPLE)
    if readers.switch(given.get("disabled") or "false"):
        return None
    name = given.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise Unreadable(f"entry {number}: no name", _EXAMPLE)
    options = given.get("options") or {}
    if not isinstance(options, Mapping):
        raise Unreadable(f"entry {number}: options is not a map", _EXAMPLE)
    return Middleware(name, dict(options))


Entries = Annotated[tuple[Middleware, ...], ReadBy(middleware), WrittenBy(as_list)]


def storage_middleware(given: object) -> tuple[Middleware, ...]:
    """Read a list of storage middleware, or its YAML text. Raises: Unreadable."""
    found = middleware(given)
    for each in found:
        target_of(*each.as_pair)
    return found


StorageEntries = Annotated[tuple[Middleware, ...], ReadBy(storage_middleware), WrittenBy(as_list)]


class MiddlewareSettings(Section):
    """The settings of `middleware:`."""

    registry: Entries = setting(
        (),
        "a list of functions of Python packages, each of which wraps the whole registry",
        secret=True,
    )
    repository: Entries = setting(
        (),
        "a list of functions of Python packages, each of which can refuse requests for a"
        " repository",
        secret=True,
    )

    storage: StorageEntries = setting(
        (),
        "the server from which clients fetch blobs above 64 KiB: redirect (option baseurl) or"
        " cloudfront (options baseurl, privatekey, keypairid, duration)",
        secret=True,
    )

    @property
    def target(self) -> Target | None:
        """Return the target of redirects, or None if no storage middleware is configured."""
        return target_of(*self.storage[-1].as_pair) if self.storage else None

    @property
    def is_set(self) -> bool:
        """Return whether any middleware of a Python package is configured."""
        return bool(self.registry or self.repository)


def problems(settings: MiddlewareSettings) -> Iterator[Problem]:
    """Yield a problem for each middleware name that no installed package provides."""
    if not settings.is_set:
        return
    from entrepot.runtime import entry_points  # noqa: PLC0415 - used only with middleware

    sections = (
        ("registry", entry_points.REGISTRY, settings.registry),
        ("repository", entry_points.REPOSITORY, settings.repository),
    )
    for section, group, wanted in sections:
        installed = entry_points.names(group) if wanted else ()
        for each in wanted:
            if each.name not in installed:
                have = f"installed: {', '.join(installed) or 'none'}"
                remedy = f"install a Python package with that entry point ({group}), or take it out"
                message = f"no package provides {each.name}; {have}"
                yield Problem(f"middleware.{section}", message, remedy)
