"""Define the settings of `validation:` and `policy:`, which restrict pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from entrepot.config import readers
from entrepot.config.errors import Unreadable
from entrepot.config.section import ReadBy, Section, section, setting
from entrepot.config.yaml_text import from_yaml
from entrepot.runtime.linear_patterns import InvalidPattern, LinearPatterns

_MOST_PLATFORMS: Final = 64
_CLASSES: Final = ("image", "plugin")
_PATTERN_EXAMPLE: Final = "try ['^https://layers[.]example[.]com/']"
_PLATFORM_EXAMPLE: Final = "try [{os: linux, architecture: amd64}]"


@dataclass(frozen=True, slots=True)
class IndexPlatform:
    """An `IndexPlatform` is a platform of an index, as in the OCI image-spec."""

    os: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


def url_patterns(given: object) -> tuple[str, ...]:
    """Read one regular expression in Go's syntax, or a list of such expressions.

    Raises: Unreadable.
    """
    found = _list_of(given)
    listed = [found] if isinstance(found, str) else found
    if listed is None or listed == [""]:
        return ()
    if isinstance(listed, Mapping) or not isinstance(listed, Sequence):
        raise Unreadable("not a list of regular expressions", _PATTERN_EXAMPLE)
    patterns = tuple(readers.text(each) for each in listed)
    try:
        LinearPatterns(patterns)
    except InvalidPattern as error:
        raise Unreadable(
            f"the text is not a regular expression of Go: {error}", _PATTERN_EXAMPLE
        ) from error
    return patterns


def index_platforms(given: object) -> tuple[IndexPlatform, ...]:
    """Read a list of maps with `os` and `architecture`. Raises: Unreadable."""
    found = _list_of(given)
    if found is None or found == "":
        return ()
    if isinstance(found, (str, Mapping)) or not isinstance(found, Sequence):
        raise Unreadable("not a list of platforms", _PLATFORM_EXAMPLE)
    if len(found) > _MOST_PLATFORMS:
        raise Unreadable(f"more than {_MOST_PLATFORMS} platforms", "remove some")
    return tuple(_platform(each) for each in found)


def classes(given: object) -> tuple[str, ...]:
    """Read a list of classes, which may be `image` and `plugin`. Raises: Unreadable."""
    found = readers.words(given)
    for each in found:
        if each not in _CLASSES:
            raise Unreadable(f"not a class of repositories: {each[:64]}", "try [image]")
    return found


def _platform(given: object) -> IndexPlatform:
    if isinstance(given, IndexPlatform):
        return given
    if not isinstance(given, Mapping) or set(given) != {"os", "architecture"}:
        raise Unreadable("a platform is not a map of os and architecture", _PLATFORM_EXAMPLE)
    return IndexPlatform(readers.text(given["os"]), readers.text(given["architecture"]))


def _list_of(given: object) -> object:
    """Parse the YAML list in a text, for example in a variable; return other values unchanged."""
    if not isinstance(given, str) or not given.strip().startswith("["):
        return given
    try:
        found = from_yaml(given, _PATTERN_EXAMPLE)
    except Unreadable:
        return given
    return found if isinstance(found, list) else given


_Switch = Annotated[bool | None, ReadBy(readers.optional(readers.switch))]
_Patterns = Annotated[tuple[str, ...], ReadBy(url_patterns)]
_Platforms = Annotated[tuple[IndexPlatform, ...], ReadBy(index_platforms)]
_Which = Annotated[
    Literal["all", "none", "list"] | None,
    ReadBy(readers.optional(readers.choice("all", "none", "list"))),
]
_Classes = Annotated[tuple[str, ...], ReadBy(classes)]


class UrlSettings(Section):
    """The settings of `validation.manifests.urls:`."""

    allow: _Patterns = setting(
        (), "regular expressions of the URLs that layers of pushed manifests may name"
    )
    deny: _Patterns = setting(
        (), "regular expressions of the URLs that layers of pushed manifests may not name"
    )


class IndexSettings(Section):
    """The settings of `validation.manifests.indexes:`."""

    platforms: _Which = setting(
        None,
        "which images of a pushed index must be stored before the index: all, none or list",
        shown="all",
    )
    platformlist: _Platforms = setting(
        (),
        "if platforms is list: the platforms whose images must be stored, as maps of os and"
        " architecture",
    )


class ManifestSettings(Section):
    """The settings of `validation.manifests:`."""

    urls: UrlSettings = section(UrlSettings)
    indexes: IndexSettings = section(IndexSettings)


class ValidationSettings(Section):
    """The settings of `validation:`.

    If the section is absent, the images of a pushed index must be stored, and layers may name any
    URL. If the section contains any setting, the other settings have the defaults of docker
    distribution, with which layers may name no URL.
    """

    enabled: _Switch = setting(
        None,
        "an older key with the opposite meaning of validation.disabled; if true, it takes"
        " precedence",
        shown="true",
    )
    disabled: _Switch = setting(
        None, "true: the other settings of validation are ignored", shown="false"
    )
    manifests: ManifestSettings = section(ManifestSettings)

    @property
    def is_given(self) -> bool:
        """Return whether any setting of `validation:` is configured."""
        return self != ValidationSettings()

    @property
    def is_on(self) -> bool:
        """Return whether the rules of `validation:` apply.

        As in docker distribution, `enabled: true` overrides `disabled`.
        """
        return bool(self.enabled) or not self.disabled


class RepositoryPolicySettings(Section):
    """The settings of `policy.repository:`."""

    classes: _Classes = setting(
        (), "the kinds of images that may be pushed: image, plugin", shown="all"
    )


class PolicySettings(Section):
    """The settings of `policy:`."""

    repository: RepositoryPolicySettings = section(RepositoryPolicySettings)
