"""Where a name leads: an upstream's repository, or one that is hosted here (docs/architecture.md).

Pure but for the two questions that it asks: which upstreams exist, and what is kept here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from entrepot.datastore.refs import Repository
from entrepot.registry.errors import NameUnknown
from entrepot.registry.upstream.upstreams import Registered
from entrepot.runtime.hostnames import fold

# Docker Hub's official images live in `library`, which their names leave out.
_DOCKER_HUB = "docker.io"


class Upstreams(Protocol):
    """Which upstreams exist; it may change between two calls."""

    @property
    def default(self) -> str | None:
        """The host that names without an upstream lead to."""
        ...

    def find(self, host: str) -> Registered | None:
        """Return an upstream by its host, with `:` or `_` before the port."""
        ...


@dataclass(frozen=True, slots=True)
class ResolvedRepository:
    """A repository: `repository` is its name on disk, `remote` its name at the upstream.

    `upstream` None: hosted here. `mirror_form`: the client has an origin to go to when we fail.
    `is_open`: whoever may read any repository of this appliance may read them all.
    """

    repository: Repository
    upstream: Registered | None = None
    remote: str = ""
    mirror_form: bool = False
    is_open: bool = False

    @property
    def host(self) -> str:
        """The upstream's name, empty for a hosted repository."""
        return self.upstream.source.host if self.upstream else ""


def resolve(
    name: str,
    ns: str | None,
    upstreams: Upstreams,
    is_hosted: Callable[[Repository], bool],
    *,
    is_open: bool = False,
) -> ResolvedRepository:
    """Find the place that a request's *name* and `ns` parameter lead to.

    Raises: NameUnknown when `ns` is no upstream, or another one than the name's; and, like
    every Malformed, InvalidRepository.
    """
    head, slash, rest = name.lower().partition("/")
    name = f"{fold(head)}{slash}{rest}"
    prefixed = upstreams.find(head) if rest else None
    if ns:
        return _mirrored(name, upstreams, prefixed, ns=ns.lower(), is_open=is_open)
    if prefixed:
        return _proxied(prefixed, rest, is_open=is_open)
    hosted = Repository.parse(name)
    if upstreams.default and not is_hosted(hosted):
        default = upstreams.find(upstreams.default)
        if default:
            return _proxied(default, name, mirror_form=True, is_open=is_open)
    return ResolvedRepository(hosted)


def _mirrored(
    name: str, upstreams: Upstreams, prefixed: Registered | None, *, ns: str, is_open: bool
) -> ResolvedRepository:
    """Follow containerd's `?ns=`; with `override_path` it sends the prefix as well."""
    meant = upstreams.find(ns)
    if meant is None:
        raise NameUnknown(f"{ns} is not an upstream here")
    if prefixed is None:
        return _proxied(meant, name, mirror_form=True, is_open=is_open)
    if prefixed.source.host != meant.source.host:
        raise NameUnknown(f"the path says {prefixed.source.host}, ns says {meant.source.host}")
    return _proxied(meant, name.partition("/")[2], mirror_form=True, is_open=is_open)


def _proxied(
    registered: Registered, remote: str, *, mirror_form: bool = False, is_open: bool
) -> ResolvedRepository:
    host = registered.source.host
    if host == _DOCKER_HUB and "/" not in remote:
        remote = f"library/{remote}"
    Repository.parse(remote)
    repository = Repository.parse(f"{fold(host)}/{remote}")
    return ResolvedRepository(repository, registered, remote, mirror_form, is_open)
