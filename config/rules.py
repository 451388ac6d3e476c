"""What settings may not say together, and what an operator should think about; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from config.errors import Problem
from config.given import Given
from config.keys import Key
from config.schema import Settings, UpstreamSettings
from config.upstreams import default_hosts


def contradictions(settings: Settings, given: Mapping[Key, Given]) -> list[Problem]:
    """Tell what was said that can't hold together."""
    return [
        *_key_alone(settings, given),
        *_two_defaults(settings),
        *_half_a_login(settings, given),
        *(
            problem
            for host, each in settings.upstreams.items()
            for problem in _login_of(host, each, given)
        ),
    ]


def advice(settings: Settings) -> list[Problem]:
    """Tell what is allowed and may still be a mistake."""
    return [*_open(settings), *_login_of_nobody(settings)]


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
        yield Problem(
            f"http.addr={address}",
            "everybody who can reach it may pull",
            "set REGISTRY_AUTH_HTPASSWD_PATH, or listen on 127.0.0.1",
        )


def _login_of_nobody(settings: Settings) -> Iterator[Problem]:
    if settings.proxy.remoteurl is None and settings.proxy.username is not None:
        yield Problem("proxy.username", "without effect: there is no proxy.remoteurl", "set it too")
