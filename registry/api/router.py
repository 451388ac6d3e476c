"""Map the paths of requests to resources.

A repository name contains slashes, which Falcon's path templates do not match. The router cuts the
name out of the path, lets Falcon look up the shortened path, and adds the name to the parameters of
the match. So resources need no special code for names with slashes. The part after the name has a
fixed number of segments, so a path can be split in only one way. For example, the name in the path
`/v2/a/manifests/b/manifests/latest` is `a/manifests/b`.
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
DEBUG = "/debug/{page}"
PROFILE = "/debug/{page}/{profile}"

# PERF: the router applies this pattern once to every request. Because `.*` is greedy, the part
# after the name is searched from the end of the path, which takes 1 µs for a usual name.
_NAMED = re.compile(
    r"/v2/([^/].*)(/(?:(?:manifests|blobs|referrers)/[^/]+|tags/list|blobs/uploads/[^/]*))",
    re.DOTALL,
)
_NAME = "name"
# Falcon looks up the path with the segment `-` in place of the repository's name. The segment must
# differ from the fixed segments at this place: `_catalog` and `token`.
_ANY = "/v2/-"


class Router(CompiledRouter):
    """A `Router` is Falcon's compiled router, extended for names with slashes and for HEAD.

    A path with an empty segment, such as `/v2//tags/list`, matches no route.

    The method `on_get` of a resource also handles HEAD requests, unless the resource has `on_head`.
    The path `/v2` is treated as `/v2/`.
    """

    def find(
        self,
        uri: str,
        req: Request | None = None,
    ) -> tuple[object, Any, dict[str, Any], str | None] | None:
        """Return resource, methods, parameters and template, or None if no route matches."""
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

    def map_http_methods(self, resource: object, **kwargs: Any) -> Any:  # noqa: ANN401 - Falcon has no type
        """Map HTTP methods to the resource's methods; `on_get` also handles HEAD by default."""
        methods: Any = super().map_http_methods(resource, **kwargs)
        if "GET" in methods:
            methods.setdefault("HEAD", methods["GET"])
        return methods

    def _unnamed(
        self, uri: str, req: Request | None
    ) -> tuple[object, Any, dict[str, Any], str | None] | None:
        if uri.startswith("//"):  # Falcon would strip all leading slashes and accept the path.
            return None
        found = super().find(BASE if uri == "/v2" else uri, req)
        # `_NAMED` did not match this path. If Falcon nevertheless matched a template with a name,
        # the name or the part after the name is empty, so the path is invalid.
        return None if found is None or _NAME in found[2] else found
