"""Serve the paths without a repository: version check, health, `/` and metrics."""

from __future__ import annotations

from pathlib import Path

import falcon

from entrepot.registry.api import docker_login
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.errors import Unauthenticated


class VersionResource:
    """`/v2/` shows that this is a registry, and whether a client must log in (OCI end-1)."""

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send status 200, or a 401 with the challenge.

        Raises: Unauthenticated.
        """
        identity = self._authorization.identify(req, resp)
        if docker_login.is_needed(req, identity):
            raise Unauthenticated(docker_login.challenge(req))
        identity.require_login()
        resp.media = {}


class HealthResource:
    """`/healthz` responds if this worker can handle requests."""

    def on_get(self, _: falcon.Request, resp: falcon.Response) -> None:
        """Send the text `ok`; the client needs no login."""
        resp.content_type = falcon.MEDIA_TEXT
        resp.data = b"ok\n"


class RootResource:
    """`/` responds with 200 as docker distribution does, because liveness probes request it."""

    def on_get(self, _: falcon.Request, resp: falcon.Response) -> None:
        """Send 200 without a body.

        A client needs no login for `/`, because the response is empty.
        """
        resp.content_type = None
        resp.set_header("Cache-Control", "no-cache")
        resp.data = b""


class MetricsResource:
    """`/metrics` sends the metrics that the logger wrote most recently."""

    def __init__(self, authorization: Authorization, path: Path) -> None:
        self._authorization = authorization
        self._path = path

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send the metrics in Prometheus' text format.

        A sample that names an upstream is sent only to a client that may pull from every
        repository.
        """
        identity = self._authorization.authorize_registry(req, resp)
        identity.require("pull")
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            raise falcon.HTTPServiceUnavailable(
                description="the logger has not written any metrics yet; retry later"
            ) from None
        resp.data = content if identity.may_everywhere("pull") else _without_upstreams(content)
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"


def _without_upstreams(content: bytes) -> bytes:
    """Remove the samples that name an upstream: they show where other users pull from."""
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if b'upstream="' not in line)
