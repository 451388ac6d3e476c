"""Find settings that contradict each other, and valid settings that are probably mistakes.

These functions compare settings only. The module checks.py reads the files that settings name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Final

from entrepot.config import (
    health,
    http_conflicts,
    keys,
    notifications,
    redirect_conflicts,
    reporting_settings,
    storage_conflicts,
    token_auth,
)
from entrepot.config.errors import Problem
from entrepot.config.keys import Key, Setting
from entrepot.config.raw_value import RawValue
from entrepot.config.schema import Settings, UpstreamSettings
from entrepot.config.upstreams import default_hosts
from entrepot.runtime.access import ANONYMOUS

_LEAST_SIZE: Final = 4 * 2**20
"""If `cleaner.maxsize` is below this number of bytes, no content is kept.

The logs and the index alone then need more than `cleaner.maxsize`. The module datastore/budget.py
computes the share of the logs and the index.
"""


def contradictions(settings: Settings, given: Mapping[Key, RawValue]) -> list[Problem]:
    """Return a problem for each contradiction between settings."""
    return [
        *_no_passwords(settings, given),
        *token_auth.contradictions(settings, given),
        *_rules_for_anonymous(settings, given),
        *_key_alone(settings, given),
        *http_conflicts.contradictions(settings.http, given),
        *_two_defaults(settings),
        *_default_disabled(settings),
        *storage_conflicts.contradictions(settings, given),
        *redirect_conflicts.contradictions(settings, given),
        *_incomplete_login(settings, given),
        *_helper_without_upstream(settings, given),
        *(
            problem
            for host, each in settings.upstreams.items()
            for problem in _login_of(host, each, given)
        ),
    ]


def advice(settings: Settings, given: Mapping[Key, RawValue]) -> list[Problem]:
    """Return a warning for each valid combination of settings that is probably a mistake."""
    return [
        *_open(settings),
        *token_auth.advice(settings),
        *http_conflicts.advice(settings.http, given),
        *storage_conflicts.advice(settings, given),
        *redirect_conflicts.advice(settings, given),
        *_pages(settings, given),
        *_no_rule_for_anonymous(settings),
        *_too_small(settings, given),
        *_unused_login(settings),
        *_unknown_keys_of_checks(given),
        *_no_validation(settings, given),
        *_unknown_in_endpoints(given),
        *reporting_settings.advice(settings.reporting),
    ]


def _no_validation(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a warning for each rule of `validation:` that has no effect."""
    validation = settings.validation
    for key, each in given.items():
        is_rule = key[:2] == ("validation", "manifests") and isinstance(keys.find(key), Setting)
        if is_rule and not validation.is_on:
            yield each.objection(
                "the rule has no effect: validation.disabled is true",
                "take one of the two keys out",
            )
    each_list = given.get(("validation", "manifests", "indexes", "platformlist"))
    if each_list is not None and validation.manifests.indexes.platforms != "list":
        remedy = "set validation.manifests.indexes.platforms: list"
        yield each_list.objection("the key has no effect: indexes.platforms is not list", remedy)


