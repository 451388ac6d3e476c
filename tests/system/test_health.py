"""While a check in `health:` fails, the whole appliance responds 503."""

from __future__ import annotations

import json
from pathlib import Path

from tests.ports import free_port
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.http_client import HttpClient
from tests.system.waiting import eventually

_PATHS = ("/v2/", "/", "/v2/_catalog", "/v2/a/blobs/uploads/1")


def _statuses(appliance: Appliance) -> set[int]:
    return {appliance.http.get(path).status for path in _PATHS}


def test_a_failing_check_closes_the_appliance_until_it_passes(start: Start, tmp_path: Path) -> None:
    """While a check fails, clients get 503; `entrepot status`, metrics and log show the check."""
    down, debug = tmp_path / "down", HttpClient(free_port())
    appliance = start(
        Setup(
            settings={
                "health": {
                    "storagedriver": {"enabled": True, "interval": "200ms", "threshold": 3},
                    "file": [{"file": str(down), "interval": "200ms"}],
                },
                "http": {"debug": {"addr": debug.netloc}},
                "proxy": {"public": False},
            }
        )
    )
    assert 503 not in _statuses(appliance)
    assert debug.get("/debug/health").status == 200

    down.touch()
    eventually(lambda: appliance.http.get("/v2/").status == 503, what="the file is found")

    assert _statuses(appliance) == {503}
    assert appliance.http.get("/v2/").code == "UNAVAILABLE"
    health = debug.get("/debug/health")
    assert (health.status, json.loads(health.body)) == (503, {str(down): "file exists"})
    assert f"{down}: file exists" in appliance.entrepot("status").stdout
    eventually(
        lambda: appliance.metric("entrepot_health_checks_failing") == 1, what="the metric is 1"
    )
    assert appliance.http.get("/healthz").status == 200

    down.unlink()
    eventually(lambda: appliance.http.get("/v2/").status == 200, what="the check passes again")
    assert 503 not in _statuses(appliance)
    assert debug.get("/debug/health").status == 200
    assert "health check fails" in appliance.output()
    assert "health check passes again" in appliance.output()
