"""Call the operator's repository middleware before and after each authorized request."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Final

import falcon

from entrepot.registry.api.authorize import Authorization
from entrepot.registry.auth.identity import Action, Identity
from entrepot.registry.errors import MiddlewareFailed, Refused
from entrepot.registry.middleware import NamedMiddleware, RepositoryRequest
from entrepot.registry.routing.resolve import ResolvedRepository

log = logging.getLogger(__name__)

_KINDS: Final = ("manifests", "blobs", "uploads", "tags", "referrers")
_REFERENCES: Final = ("reference", "digest", "upload")


class HookedAuthorization(Authorization):
    """A `HookedAuthorization` calls *hooks* in order after the check of the client's rights.

    All other arguments are those of `Authorization`.
    """

    decides_by_repository = True

    def __init__(self, hooks: Sequence[NamedMiddleware], *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
        super().__init__(*args, **kwargs)
        self._hooks = hooks

    def identify(self, req: falcon.Request, resp: falcon.Response) -> Identity:
        """Return the identity with `is_open` False: middleware may refuse a single repository."""
        identity = super().identify(req, resp)
        if identity.is_open:
            identity = dataclasses.replace(identity, is_open=False)
            req.context.identity = identity
        return identity

    def authorize(
        self, req: falcon.Request, resp: falcon.Response, name: str, action: Action = "pull"
    ) -> ResolvedRepository:
        """Return the resolved repository if the client's rights and the middleware permit *action*.

        Raises: the errors of `Authorization.authorize`; Refused, MiddlewareFailed.
        """
        resolved = super().authorize(req, resp, name, action)
        request = _request(req, resolved, action)
        called = req.context.repository_hooks = []
        req.context.repository_request = request
        for each in self._hooks:
            called.append(each)
            _call_before(each, request)
        return resolved

    def readable_repository(self, req: falcon.Request, name: str) -> ResolvedRepository | None:
        """Return a repository if rights and middleware permit the client to pull, else None."""
        resolved = super().readable_repository(req, name)
        if resolved is None:
            return None
        request = dataclasses.replace(_request(req, resolved, "pull"), kind="blobs", reference="")
        try:
            for each in self._hooks:
                _call_before(each, request)
        except Refused:
            return None
        return resolved


class AfterHooks:
    """An `AfterHooks` is Falcon middleware that calls `after` of each hook, the last hook first."""

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
        """Call `after` of each hook whose `before` was called; log every error of a hook."""
        for each in reversed(getattr(req.context, "repository_hooks", ())):
            try:
                each.hook.after(req.context.repository_request, resp.status_code)
            except Exception:
                log.exception("middleware failed", extra={"middleware": each.name})


def _call_before(each: NamedMiddleware, request: RepositoryRequest) -> None:
    """Call the function `before` of the middleware.

    Raises: Refused; MiddlewareFailed for every other exception.
    """
    try:
        each.hook.before(request)
    except Refused:
        raise
    except Exception as error:
        raise MiddlewareFailed(f"the middleware {each.name} failed") from error


def _request(
    req: falcon.Request, resolved: ResolvedRepository, action: Action
) -> RepositoryRequest:
    # The path template of an upload contains both `blobs` and `uploads`; the kind is the one that
    # comes last, `uploads`.
    parts = (req.uri_template or "").split("/")
    kind = next((each for each in reversed(parts) if each in _KINDS), "")
    tail = req.path.rpartition("/")[2] if parts[-1].strip("{}") in _REFERENCES else ""
    identity: Identity = req.context.identity
    return RepositoryRequest(
        req.method, action, resolved.repository.name, kind, tail, identity.user
    )
