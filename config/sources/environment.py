"""Read the settings from environment variables.

Some settings have a special variable, such as CLEANER_TTL. As in docker distribution, the variable
REGISTRY_A_B_C sets the key a.b.c.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

import yaml

from entrepot.config import keys
from entrepot.config.distribution import ROWS
from entrepot.config.errors import Problem
from entrepot.config.keys import Key, Setting
from entrepot.config.raw_value import RawValue, SourceValues
from entrepot.config.sources import cache_server
from entrepot.config.sources.yaml_file import read_value

FILE: Final = "REGISTRY_CONFIGURATION_PATH"
IMAGE: Final = "ENTREPOT_IMAGE"
SETTINGS: Final = "ENTREPOT_SETTINGS"

_PREFIXES: Final = ("REGISTRY_", "CLEANER_", "ENTREPOT_", "DCS_")
# The variable of a key of docker distribution begins with one of these prefixes. `DCS_HTTP_` is one
# of them because the keys below `http:` are the same in docker-cache-server.
_OF_KEYS: Final = ("REGISTRY_", "DCS_HTTP_")
# The appliance accepts these variables of other programs, but they have no effect.
WITHOUT_EFFECT: Final = {
    "CLEANER_BTWDELETES_TIME": "the appliance makes no pause between deletions",
}
_PROTECTING: Final = ("REGISTRY_AUTH_", "REGISTRY_ACCESS", "REGISTRY_HTTP_TLS_", "DCS_AUTH_")
_PROTECTING_WORDS: Final = ("AUTH", "ACCESS", "HTPASSWD", "TLS", "CERTIFICATE", "ANONYMOUS")
# Two names are similar if difflib's ratio for them is at least this value; 1 means equal.
_LIKE_OURS: Final = 0.85
_LIKE_ANY: Final = 0.9
# `entrepot serve` sets these variables for the programs that it starts, and for haproxy.cfg and
# supervisord.conf. Only the tests set `ENTREPOT_TEST_...`.
_INTERNAL = re.compile(
    r"ENTREPOT_(IMAGE|SETTINGS|RUN|PYTHON|HAPROXY|ADDRESS|CERTIFICATE|WORKER\d+|WORKER_MAXCONN"
    r"|DRAIN_MS|STOP_S|LOG|LOG_BYTES|LOG_BACKUPS|TEST_\w+)"
)
# podman, skopeo and buildah read the path of their credentials from this variable.
_OF_CLIENTS = "REGISTRY_AUTH_FILE"
# Kubernetes sets variables with these names in every pod if a service is named `registry` or
# `entrepot`.
_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")


# docker distribution derives the names of its variables from the fields in its Go source. These
# are the names that differ from the keys in the configuration file.
_GO_NAMES: Final[Mapping[Key, str]] = {
    ("compatibility", "schema1", "trustkey"): "signingkeyfile",
    ("health", "filecheckers"): "file",
    ("health", "httpcheckers"): "http",
    ("health", "tcpcheckers"): "tcp",
    ("notifications", "eventconfig"): "events",
}


def is_image(environ: Mapping[str, str]) -> bool:
    """Return whether the process runs in the container image, where some defaults differ."""
    return environ.get(IMAGE) == "1"


def read(environ: Mapping[str, str]) -> SourceValues:
    """Read all settings from *environ*.

    An unknown variable with one of the appliance's prefixes causes a warning, or an error if it
    resembles a variable that restricts access.
    """
    reading = SourceValues()
    own = {
        name: unquoted(text)
        for name, text in environ.items()
        if name in _own_names() or name.startswith(_PREFIXES)
    }
    for setting_key, setting in keys.settings().items():
        _read_setting(setting_key, setting, own, reading)
    reading.problems += map(_unknown, filter(_is_misspelt_protection, sorted(environ)))
    for name in sorted(own.keys() - _own_names(), key=_by_index):
        if name in cache_server.VARIABLES:
            _read_renamed(name, own[name], reading)
        elif name.endswith("_PORT") and own[name].isdecimal():
            reading.warnings.append(_port(name, own[name]))
        elif not _is_of_others(name):
            _read_other(name, own[name], reading)
    return reading


def _by_index(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders the numbers in names by value, so that 2 precedes 10."""
    return [(len(word) if word.isdecimal() else 0, word) for word in name.split("_")]


def unquoted(text: str) -> str:
    """Return the value of a variable without surrounding YAML quotes and white space.

    Operators quote values because docker distribution reads them as YAML. The quotes remain in the
    value if a compose file has `environment` as a list, or if the option `--env-file` is used. A
    value without quotes stays unchanged. If it were parsed as YAML, `0x10` would become a number,
    `~` would become null, and ` #` would end the value.
    """
    bare = text.strip(" \t")
    if not bare.startswith(("'", '"')):
        return bare
    try:
        node = yaml.compose(bare, yaml.SafeLoader)
    except yaml.YAMLError:  # For example, a password begins with a quote.
        return bare
    if isinstance(node, yaml.ScalarNode) and node.style in {"'", '"'}:
        return str(node.value)
    return bare


