"""The router finds routes for repository names with slashes, and rejects malformed paths."""

from __future__ import annotations

from typing import Any

import falcon
import pytest
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.refs import Repository
from entrepot.registry.api import router
from entrepot.registry.api.router import Router

_TEMPLATES = (
    router.BASE,
    router.CATALOG,
    router.MANIFEST,
    router.BLOB,
    router.UPLOADS,
    router.UPLOAD,
    router.TAGS,
    router.REFERRERS,
    router.STATUS,
    router.METRICS,
    router.HEALTH,
)
_NAMED = [each for each in _TEMPLATES if "{name}" in each]
_WORDS = (
    "manifests",
    "blobs",
    "uploads",
    "tags",
    "list",
    "referrers",
    "v2",
    "a",
    "quay.io",
    "b--c",
)
_NAMES = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=8).map("/".join) | st.from_regex(
    r"[a-z0-9]{1,3}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,3}){0,5}", fullmatch=True
)


class Echo:
    """A resource that responds with the matched template and the parameters from the path."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, **params: str) -> None:
        """Respond with the matched template and the parameters."""
        resp.media = [req.uri_template, params]


class Writable(Echo):
    """A resource that supports GET and POST."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, **params: str) -> None:
        """Respond in the same way as to a GET."""
        self.on_get(req, resp, **params)


def _router() -> Router:
    routes = Router()
    for template in _TEMPLATES:
        routes.add_route(template, Writable() if template == router.UPLOADS else Echo())
    return routes


_ROUTER = _router()


@pytest.fixture(scope="module")
def client() -> testing.TestClient:
    """Return a client of an application with routes only."""
    app = falcon.App(router=_ROUTER)
    return testing.TestClient(app)


def _arrival(client: testing.TestClient, path: str) -> list[Any] | int:
    answer = client.simulate_get(path)
    return answer.json if answer.status_code == 200 else answer.status_code


@pytest.mark.parametrize("template", _NAMED)
@given(name=_NAMES, last=st.text("abcdef0123456789:.-_", min_size=1))
def test_any_valid_name_is_found(template: str, name: str, last: str) -> None:
    """The router extracts any valid repository name from a path, even a name with `/blobs/` in it.

    The last `/blobs/`, `/manifests/` or similar marker in the path ends the name.
    """
    Repository.parse(name)
    given_params = {"name": name, "reference": last, "digest": last, "upload": last}

    found = _ROUTER.find(template.format(**given_params))

    assert found is not None
    _, _, params, met = found
    assert met == template
    assert params == {key: given_params[key] for key in params}
    assert "name" in params


@pytest.mark.parametrize(
    ("path", "template", "params"),
    [
        ("/", router.STATUS, {}),
        ("/healthz", router.HEALTH, {}),
        ("/metrics", router.METRICS, {}),
        ("/v2/", router.BASE, {}),
        ("/v2", router.BASE, {}),
        ("/v2/_catalog", router.CATALOG, {}),
        (
            "/v2/a/manifests/b/manifests/c",
            router.MANIFEST,
            {"name": "a/manifests/b", "reference": "c"},
        ),
        ("/v2/blobs/uploads/tags/list", router.TAGS, {"name": "blobs/uploads"}),
        ("/v2/a/blobs/uploads/manifests/x", router.MANIFEST, None),
        ("/v2/a/tags/manifests/list", router.MANIFEST, {"name": "a/tags", "reference": "list"}),
        ("/v2/a/manifests/tags/list", router.TAGS, {"name": "a/manifests"}),
        ("/v2/a/blobs/uploads/", router.UPLOADS, {"name": "a"}),
        ("/v2/a/blobs/uploads/uploads", router.UPLOAD, {"name": "a", "upload": "uploads"}),
        ("/v2/a/blobs/blobs/uploads/", router.UPLOADS, {"name": "a/blobs"}),
        ("/v2/_catalog/tags/list", router.TAGS, {"name": "_catalog"}),
        ("/v2/A%00B/tags/list", router.TAGS, {"name": "A\0B"}),
        ("/v2/a%0Ab/tags/list", router.TAGS, {"name": "a\nb"}),
    ],
)
def test_a_path_reaches_its_route(
    client: testing.TestClient, path: str, template: str, params: dict[str, str] | None
) -> None:
    """The router finds the route of a path; the route's resource rejects an invalid name."""
    arrival = _arrival(client, path)

    assert isinstance(arrival, list)
    assert arrival[0] == template
    assert params is None or params == arrival[1]


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "//v2/",
        "/v2//",
        "/v2/a",
        "/v2/a/",
        "/v2/_catalog/",
        "/v2/manifests/x",
        "/v2//manifests/x",
        "/v2//a/manifests/x",
        "/v2/a//manifests/x",
        "/v2/a//b/manifests/x",
        "/v2/a/manifests/",
        "/v2/a/manifests/x/",
        "/v2/a/manifests//x",
        "/v2/a/blobs/",
        "/v2/a/blobs/x/",
        "/v2/a/blobs/uploads//",
        "/v2/a/blobs/uploads/x/",
        "/v2/blobs/uploads/",
        "/v2/blobs/uploads/x",
        "/v2/a/tags/",
        "/v2/a/tags/list/",
        "/v2/a/tags/other",
        "/v2/a/uploads/x",
        "/healthz/",
        "/v1/a/manifests/x",
        "/v2x/a/manifests/x",
        "/V2/a/manifests/x",
    ],
)
def test_a_path_with_an_extra_slash_or_a_missing_segment_has_no_route(
    client: testing.TestClient, path: str
) -> None:
    """A path with an additional slash or without a required segment gets 404.

    Otherwise HAProxy would cache and log the same content under a second path.
    """
    assert _arrival(client, path) == 404


def test_head_uses_the_method_for_get(client: testing.TestClient) -> None:
    """A HEAD calls a resource's GET method; the response has the headers of a GET and no body."""
    get = client.simulate_get("/v2/a/tags/list")
    head = client.simulate_head("/v2/a/tags/list")

    assert head.status_code == 200
    assert head.content == b""
    assert get.headers == head.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v2/a/b/manifests/x", "GET, HEAD, OPTIONS"),
        ("PATCH", "/v2/a/b/blobs/uploads/", "GET, HEAD, POST, OPTIONS"),
    ],
)
def test_an_unsupported_method_is_405_with_allow(
    client: testing.TestClient, method: str, path: str, allowed: str
) -> None:
    """A method that a resource does not support gets 405; Allow lists the supported methods."""
    answer = client.simulate_request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
