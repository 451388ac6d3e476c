"""Workers call middleware from other Python packages; these tests use a fake package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from entrepot import config
from entrepot.datastore.refs import Digest
from entrepot.edge import cache_epoch
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.edge.invalidation import Invalidation
from entrepot.registry import __main__ as workers
from entrepot.registry.errors import Refused
from entrepot.registry.middleware import RepositoryRequest
from tests.config.config_folder import ConfigFolder

_ACME = '''
from entrepot.registry import Refused, RepositoryRequest

CALLS = []

def stamp(app, options):
    """Add a header to each response."""
    def stamped(environ, start_response):
        def start(status, headers, exc_info=None):
            return start_response(status, [*headers, ("X-Stamp", options["text"])], exc_info)
        return app(environ, start)
    return stamped

def breaking(app, options):
    def broken(environ, start_response):
        raise LookupError("the password is hunter2")
    return broken

def unusable(*_):
    raise LookupError("no such option")

class Gate:
    def __init__(self, options):
        self.refused = options["refuse"]
    def before(self, request):
        CALLS.append(request)
        if request.repository == self.refused and request.action in ("pull", "push"):
            raise Refused("closed for today", 429, "TOOMANYREQUESTS")
        if request.repository == "team/odd":
            raise Refused.__mro__[1]("the password is hunter2")
    def after(self, request, status):
        CALLS.append((request.repository, status))
        if request.repository == "team/late":
            raise LookupError("too late")
'''
_ENTRY_POINTS = """
[entrepot.middleware.registry]
stamp = acme:stamp
breaking = acme:breaking
unusable = acme:unusable
[entrepot.middleware.repository]
gate = acme:Gate
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the fake package `acme`, whose entry points offer middleware."""
    folder = tmp_path / "site"
    metadata = folder / "acme-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "acme.py").write_text(_ACME, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("acme", None)


@pytest.fixture
def client(tmp_path: Path) -> Callable[[str], TestClient]:
    """Return a function that creates the registry with the given section `middleware:`."""

    def make(text: str) -> TestClient:
        config_folder = ConfigFolder(tmp_path)
        root = tmp_path / "data"
        storage = f"{{filesystem: {{rootdirectory: '{root}'}}, delete: {{enabled: true}}}}"
        config_folder.write(
            f"storage: {storage}\ncleaner: {{maxsize: 0}}\nmiddleware: {{{text}}}\n"
        )
        run = tmp_path / "run"
        run.mkdir()
        (root / "entrepot").mkdir(parents=True)
        cache_epoch.begin(run)
        settings = config_folder.settings().changed(run=run)
        assert not [each for each in config.check(settings) if "middleware" in each.source]
        number = CacheEpoch(run)
        made = workers.parts(settings, number, Invalidation(number))
        return TestClient(workers._application(settings, made))

    return make


_GATE = "repository: [{name: gate, options: {refuse: team/closed}}]"


def _calls() -> list[Any]:
    return list(sys.modules["acme"].CALLS)


def _push(client: TestClient, name: str) -> Any:
    digest = Digest.of(b"content")
    return client.simulate_post(
        f"/v2/{name}/blobs/uploads/", params={"digest": str(digest)}, body=b"content"
    )


def test_middleware_of_the_registry_wraps_every_response(
    client: Callable[[str], TestClient],
) -> None:
    """Middleware of kind `registry` wraps every response; the last entry wraps the others."""
    entries = "{name: stamp, options: {text: one}}, {name: stamp, options: {text: two}}"
    answer = client(f"registry: [{entries}]").simulate_get("/v2/")

    assert answer.status_code == 200
    # The test client keeps only the last of several headers with the same name.
    assert answer.headers["X-Stamp"] == "two"


def test_middleware_of_the_registry_that_raises_is_a_500(
    client: Callable[[str], TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    """If middleware of kind `registry` raises an error, the client gets 500.

    The log contains the middleware's name and the traceback.
    """
    answer = client("registry: [{name: breaking}]").simulate_get("/v2/")

    assert answer.status_code == 500
    assert answer.json["errors"][0]["code"] == "UNKNOWN"
    assert "hunter2" not in answer.text
    (line,) = [each for each in caplog.records if each.message == "middleware failed"]
    assert (vars(line)["middleware"], bool(line.exc_info)) == ("breaking", True)


def test_middleware_that_cannot_start_ends_the_program(
    client: Callable[[str], TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    """If middleware rejects its options, the worker exits and logs the middleware's name."""
    with pytest.raises(SystemExit):
        client("registry: [{name: unusable}]")

    assert "the middleware unusable could not be started: LookupError" in caplog.text + str(
        [vars(each).get("error") for each in caplog.records]
    )


