"""Shows settings as an operator would write them, secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from config import access, hosted, keys, units
from config.keys import Key, Setting
from config.kinds import BYTES, PER_CENT, SECONDS
from config.schema import Settings
from config.upstreams import upstream_defaults

_OTHERWISE_NAMED = {
    "passwordfile": "password_file",
    "maxstale": "max_stale",
    "ongone": "on_gone",
    "negativettl": "negative_ttl",
    "connecttimeout": "connect_timeout",
    "readtimeout": "read_timeout",
}


def shown_settings(settings: Settings) -> Iterator[tuple[Key, str]]:
    """Yield every setting's key and value, those of each upstream too."""
    for key, setting in keys.settings().items():
        hosts = settings.upstreams if "*" in key else ("",)
        for host in hosts:
            named = tuple(host if part == "*" else part for part in key)
            yield named, _shown(setting, _value(settings, named))


def usage() -> str:
    """List every setting as a flag, with its variable, its default and its meaning."""
    return "\n".join(
        f"  --{each.key.replace('*', 'HOST')}={each.default}\n"
        f"      {each.meaning}{f' ({each.variables[0]})' if each.variables else ''}"
        for each in keys.settings().values()
    )


def _value(settings: Settings, key: Key) -> object:
    if key[0] == "upstreams" and key[2] == "enabled":
        return settings.upstreams[key[1]].enabled
    if key[0] == "upstreams":  # with what it inherits
        field = _OTHERWISE_NAMED.get(key[2], key[2])
        return getattr(upstream_defaults(settings, key[1]), field)

    below: object = settings
    for name in key:
        below = getattr(below, name, None)
    return below


def _shown(setting: Setting, value: object) -> str:
    if isinstance(value, tuple) and setting.key in _IN_WORDS:
        return _IN_WORDS[setting.key](value)
    if value is None or value == ():
        return "none"
    if setting.is_secret:
        return "***"
    if setting.unit:
        return _IN_UNITS[setting.unit](value)
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if isinstance(value, tuple) else str(value)


_IN_WORDS: Final[dict[str, Callable[[Any], str]]] = {
    "access": access.show,
    "hosted": hosted.show,
}
_IN_UNITS: Final[dict[str, Callable[[Any], str]]] = {
    BYTES.name: units.show_size,
    SECONDS.name: units.show_span,
    PER_CENT.name: "{}%".format,
}
