"""Test `Gate`, through which HAProxy answers API requests with 503 while a health check fails."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from entrepot.appliance.health import gate
from entrepot.appliance.health.gate import Gate
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.runtime.health import failing_checks
from tests.appliance.haproxy import Haproxy, Response, stub_worker

pytestmark = pytest.mark.slow

_ON = {"ENTREPOT_HEALTH": "on"}
_CACHED = {
    "X-Entrepot-Keep": "60",
    "X-Entrepot-Generation": "0000000001",
    "Cache-Control": "max-age=60",
}


@pytest.fixture
def run() -> Iterator[Path]:
    """Return a run directory with a short path, in which the gate is open."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        gate.begin(Path(folder))
        yield Path(folder)


@pytest.fixture
def haproxy(run: Path) -> Iterator[Haproxy]:
    """Run HAProxy in front of a worker whose responses HAProxy may cache."""
    with stub_worker(run, 1, _CACHED), Haproxy(run, 1, variables=_ON) as started:
        yield started


def _statuses(haproxy: Haproxy, *paths: str) -> list[int]:
    return [haproxy.request(path).status for path in paths]


def test_a_closed_gate_answers_503_until_it_is_opened(run: Path, haproxy: Haproxy) -> None:
    """While a health check fails, HAProxy answers requests with 503, and afterwards with 200."""
    paths = ("/v2/", "/", "/v2/a/manifests/b", "/v2/a/tags/list")
    here = Gate(run)

    assert _statuses(haproxy, *paths) == [200] * 4
    assert here.publish({"/down": "file exists"})
    closed = haproxy.request("/v2/")
    assert _statuses(haproxy, *paths) == [503] * 4
    assert haproxy.request("/v2/a/blobs/uploads/", method="POST").status == 503
    assert failing_checks(run) == {"/down": "file exists"}
    assert here.publish({})
    assert _statuses(haproxy, *paths) == [200] * 4
    assert failing_checks(run) == {}
    _assert_as_there(closed)


def _assert_as_there(closed: Response) -> None:
    """Assert that a 503 has the body of docker distribution's health/health.go.

    The appliance adds the header Retry-After, which docker distribution does not send.
    """
    (error,) = json.loads(closed.body)["errors"]
    assert error == {
        "code": "UNAVAILABLE",
        "message": "service unavailable",
        "detail": "health check failed: please see /debug/health",
    }
    assert closed.headers["content-type"] == "application/json"
    assert closed.headers["retry-after"] == "10"


def test_an_answer_of_the_cache_is_503_too(run: Path, haproxy: Haproxy) -> None:
    """A request whose response is in HAProxy's cache gets 503 too while a check fails."""
    assert CacheEpoch(run).now() == _CACHED["X-Entrepot-Generation"]
    haproxy.request("/v2/a/manifests/cached")
    hit = haproxy.request("/v2/a/manifests/cached")
    assert "memory" in hit.headers["cache-status"]

    Gate(run).publish({"a": "down"})

    assert haproxy.request("/v2/a/manifests/cached").status == 503


def test_probes_of_the_programs_and_metrics_stay_available(run: Path, haproxy: Haproxy) -> None:
    """While a check fails, the programs' probes and /metrics still respond with 200.

    If the probes failed, an orchestrator would restart the programs, but the check would still
    fail. The metrics show the number of failing checks.
    """
    Gate(run).publish({"a": "down"})

    assert _statuses(haproxy, "/healthz", "/metrics") == [200, 200]


def test_a_haproxy_that_starts_while_a_check_fails_is_closed(run: Path) -> None:
    """A HAProxy that starts while a check fails responds 503 until the check passes."""
    here = Gate(run)
    assert not here.publish({"a": "down"})

    with ExitStack() as stack:
        stack.enter_context(stub_worker(run, 1))
        started = stack.enter_context(Haproxy(run, 1, variables=_ON))
        assert started.request("/v2/").status == 503
        assert here.publish({})
        assert started.request("/v2/").status == 200