def test_middleware_of_repositories_sees_the_facts_and_the_status(
    client: Callable[[str], TestClient],
) -> None:
    """Middleware of kind `repository` is called before and after the worker handles a request.

    The first call receives the request; the second call also receives the response's status.
    """
    app = client(_GATE)
    assert _push(app, "team/app").status_code == 201
    assert app.simulate_get("/v2/team/app/manifests/v1").status_code == 404

    first, pushed, second, missed = _calls()
    assert (first.method, first.action, first.repository) == ("POST", "push", "team/app")
    assert (first.kind, first.reference, first.user) == ("uploads", "", None)
    assert (second.action, second.kind, second.reference) == ("pull", "manifests", "v1")
    assert (pushed, missed) == (("team/app", 201), ("team/app", 404))


def test_middleware_of_repositories_may_refuse_a_request(
    client: Callable[[str], TestClient],
) -> None:
    """Middleware of kind `repository` can reject a request with a status, a code and a message."""
    app = client(_GATE)
    answer = _push(app, "team/closed")

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
    error = answer.json["errors"][0]
    assert (error["code"], error["message"]) == ("TOOMANYREQUESTS", "closed for today")
    assert ("team/closed", 429) in _calls()


@pytest.mark.parametrize("source", ["team/closed", ""])
def test_a_blob_of_a_refused_repository_is_not_mounted(
    client: Callable[[str], TestClient], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If middleware rejects pulls from a repository, no blob is mounted from this repository.

    A mount would read content of this repository, as a pull does.
    """
    app = client(_GATE)
    with monkeypatch.context() as patch:
        patch.setattr("acme.Gate.before", lambda *_: None, raising=True)
        assert _push(app, "team/closed").status_code == 201

    params = {"mount": str(Digest.of(b"content"))} | ({"from": source} if source else {})
    answer = app.simulate_post("/v2/team/app/blobs/uploads/", params=params)

    assert answer.status_code == 202


def test_middleware_of_repositories_that_raises_is_a_500(
    client: Callable[[str], TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    """If middleware of kind `repository` raises an unexpected error, the client gets 500."""
    answer = client(_GATE).simulate_get("/v2/team/odd/manifests/v1")

    assert (answer.status_code, "hunter2" in answer.text) == (500, False)
    assert "request failed" in [each.message for each in caplog.records]


def test_a_failure_after_the_request_changes_nothing(
    client: Callable[[str], TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    """If middleware raises an error after the request, the response does not change.

    The worker logs the error.
    """
    assert client(_GATE).simulate_get("/v2/team/late/manifests/v1").status_code == 404
    assert "middleware failed" in [each.message for each in caplog.records]


def test_without_middleware_no_package_is_imported(client: Callable[[str], TestClient]) -> None:
    """If the entry of a middleware is disabled in the settings, its package is not imported."""
    answer = client("registry: [{name: stamp, disabled: true}]").simulate_get("/v2/")

    assert answer.status_code == 200
    assert "acme" not in sys.modules


def test_middleware_gets_every_request_of_the_appliance(
    client: Callable[[str], TestClient], tmp_path: Path
) -> None:
    """With middleware, HAProxy's cache is off; cached responses would bypass the middleware."""
    client(_GATE)
    config_folder = ConfigFolder(tmp_path)

    assert not config_folder.settings().has_edge_cache
    config_folder.write("middleware: {}")
    assert config_folder.settings().has_edge_cache


@pytest.mark.parametrize(("status", "code"), [(200, "DENIED"), (401, "DENIED"), (403, "no")])
def test_a_refusal_has_a_status_and_a_code_of_errors(status: int, code: str) -> None:
    """`Refused` raises ValueError for an unsupported status and for a malformed error code."""
    with pytest.raises(ValueError, match="a refusal cannot have the status"):
        Refused("no", status, code)


def test_a_long_message_of_a_refusal_is_cut() -> None:
    """If middleware rejects a request, a long message is cut to 1,024 characters."""
    assert len(str(Refused("x" * 5000))) == 1024


def test_the_example_of_the_page_is_valid() -> None:
    """The example class of docs/extensions.md rejects pushes only in its configured hours."""
    page = (Path(__file__).parents[2] / "docs/extensions.md").read_text(encoding="utf-8")
    (code,) = [each for each in page.split("```python\n") if each.startswith("import time")]
    names: dict[str, Any] = {}
    exec(code.partition("```")[0], names)
    push = RepositoryRequest("PUT", "push", "team/app", "manifests", "v1", None)

    with pytest.raises(Refused, match="no pushes at night"):
        names["QuietHours"]({"from": "0", "to": "0"}).before(push)
    names["QuietHours"]({"from": "24", "to": "0"}).before(push)
