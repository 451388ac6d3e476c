"""An appliance uses middleware and an error tracker that other Python packages provide."""

from __future__ import annotations

from pathlib import Path

from tests.images import image
from tests.system.appliance import Setup
from tests.system.conftest import Start
from tests.system.pushes import push
from tests.system.waiting import eventually

_ACME = """
from entrepot.registry import Refused

def stamp(app, options):
    def stamped(environ, start_response):
        if environ["PATH_INFO"].endswith("/boom/manifests/v1"):
            raise LookupError("no answer of https://ann:sesame@acme.example/")
        return app(environ, lambda status, headers, error=None: start_response(
            status, [*headers, ("X-Stamp", options["text"])], error))
    return stamped

class Gate:
    def __init__(self, options):
        self.closed = options["closed"]
    def before(self, request):
        if request.repository == self.closed:
            raise Refused("closed for today")
    def after(self, request, status):
        pass
"""
_ENTRY_POINTS = """
[entrepot.middleware.registry]
stamp = acme:stamp
[entrepot.middleware.repository]
gate = acme:Gate
"""
_SENTRY = """
import pathlib
def init(**options):
    pass
def capture_exception(error, contexts):
    with (pathlib.Path(__file__).parent / "sent").open("a") as file:
        file.write(f"{type(error).__name__}: {error} {contexts['request_line']['path']}\\n")
"""


def _packages(folder: Path) -> Path:
    metadata = folder / "acme-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    (folder / "acme.py").write_text(_ACME)
    (folder / "sentry_sdk.py").write_text(_SENTRY)
    return folder


def test_packages_beside_the_appliance_extend_it(start: Start, tmp_path: Path) -> None:
    """Middleware adds a header and refuses requests; an error goes to the error tracker."""
    site = _packages(tmp_path / "site")
    appliance = start(
        Setup(
            settings={
                "middleware": {
                    "registry": [{"name": "stamp", "options": {"text": "staging"}}],
                    "repository": [{"name": "gate", "options": {"closed": "team/closed"}}],
                },
                "reporting": {"sentry": {"dsn": "https://hunter2@sentry.example/1"}},
                "proxy": {"public": False},
            },
            environment={"PYTHONPATH": str(site)},
        )
    )
    assert push(appliance.http, "team/app", "v1", image([b"content"]))
    for _ in range(3):
        answer = appliance.http.get("/v2/team/app/manifests/v1")
        assert (answer.status, answer.headers["x-stamp"]) == (200, "staging")
    refused = appliance.http.get("/v2/team/closed/manifests/v1")
    assert (refused.status, refused.code) == (403, "DENIED")

    failed = appliance.http.get("/v2/team/boom/manifests/v1")
    assert (failed.status, failed.code) == (500, "UNKNOWN")
    assert b"sesame" not in failed.body
    sent = site / "sent"
    eventually(sent.exists, what="the error is reported")
    assert sent.read_text() == (
        "LookupError: no answer of https://acme.example/ /v2/team/boom/manifests/v1\n"
    )
    assert "hunter2" not in appliance.output()
