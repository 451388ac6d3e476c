"""Workers serve debug pages at `http.debug.addr`."""

from __future__ import annotations

import json
from pathlib import Path

import falcon
import falcon.testing
import pytest

from entrepot.logger import event_metrics, traffic
from entrepot.logger.metrics import Metric
from entrepot.registry.api import errors, router
from entrepot.registry.api.debug import _COUNTERS, HEADER, DebugResource, DebugSources
from entrepot.runtime.run_names import HEALTH, METRICS

_METRICS = """# TYPE registry_proxy_requests_total counter
registry_proxy_requests_total{type="blob"} 7.0
registry_proxy_requests_total{type="manifest"} 3.0
# TYPE registry_proxy_hits_total counter
registry_proxy_hits_total{type="blob"} 5.0
# TYPE registry_proxy_misses_total counter
registry_proxy_misses_total{type="blob"} 2.0
# TYPE registry_proxy_pulled_bytes_total counter
registry_proxy_pulled_bytes_total{type="blob"} 2048.0
# TYPE registry_proxy_pushed_bytes_total counter
registry_proxy_pushed_bytes_total{type="blob"} 4096.0
# TYPE registry_notifications_events_total counter
registry_notifications_events_total{endpoint="ci",type="Events"} 9.0
registry_notifications_events_total{endpoint="ci",type="Successes"} 7.0
registry_notifications_events_total{endpoint="other",type="Events"} 1.0
# TYPE registry_notifications_pending_total gauge
registry_notifications_pending_total{endpoint="ci"} 2.0
# TYPE registry_notifications_status_total counter
registry_notifications_status_total{code="200 OK",endpoint="ci"} 7.0
"""


def _ask(
    run: Path, path: str, *, has_metrics: bool = True, is_debug: bool = True
) -> falcon.testing.Result:
    app = falcon.App(router=router.Router())
    errors.install(app)
    resource = DebugResource(
        DebugSources(run, run / METRICS, has_metrics, {"ci": "https://ci.example.com/event"})
    )
    app.add_route(router.DEBUG, resource)
    app.add_route(router.PROFILE, resource)
    headers = {HEADER: "1"} if is_debug else {}
    return falcon.testing.TestClient(app).simulate_get(path, headers=headers)


def test_health_lists_failing_checks_with_503(tmp_path: Path) -> None:
    """`/debug/health` lists failing checks with status 503.

    If no check fails, the response is a 200 with `{}`.
    """
    healthy = _ask(tmp_path, "/debug/health")
    (tmp_path / HEALTH).write_text('{"file:/down": "file exists"}')
    failing = _ask(tmp_path, "/debug/health")

    assert (healthy.status_code, healthy.json) == (200, {})
    assert (failing.status_code, failing.json) == (503, {"file:/down": "file exists"})


@pytest.mark.parametrize("content", ["", "[]", "x", json.dumps({"a": "b" * 70_000})])
def test_an_unreadable_list_of_checks_is_itself_a_failure(tmp_path: Path, content: str) -> None:
    """If a worker cannot parse the file of failing checks, `/debug/health` returns a 503.

    The unreadable file might list a failing check. A worker reads only a bounded number of bytes of
    the file.
    """
    (tmp_path / HEALTH).write_text(content)

    failing = _ask(tmp_path, "/debug/health")
    assert failing.status_code == 503
    assert list(failing.json) == [HEALTH]


def test_vars_have_the_counters_of_docker_distribution(tmp_path: Path) -> None:
    """`/debug/vars` shows docker distribution's counters with values from the logger's metrics."""
    empty = _ask(tmp_path, "/debug/vars").json
    assert empty["registry"]["proxy"]["blobs"]["Requests"] == 0

    (tmp_path / METRICS).write_text(_METRICS)
    found = _ask(tmp_path, "/debug/vars").json
    assert found["registry"]["proxy"] == {
        "blobs": {
            "Requests": 7,
            "Hits": 5,
            "Misses": 2,
            "BytesPulled": 2048,
            "BytesPushed": 4096,
        },
        "manifests": {
            "Requests": 3,
            "Hits": 0,
            "Misses": 0,
            "BytesPulled": 0,
            "BytesPushed": 0,
        },
    }
    assert 0 < found["memstats"]["Alloc"] <= found["memstats"]["Sys"]
    assert found["cmdline"]


def test_the_counters_are_metrics_that_the_logger_writes() -> None:
    """`/debug/vars` uses only metrics that the logger writes.

    Any other metric would always be 0.
    """
    written = {
        each.name
        for module in (traffic, event_metrics)
        for each in vars(module).values()
        if isinstance(each, Metric)
    }

    assert set(_COUNTERS.values()) <= written


def test_metrics_are_served_only_if_they_are_enabled(tmp_path: Path) -> None:
    """If metrics are enabled, a worker serves them to every client of the debug address.

    No login is needed, because the operator decides who can reach that address. If metrics are
    disabled, the path returns 404.
    """
    assert _ask(tmp_path, "/debug/prometheus").status_code == 503
    (tmp_path / METRICS).write_text(_METRICS)

    assert _ask(tmp_path, "/debug/prometheus").text == _METRICS
    assert _ask(tmp_path, "/debug/prometheus", has_metrics=False).status_code == 404


@pytest.mark.parametrize("path", ["/debug/pprof", "/debug/pprof/heap"])
def test_profiles_are_404_with_the_reason(tmp_path: Path, path: str) -> None:
    """Docker distribution's profile pages return 404, because they are specific to Go programs."""
    answer = _ask(tmp_path, path)

    assert answer.status_code == 404
    assert "not written in Go" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize("page", ["health", "vars", "prometheus", "pprof"])
def test_no_page_is_served_to_clients_of_the_registry(tmp_path: Path, page: str) -> None:
    """A request for a debug page that does not come through the debug address gets 404."""
    answer = _ask(tmp_path, f"/debug/{page}", is_debug=False)

    assert answer.status_code == 404
    assert "no such path" in answer.json["errors"][0]["message"]


def test_vars_have_the_endpoints_of_notifications(tmp_path: Path) -> None:
    """`/debug/vars` lists each notification endpoint with its counters, as distribution does."""
    (tmp_path / METRICS).write_text(_METRICS)

    assert _ask(tmp_path, "/debug/vars").json["registry"]["notifications"] == {
        "endpoints": [
            {
                "name": "ci",
                "url": "https://ci.example.com/event",
                "Metrics": {
                    "Pending": 2,
                    "Events": 9,
                    "Successes": 7,
                    "Failures": 0,
                    "Errors": 0,
                    "Statuses": {"200 OK": 7},
                },
            }
        ]
    }
