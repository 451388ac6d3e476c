"""The answers that are no content: the version check, health, `/`, metrics."""

from __future__ import annotations

from pathlib import Path

import falcon

from entrepot.registry.api import docker_login
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.errors import Unauthenticated


class VersionResource:
    """`/v2/`: whether this is a registry, and whether you are welcome (end-1)."""

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Greet, or challenge. Raises: Unauthenticated."""
        identity = self._authorization.identify(req, resp)
        if docker_login.is_needed(req, identity):
            raise Unauthenticated(docker_login.challenge(req))
        identity.greet()
        resp.media = {}


class HealthResource:
    """`/healthz`: this worker answers."""

    def on_get(self, _: falcon.Request, resp: falcon.Response) -> None:
        """Say so, to whoever asks."""
        resp.content_type = falcon.MEDIA_TEXT
        resp.data = b"ok\n"


class FrontResource:
    """`/`: the server answers, as docker distribution does; liveness probes ask for it."""

    def on_get(self, _: falcon.Request, resp: falcon.Response) -> None:
        """Send 200 without a body, to everybody: it shows nothing."""
        resp.content_type = None
        resp.set_header("Cache-Control", "no-cache")
        resp.data = b""


class MetricsResource:
    """`/metrics`: what the logger counted, as it wrote it last."""

    def __init__(self, authorization: Authorization, path: Path) -> None:
        self._authorization = authorization
        self._path = path

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send them in Prometheus' text format; by upstream to whoever may pull everything."""
        identity = self._authorization.identify(req, resp)
        identity.require("pull")
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            raise falcon.HTTPServiceUnavailable(description="nothing counted yet") from None
        resp.data = content if identity.may_everywhere("pull") else _without_upstreams(content)
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"


def _without_upstreams(content: bytes) -> bytes:
    """Leave out the samples that name an upstream: they tell what others pull from."""
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if b'upstream="' not in line)
