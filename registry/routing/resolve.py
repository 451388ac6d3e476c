"""Resolve a repository name to a repository of an upstream, or to a hosted repository.

The function `resolve` is pure, except that it looks up upstreams and hosted repositories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from entrepot.datastore.refs import Repository
from entrepot.registry.errors import NameUnknown
from entrepot.registry.upstream.upstreams import Registered
from entrepot.runtime import docker_hub
from entrepot.runtime.hostnames import fold


class Upstreams(Protocol):
    """An `Upstreams` returns the configured upstreams, which may change between two calls."""

    @property
    def default(self) -> str | None:
        """Return the host of the upstream for names without a host, or None if there is none."""
        ...

    def find(self, host: str) -> Registered | None:
        """Return the upstream of a host, or None if unknown; a port follows `:` or `_`."""
        ...


@dataclass(frozen=True, slots=True)
class ResolvedRepository:
    """A `ResolvedRepository` is the repository of a request.

    `repository` is the repository's name on disk, `remote` the name at the upstream. `upstream` is
    None for a hosted repository. `mirror_form` is True if the client uses this appliance as a
    mirror and can fall back to the upstream. `is_open` is true if every client that may read one
    repository may read all of them.
    """

    repository: Repository
    upstream: Registered | None = None
    remote: str = ""
    mirror_form: bool = False
    is_open: bool = False

    @property
    def host(self) -> str:
        """Return the host of the upstream, or an empty text for a hosted repository."""
        return self.upstream.config.host if self.upstream else ""


def resolve(
    name: str,
    ns: str | None,
    upstreams: Upstreams,
    is_hosted: Callable[[Repository], bool],
    *,
    is_open: bool = False,
) -> ResolvedRepository:
    """Resolve the *name* and the `ns` parameter of a request.

    Raises: NameUnknown if `ns` is not an upstream, or differs from the upstream in *name*;
    InvalidRepository, which is a Malformed, if *name* is not a repository name.
    """
    head, _, rest = name.lower().partition("/")
    name = folded(name)
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


def folded(name: str) -> str:
    """Return a repository's name as on disk: in lower case, with `_` before a host's port."""
    head, slash, rest = name.lower().partition("/")
    return f"{fold(head)}{slash}{rest}"


def asked_name(name: str, ns: str | None) -> str:
    """Return the name that a token must grant for the repository of a request.

    Without `ns`, this is the name in the path. With `ns`, the returned name begins with the host in
    `ns`. Without this host, a client with a token for `team/app` could choose an upstream with
    `ns`, and pull `team/app` of that upstream.
    """
    name = folded(name)
    if not ns:
        return name
    host = fold(ns)
    if name.startswith(f"{host}/"):
        return name
    return f"{host}/{docker_hub.full_path(host, name)}"


def _mirrored(
    name: str, upstreams: Upstreams, prefixed: Registered | None, *, ns: str, is_open: bool
) -> ResolvedRepository:
    """Resolve a request with containerd's parameter `ns`.

    If `override_path` is set in containerd's configuration, the path contains the host too.
    """
    named = upstreams.find(ns)
    if named is None:
        raise NameUnknown(f"{ns} is not a configured upstream")
    if prefixed is None:
        return _proxied(named, name, mirror_form=True, is_open=is_open)
    if prefixed.config.host != named.config.host:
        raise NameUnknown(
            f"the path names {prefixed.config.host}, but ns names {named.config.host}"
        )
    return _proxied(named, name.partition("/")[2], mirror_form=True, is_open=is_open)


def _proxied(
    registered: Registered, remote: str, *, mirror_form: bool = False, is_open: bool
) -> ResolvedRepository:
    host = registered.config.host
    remote = docker_hub.full_path(host, remote)
    Repository.parse(remote)
    repository = Repository.parse(f"{fold(host)}/{remote}")
    return ResolvedRepository(repository, registered, remote, mirror_form, is_open)
