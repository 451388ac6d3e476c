"""Show the values of settings as an operator would write them, with secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from entrepot.config import (
    access,
    health,
    hosted,
    keys,
    log_fields,
    mail_hooks,
    middleware_settings,
    notifications,
    response_headers,
    units,
)
from entrepot.config.keys import Key, Setting
from entrepot.config.schema import Settings
from entrepot.config.upstreams import UpstreamValues, upstream_defaults
from entrepot.config.value_types import BYTES, PER_CENT, SECONDS

_FIELD_OF_KEY = {each.name.replace("_", ""): each.name for each in fields(UpstreamValues)}
"""This map contains the field of `UpstreamValues` for each key of `upstreams.HOST`.

A key is the name of its field without underscores.
"""


def shown_settings(settings: Settings) -> Iterator[tuple[Key, str]]:
    """Yield the key and value of every setting, including those of each upstream."""
    for key, setting in keys.settings().items():
        hosts = settings.upstreams if "*" in key else ("",)
        for host in hosts:
            named = tuple(host if part == "*" else part for part in key)
            yield named, _shown(setting, _value(settings, named))


def usage() -> str:
    """Return the help text that lists every setting as a flag, with its default and meaning."""
    return "\n".join(
        f"  --{each.key.replace('*', 'HOST')}={each.default}\n"
        f"      {each.meaning}{f' ({each.variables[0]})' if each.variables else ''}"
        for each in keys.settings().values()
    )


def _value(settings: Settings, key: Key) -> object:
    if key[0] == "upstreams" and key[2] == "enabled":
        return settings.upstreams[key[1]].enabled
    if key[0] == "upstreams":  # An unset value comes from `proxy:`.
        return getattr(upstream_defaults(settings, key[1]), _FIELD_OF_KEY[key[2]])

    below: object = settings
    for name in key:
        below = getattr(below, name, None)
    return below


def _shown(setting: Setting, value: object) -> str:
    if isinstance(value, tuple | dict) and setting.key in _TEXT_OF_RULES:
        return _TEXT_OF_RULES[setting.key](value)
    if value is None or value == ():
        return "none"
    if setting.is_secret:
        return "***"
    if setting.unit:
        return _TEXT_OF_UNIT[setting.unit](value)
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


_TEXT_OF_RULES: Final[dict[str, Callable[[Any], str]]] = {
    "access": access.show,
    "health.file": health.show,
    "health.http": health.show,
    "health.tcp": health.show,
    "hosted": hosted.show,
    "http.headers": response_headers.show,
    "log.fields": log_fields.show,
    "log.hooks": mail_hooks.show,
    "middleware.registry": middleware_settings.show,
    "middleware.repository": middleware_settings.show,
    "middleware.storage": middleware_settings.show,
    "notifications.endpoints": notifications.show,
}
_TEXT_OF_UNIT: Final[dict[str, Callable[[Any], str]]] = {
    BYTES.name: units.show_size,
    SECONDS.name: units.show_span,
    PER_CENT.name: "{}%".format,
}
