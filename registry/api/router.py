"""The routes: a repository's name has slashes, Falcon's templates have not.

The name is taken out of the path before the ordinary compiled lookup and put back into its
parameters, so resources stay ordinary ones. The distribution spec's grammar leaves one reading
only: what follows the name has a fixed number of segments, so the last marker is the one, and
`a/manifests/b` is a fine name.
"""

from __future__ import annotations

import re
from typing import Any

from falcon import Request
from falcon.routing import CompiledRouter

BASE = "/v2/"
CATALOG = "/v2/_catalog"
DOCKER_LOGIN = "/v2/token"
MANIFEST = "/v2/{name}/manifests/{reference}"
BLOB = "/v2/{name}/blobs/{digest}"
UPLOADS = "/v2/{name}/blobs/uploads/"
UPLOAD = "/v2/{name}/blobs/uploads/{upload}"
TAGS = "/v2/{name}/tags/list"
REFERRERS = "/v2/{name}/referrers/{digest}"
STATUS = "/"
METRICS = "/metrics"
HEALTH = "/healthz"

# PERF: one match on every request; it scans backwards from the end, 1 us for any real name.
_NAMED = re.compile(
    r"/v2/([^/].*)(/(?:(?:manifests|blobs|referrers)/[^/]+|tags/list|blobs/uploads/[^/]*))",
    re.DOTALL,
)
_NAME = "name"
# stands for the name in the lookup; `_catalog` is the only fixed segment in its place
_ANY = "/v2/-"


class Router(CompiledRouter):
    """Falcon's own router, but for names with slashes, HEAD, and paths with a slash too many.

    A resource that answers GET answers HEAD with the same method. `/v2` is `/v2/`.
    """

    def find(
        self,
        uri: str,
        req: Request | None = None,
    ) -> tuple[object, Any, dict[str, Any], str | None] | None:
        """Return resource, methods, parameters and template; None when nothing is there."""
        named = _NAMED.fullmatch(uri)
        if named is None:
            return self._unnamed(uri, req)
        name, rest = named.groups()
        if "//" in name or name[-1] == "/":
            return None
        found = super().find(_ANY + rest, req)
        if found is not None:
            found[2][_NAME] = name
        return found

    def map_http_methods(self, resource: object, **kwargs: Any) -> Any:  # noqa: ANN401 - Falcon's
        """Let HEAD be answered by GET's method, so that one decision serves both."""
        methods: Any = super().map_http_methods(resource, **kwargs)
        if "GET" in methods:
            methods.setdefault("HEAD", methods["GET"])
        return methods

    def _unnamed(
        self, uri: str, req: Request | None
    ) -> tuple[object, Any, dict[str, Any], str | None] | None:
        if uri.startswith("//"):  # Falcon would strip them all
            return None
        found = super().find(BASE if uri == "/v2" else uri, req)
        # a name that did not match above is empty, or what follows it is
        return None if found is None or _NAME in found[2] else found
