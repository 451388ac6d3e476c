"""What settings may not say together, and what an operator should think about; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from config.access import ANYBODY
from config.errors import Problem
from config.given import Given
from config.keys import Key
from config.schema import Settings, UpstreamSettings
from config.upstreams import default_hosts

_LEAST_SIZE: Final = 4 * 2**20
"""Bytes: with less, logs and index leave no room for content (datastore/budget.py)."""


def contradictions(settings: Settings, given: Mapping[Key, Given]) -> list[Problem]:
    """Tell what was said that can't hold together."""
    return [
        *_no_passwords(settings, given),
        *_strangers_with_rights(settings, given),
        *_key_alone(settings, given),
        *_two_defaults(settings),
        *_default_left_out(settings),
        *_half_a_login(settings, given),
        *(
            problem
            for host, each in settings.upstreams.items()
            for problem in _login_of(host, each, given)
        ),
    ]


def advice(settings: Settings, given: Mapping[Key, Given]) -> list[Problem]:
    """Tell what is allowed and may still be a mistake."""
    return [
        *_open(settings),
        *_strangers_without_rights(settings),
        *_too_small(settings, given),
        *_login_of_nobody(settings),
    ]


def _no_passwords(settings: Settings, given: Mapping[Key, Given]) -> Iterator[Problem]:
    """Object where passwords are wanted and there is none: never does that mean an open door."""
    htpasswd = settings.auth.htpasswd
    said = [each for key, each in given.items() if key[:2] == ("auth", "htpasswd")]
    if htpasswd is not None and htpasswd.path is None and htpasswd.users is None:
        remedy = "name a file made with htpasswd -B"
        yield said[0].objection("auth.htpasswd.path is missing", remedy)
    elif htpasswd is None and settings.access is not None:
        remedy = "set auth.htpasswd.path or auth.htpasswd.users"
        yield given["access",].objection("rules, and nobody has a password", remedy)


def _strangers_with_rights(settings: Settings, given: Mapping[Key, Given]) -> Iterator[Problem]:
    if settings.auth.anonymous == "none" and _names_strangers(settings):
        message = f"a rule for {ANYBODY}, and auth.anonymous is none"
        yield given["access",].objection(message, "set auth.anonymous: pull")


def _strangers_without_rights(settings: Settings) -> Iterator[Problem]:
    is_ruled = settings.access is not None and settings.auth.htpasswd is not None
    if is_ruled and settings.auth.anonymous == "pull" and not _names_strangers(settings):
        message = f"without effect: no rule of access is for {ANYBODY}"
        yield Problem("auth.anonymous=pull", message, "write one, or take it out")


def _names_strangers(settings: Settings) -> bool:
    return any(ANYBODY in each.user for each in settings.access or ())


def _key_alone(settings: Settings, given: Mapping[Key, Given]) -> Iterator[Problem]:
    tls = settings.http.tls
    if tls.key is not None and tls.certificate is None:
        said = given["http", "tls", "key"]
        yield said.problem("a key without a certificate", "set http.tls.certificate too")


def _two_defaults(settings: Settings) -> Iterator[Problem]:
    hosts = default_hosts(settings)
    if len(hosts) > 1:
        yield Problem(
            "proxy.default", f"several upstreams are the default: {', '.join(hosts)}", "keep one"
        )


def _default_left_out(settings: Settings) -> Iterator[Problem]:
    for host in default_hosts(settings)[:1]:
        said = settings.upstreams.get(host)
        if said is not None and not said.enabled:
            message = f"{host} is the default, and upstreams.{host}.enabled is false"
            yield Problem("proxy.default", message, "keep one")


def _half_a_login(settings: Settings, given: Mapping[Key, Given]) -> Iterator[Problem]:
    proxy = settings.proxy
    if (proxy.username is None) != (proxy.password is None):
        said, missing = ("username", "password") if proxy.username else ("password", "username")
        yield given["proxy", said].objection(f"without proxy.{missing}", f"set proxy.{missing} too")


def _login_of(
    host: str, upstream: UpstreamSettings, given: Mapping[Key, Given]
) -> Iterator[Problem]:
    has_username = upstream.username is not None
    passwords = [
        each for each in ("password", "passwordfile") if getattr(upstream, each) is not None
    ]
    if len(passwords) > 1:
        said = given["upstreams", host, "passwordfile"]
        yield said.objection("a password beside it", "keep one of password and passwordfile")
    elif passwords and not has_username:
        said = given["upstreams", host, passwords[0]]
        yield said.objection("a password without a username", "set username too")
    elif has_username and not passwords:
        said = given["upstreams", host, "username"]
        yield said.objection("a username without a password", "set password or passwordfile too")


def _open(settings: Settings) -> Iterator[Problem]:
    address = settings.http.addr
    if settings.auth.htpasswd is None and not address.is_loopback:
        delete = ", and delete" if settings.storage.delete.enabled else ""
        yield Problem(
            f"http.addr={address}",
            "everybody who can reach it may pull",
            f"they may push too{delete}: set REGISTRY_AUTH_HTPASSWD_PATH, or listen on 127.0.0.1",
        )


def _too_small(settings: Settings, given: Mapping[Key, Given]) -> Iterator[Problem]:
    said = given.get(("cleaner", "maxsize"))
    if said is not None and 0 < settings.cleaner.maxsize < _LEAST_SIZE:
        yield said.problem("logs and index alone need more, so nothing is kept", "try 10G")


def _login_of_nobody(settings: Settings) -> Iterator[Problem]:
    if settings.proxy.remoteurl is None and settings.proxy.username is not None:
        yield Problem("proxy.username", "without effect: there is no proxy.remoteurl", "set it too")
