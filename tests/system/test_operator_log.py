"""Tests that the appliance logs each event of an operator's day, with its cause."""

from __future__ import annotations

import base64
import re

from tests.images import filler
from tests.ports import free_port
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.pulls import blob_path, manifest_path
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

# printed by: htpasswd -nbB -C 4 ann right
USERS = {"ann": "$2b$04$UDITLP0NXSoxSGu2VTyF7OOvB0O6Ellsn8MCAgTk36TkRHT2FH1Uy"}
ENVIRONMENT = {
    "ENTREPOT_PREFETCH": "0",
    "ENTREPOT_FRESHNESS": "0s",
    "CLEANER_MAXSIZE": "24M",
    "CLEANER_THRESHOLD_PERCENTAGE": "20",
}


def _basic(password: str) -> dict[str, str]:
    pair = base64.b64encode(f"ann:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def _wait_for_line(appliance: Appliance, *patterns: str) -> None:
    """Wait for a log line of the appliance that matches all patterns."""

    def is_there() -> bool:
        lines = appliance.output().splitlines()
        return any(all(re.search(each, line) for each in patterns) for line in lines)

    eventually(is_there, what=f"a line with {patterns}")


def test_the_log_of_one_day_explains_all_events(start: Start, fake: FakeUpstream) -> None:
    """From start to stop, each event of a day has a log line with its cause."""
    digests = [fake.add_blob("app", filler(6_000_000, number)) for number in range(6)]
    setup = Setup(
        {
            "one.test": {"url": fake.url, "username": "us", "password": "theirs"},
            "gone.test": {"url": f"http://127.0.0.1:{free_port()}"},
        },
        {"auth": {"htpasswd": {"users": USERS}}},
        ENVIRONMENT,
    )
    appliance = start(setup)
    right = _basic("right")
    _wait_for_line(appliance, "serving", "url=http", "upstreams=", "one.test")

    assert appliance.http.get("/v2/", **_basic("wrong")).status == 401
    _wait_for_line(appliance, "login failed", "user=ann", "address=127.0.0.1")

    for _ in range(3):  # one refused connection does not count as an outage
        appliance.http.get(manifest_path("gone.test/app", "v1"), **right)
    _wait_for_line(appliance, "upstream is unavailable", "upstream=gone.test", "cause=.*refused")
    assert "gone.test: " in appliance.entrepot("status").stdout

    fake.misbehave("/manifests/limited", status=429, headers={"Retry-After": "7"})
    appliance.http.get(manifest_path("one.test/app", "limited"), **right)
    _wait_for_line(appliance, "upstream limits the rate", "upstream=one.test", "seconds=7")

    fake.misbehave("/private/", status=403)
    appliance.http.get(blob_path("one.test/private", digests[0]), **right)
    _wait_for_line(appliance, "upstream rejects the configured credentials", "upstream=one.test")

    for digest in digests:
        assert appliance.http.get(blob_path("one.test/app", digest), **right).status == 200
    _wait_for_line(appliance, "downloaded", "upstream=one.test", "bytes=6000000", "outcome=stored")
    _wait_for_line(appliance, "evicted", "bytes=[1-9]", "reasons=.*size")

    assert appliance.stop() == 0
    _wait_for_line(appliance, "stopping", "reason=SIGTERM")
    _wait_for_line(appliance, "stopped", "reason=SIGTERM")
    assert "wrong" not in appliance.output()
