"""Load the operator's middleware; if registry middleware fails, respond with status 500.

The page docs/extensions.md describes how to write a package of middleware. Registry middleware
wraps the WSGI application of a worker. Repository middleware is called for each authorized request.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from entrepot.runtime import entry_points

log = logging.getLogger(__name__)

Options = Mapping[str, object]
Wanted = Sequence[tuple[str, Options]]
"""A `Wanted` lists the middleware that the operator names, in order, with the options of each."""


@dataclass(frozen=True, slots=True)
class RepositoryRequest:
    """A `RepositoryRequest` describes an authorized request for a repository.

    `repository` begins with the upstream's host, as in the access log; the name of a hosted
    repository has no host. `kind` is the path segment after the repository's name: `manifests`,
    `blobs`, `uploads`, `tags` or `referrers`. `reference` is the tag, digest or upload in the path
    as the client sent it, so it may be invalid; it is empty if the path has no reference. `user` is
    None for an anonymous client.
    """

    method: str
    action: Literal["pull", "push", "delete"]
    repository: str
    kind: str
    reference: str
    user: str | None


class RepositoryMiddleware(Protocol):
    """A `RepositoryMiddleware` is called before and after each request; any thread may call it."""

    def before(self, request: RepositoryRequest) -> None:
        """Permit the request by returning without an exception.

        Raises: Refused.
        """
        ...

    def after(self, request: RepositoryRequest, status: int) -> None:
        """Receive the status of the response, which the worker sends after this call."""
        ...


@dataclass(frozen=True, slots=True)
class NamedMiddleware:
    """A `NamedMiddleware` is repository middleware with the name that the operator wrote."""

    name: str
    hook: RepositoryMiddleware


class MiddlewareUnusable(Exception):  # noqa: N818 - the class name states the fact
    """A package of middleware could not be loaded, or its function failed at the start."""


def repository_middleware(wanted: Wanted) -> tuple[NamedMiddleware, ...]:
    """Return the middleware that is called for each request of a repository.

    Raises: MiddlewareUnusable.
    """
    return tuple(
        NamedMiddleware(name, _made(entry_points.REPOSITORY, name, options))
        for name, options in wanted
    )


def wrapped(app: WSGIApplication, wanted: Wanted) -> WSGIApplication:
    """Return *app* inside the registry middleware; the last entry of *wanted* is outermost.

    Raises: MiddlewareUnusable.
    """
    for name, options in wanted:
        made = _made(entry_points.REGISTRY, name, app, options)
        app = _Guarded(name, made)
    return app


def _made(group: str, name: str, *arguments: object) -> Any:  # noqa: ANN401 - defined by the package
    """Load the entry point of a middleware package and call it.

    Raises: MiddlewareUnusable.
    """
    try:
        return entry_points.load(group, name)(*arguments)
    except Exception as error:
        message = f"the middleware {name} could not be started: {type(error).__name__}: {error}"
        raise MiddlewareUnusable(message) from error


_FAILURE: Final = json.dumps(
    {
        "errors": [
            {
                "code": "UNKNOWN",
                "message": "internal error; see the registry's log",
                "detail": None,
            }
        ]
    }
).encode()


class _Guarded:
    """A `_Guarded` responds 500 if middleware raises an exception before it returns a body."""

    def __init__(self, name: str, app: WSGIApplication) -> None:
        self._name = name
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._app(environ, start_response)
        except Exception as error:
            fields = {
                "middleware": self._name,
                "method": environ.get("REQUEST_METHOD"),
                "path": environ.get("PATH_INFO"),
            }
            log.exception("middleware failed", extra=fields, exc_info=error)
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(_FAILURE))),
                ("Cache-Control", "no-store"),
                ("Docker-Distribution-Api-Version", "registry/2.0"),
            ]
            start_response("500 Internal Server Error", headers, sys.exc_info())
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [_FAILURE]