def _read_renamed(name: str, text: str, reading: SourceValues) -> None:
    if text:
        reading.given.append(RawValue(cache_server.VARIABLES[name], text, name, name))


def _read_setting(
    key: Key, setting: Setting, environ: Mapping[str, str], reading: SourceValues
) -> None:
    values = [
        RawValue(key, environ[name], name, name)
        for name in setting.variables
        if name in environ and (environ[name] or setting.empty_counts)
    ]
    reading.given += values[:1]
    for each in values[1:]:
        if each.value != values[0].value:
            message = f"{values[0].name} has another value and takes precedence"
            reading.warnings.append(each.objection(message, "take one out"))


def _read_other(name: str, text: str, reading: SourceValues) -> None:
    key = _key(name)
    is_ours = name.startswith(_OF_KEYS) and all(key)
    if is_ours and (keys.find(key) is not None or keys.is_section(key)):
        read = read_value(text, key, name) if text else SourceValues()
        reading.given += read.given
        reading.problems += read.problems
    elif not _is_misspelt_protection(name):
        reading.warnings.append(_unknown(name))


def _key(name: str) -> Key:
    """Return the key that the variable *name* sets."""
    if name in _with_underscores():
        return _with_underscores()[name]
    key = tuple(name.lower().split("_"))[1:]
    for theirs, ours in _GO_NAMES.items():
        if key[: len(theirs)] == theirs:
            key = (*theirs[:-1], ours, *key[len(theirs) :])
    return tuple("options" if each == "mailoptions" else each for each in key)


@cache
def _is_misspelt_protection(name: str) -> bool:
    """Return whether an unknown variable resembles a variable that restricts access.

    Such a variable causes an error, because the operator has probably misspelt a setting without
    which the appliance is open to all clients. If the name begins with one of the appliance's
    prefixes, one similar word in it is enough. Any other name must be similar as a whole.
    """
    if name in _all_names() or _is_of_others(name) or _means_something(name):
        return False
    if name.startswith("REGISTRY_AUTH"):
        return True
    is_ours = name.startswith(_PREFIXES)
    cutoff = _LIKE_OURS if is_ours else _LIKE_ANY
    if difflib.get_close_matches(name, sorted(_protecting_names()), 1, cutoff):
        return True
    words = name.split("_")[1:] if is_ours else []
    return any(difflib.get_close_matches(word, _PROTECTING_WORDS, 1, _LIKE_ANY) for word in words)


def _means_something(name: str) -> bool:
    key = _key(name)
    is_ours = name.startswith(_OF_KEYS) and all(key)
    return is_ours and (keys.find(key) is not None or keys.is_section(key))


@cache
def _protecting_names() -> frozenset[str]:
    named = {*_own_names(), *cache_server.VARIABLES}
    return frozenset(name for name in named if name.startswith(_PROTECTING))


def _unknown(name: str) -> Problem:
    known = sorted(_protecting_names() if _is_misspelt_protection(name) else _all_names())
    longer = [each for each in known if each.startswith(name)]
    near = longer or difflib.get_close_matches(name, known, 1)
    return Problem(name, "no such setting", f"did you mean {near[0]}?" if near else "take it out")


def _port(name: str, number: str) -> Problem:
    """Return a warning about a variable whose name ends with `_PORT` and whose value is a number.

    Kubernetes also sets variables named `..._PORT`, but their values begin with `tcp://`.
    """
    return Problem(name, "no such setting", f"write REGISTRY_HTTP_ADDR=:{number}")


def _is_of_others(name: str) -> bool:
    known = name in {*WITHOUT_EFFECT, FILE, _OF_CLIENTS}
    return known or bool(_INTERNAL.fullmatch(name) or _SERVICE_LINK.fullmatch(name))


@cache
def _own_names() -> frozenset[str]:
    return frozenset(name for each in keys.settings().values() for name in each.variables)


@cache
def _all_names() -> frozenset[str]:
    return frozenset([*_own_names(), *_row_names(), *WITHOUT_EFFECT, *cache_server.VARIABLES, FILE])


def _row_names() -> Iterator[str]:
    for row in ROWS:
        yield _variable(row.key)


def _variable(key: str) -> str:
    return "_".join(("REGISTRY", *key.removesuffix(".**").split("."))).upper()


@cache
def _with_underscores() -> Mapping[str, Key]:
    """Map variables to those keys of docker distribution that contain an underscore."""
    return {_variable(row.key): tuple(row.key.split(".")) for row in ROWS if "_" in row.key}