def _unknown_keys_of_checks(given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    for kind, known in health.KEYS.items():
        each = given.get(("health", kind))
        if each is None:
            continue
        for name in health.unknown_keys(kind, each.value):
            near = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {near[0]}?" if near else "take it out"
            yield each.objection(f"a check has no key {name}", remedy)


def _unknown_in_endpoints(given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a warning for each unknown key and action of a notification endpoint.

    Unknown keys and actions cause only warnings. docker distribution ignores them, so a
    configuration written for it can contain some.
    """
    value = given.get(("notifications", "endpoints"))
    if value is not None:
        for name, known in notifications.unknown_keys(value.value):
            yield value.problem(f"without effect: {name}", f"known are {known}", is_secret=True)


def _no_passwords(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a problem if `auth.htpasswd` or access rules are set, but no users.

    If such a configuration were accepted, the appliance could be open to all clients.
    """
    htpasswd = settings.auth.htpasswd
    section = [each for key, each in given.items() if key[:2] == ("auth", "htpasswd")]
    if htpasswd is not None and htpasswd.path is None and htpasswd.users is None:
        remedy = "name a file made with htpasswd -B"
        yield section[0].objection("auth.htpasswd.path is missing", remedy)
    elif not settings.auth.protects and settings.access is not None:
        remedy = "set auth.htpasswd.path or auth.htpasswd.users, or auth.token"
        yield given["access",].objection("access rules are set but no users are configured", remedy)


def _rules_for_anonymous(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    if not _may_be_anonymous(settings) and _has_rule_for_anonymous(settings):
        message = f"a rule is for {ANONYMOUS}, but auth.anonymous is none"
        yield given["access",].objection(message, "set auth.anonymous: pull")


def _may_be_anonymous(settings: Settings) -> bool:
    """Return whether a client without a user name may have rights, with a token or without."""
    return settings.auth.anonymous != "none" or settings.auth.token is not None


def _no_rule_for_anonymous(settings: Settings) -> Iterator[Problem]:
    is_ruled = settings.access is not None and settings.auth.htpasswd is not None
    if is_ruled and settings.auth.anonymous == "pull" and not _has_rule_for_anonymous(settings):
        message = f"the key has no effect: no access rule is for {ANONYMOUS}"
        yield Problem(
            "auth.anonymous=pull", message, "add an access rule for it, or take the key out"
        )


def _has_rule_for_anonymous(settings: Settings) -> bool:
    return any(ANONYMOUS in each.user for each in settings.access or ())


def _key_alone(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    tls = settings.http.tls
    if tls.key is not None and tls.certificate is None:
        key = given["http", "tls", "key"]
        yield key.problem("a key without a certificate", "set http.tls.certificate too")


def _two_defaults(settings: Settings) -> Iterator[Problem]:
    hosts = default_hosts(settings)
    if len(hosts) > 1:
        yield Problem(
            "proxy.default", f"several upstreams are the default: {', '.join(hosts)}", "keep one"
        )


def _default_disabled(settings: Settings) -> Iterator[Problem]:
    for host in default_hosts(settings)[:1]:
        upstream = settings.upstreams.get(host)
        if upstream is not None and not upstream.enabled:
            message = f"{host} is the default, but upstreams.{host}.enabled is false"
            yield Problem(
                "proxy.default", message, "enable the upstream, or choose another default"
            )


def _incomplete_login(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    proxy = settings.proxy
    if (proxy.username is None) != (proxy.password is None):
        present, missing = ("username", "password") if proxy.username else ("password", "username")
        yield given["proxy", present].objection(
            f"proxy.{missing} is not set", f"set proxy.{missing} too"
        )


def _helper_without_upstream(
    settings: Settings, given: Mapping[Key, RawValue]
) -> Iterator[Problem]:
    command = given.get(("proxy", "exec", "command"))
    if command is not None and settings.proxy.exec.command and settings.proxy.remoteurl is None:
        yield command.problem("proxy.remoteurl is not set", "set it too, or use the pull secret")


def _login_of(
    host: str, upstream: UpstreamSettings, given: Mapping[Key, RawValue]
) -> Iterator[Problem]:
    has_username = upstream.username is not None
    passwords = [
        each for each in ("password", "passwordfile") if getattr(upstream, each) is not None
    ]
    if len(passwords) > 1:
        present = given["upstreams", host, "passwordfile"]
        yield present.objection("password is set too", "keep one of password and passwordfile")
    elif passwords and not has_username:
        present = given["upstreams", host, passwords[0]]
        yield present.objection("a password without a username", "set username too")
    elif has_username and not passwords:
        present = given["upstreams", host, "username"]
        yield present.objection("a username without a password", "set password or passwordfile too")


def _open(settings: Settings) -> Iterator[Problem]:
    address = settings.http.addr
    if not settings.auth.protects and not address.is_loopback:
        actions = "pull, push and delete" if settings.storage.delete.enabled else "pull and push"
        yield Problem(
            f"http.addr={address}",
            f"every client that can reach the appliance may {actions}",
            "set REGISTRY_AUTH_HTPASSWD_PATH, or listen on 127.0.0.1",
        )


def _pages(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    headers = given.get(("http", "headers"))
    writing = http_conflicts.methods_of_every_page(settings.http)
    if headers is not None and writing and not settings.auth.protects:
        message = f"every web page that a user opens may send {' and '.join(writing)} requests"
        yield headers.objection(message, "name one origin instead of '*', or set passwords")


def _too_small(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    maxsize = given.get(("cleaner", "maxsize"))
    if maxsize is not None and 0 < settings.cleaner.maxsize < _LEAST_SIZE:
        yield maxsize.problem(
            "logs and index alone need more space, so no content is kept", "try 10G"
        )


def _unused_login(settings: Settings) -> Iterator[Problem]:
    if settings.proxy.exec.command and settings.proxy.username is not None:
        yield Problem(
            "proxy.username",
            "the key has no effect: the helper in proxy.exec returns the login",
            "take one of the two keys out",
        )
    if settings.proxy.remoteurl is None and settings.proxy.username is not None:
        yield Problem(
            "proxy.username", "the key has no effect: proxy.remoteurl is not set", "set it too"
        )
