"""Tests how much memory hostile upstreams can use in an appliance, and whether they slow it down.

Some clients pull from an honest upstream, while others request content of hostile upstreams. Each
hostile upstream sends a different kind of bad response. Examples are impossible sizes, endless
lists, headers that make a regular expression backtrack, and bodies with a few bytes per second.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.manifest import OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.http_client import HttpClient
from tests.system.images import FULL
from tests.system.pulls import pull_blob, pull_manifest
from tests.upstream import FakeUpstream

PULLS = 2000 if FULL else 80
HONEST = 4
MOST_MIB = 250
"""The limit of each worker's largest resident memory (MiB); an idle worker has about 60 MiB."""
NAME = "library/app"
LAYER = filler(100_000, 1)
LARGE = filler(17 * 1024 * 1024, 2)
DIGEST = Digest.of(LARGE)


def _named(size: int) -> dict[str, Any]:
    return {"mediaType": "application/octet-stream", "digest": str(DIGEST), "size": size}


LIES = {"schemaVersion": 2, "config": _named(2**46), "layers": []}
MORE = {"Link": f'</v2/{NAME}/next>; rel="next"'}
TAGS = json.dumps({"tags": [f"tag-{number:09d}" for number in range(90_000)]}).encode()
INDEX = json.dumps({"manifests": [_named(1)] * 3000}).encode()
HEAD = {f"X-{number}": "x" * 60_000 for number in range(20)}
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "tags": ("tags/list", {"body": TAGS, "headers": MORE}),
    "referrers": (f"referrers/{DIGEST}", {"body": INDEX, "media_type": OCI_INDEX, "headers": MORE}),
    "deep": ("manifests/v1", {"body": b"[" * 4_000_000}),
    "wide": ("manifests/v1", {"body": b"[" + b"{}," * 1_300_000 + b"{}]"}),
    "link": ("tags/list", {"body": b"{}", "headers": {"Link": "<" * 60_000}}),
    "blanks": (
        "manifests/v1",
        {"status": 401, "headers": {"WWW-Authenticate": f"Bearer{' ' * 60_000}!"}},
    ),
    "slow": ("manifests/v1", {"body": b"{" * 1000, "rate": 100.0}),
    "head": ("manifests/v1", {"headers": HEAD}),
    "digits": ("manifests/v1", {"status": 503, "headers": {"Retry-After": "9" * 9000}}),
    "sizes": (f"blobs/{DIGEST}", {}),
    "layer as a manifest": (f"manifests/{DIGEST}", {"status": 404}),
}


@dataclass
class Load:
    """Threads that send requests until PULLS pulls from the honest upstream are done."""

    http: HttpClient
    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def request(self, path: str) -> None:
        """Request *path* of a hostile upstream repeatedly, and ignore failures."""
        while not self.done.is_set():
            with suppress(OSError, HTTPException):
                self.http.get(path)

    def pull(self, name: str) -> None:
        """Pull the honest upstream's image repeatedly; record the times (s) and failures."""
        while not self.done.is_set():
            began = time.monotonic()
            try:
                pull_manifest(self.http, name, "v1")
                pull_blob(self.http, name, Digest.of(LAYER))
            except (AssertionError, OSError, HTTPException) as error:
                self.failures.append(repr(error)[:300])
            self.waits.append(time.monotonic() - began)

    def run(self, clients: list[Callable[[], None]]) -> float:
        """Run all clients concurrently; return the honest pulls' p99 time (s)."""
        self.waits.clear()
        self.done.clear()
        threads = [threading.Thread(target=each) for each in clients]
        for each in threads:
            each.start()
        deadline = time.monotonic() + 100
        while len(self.waits) < PULLS and time.monotonic() < deadline:
            self.done.wait(0.05)
        self.done.set()
        for each in threads:
            each.join()
        return sorted(self.waits)[int(len(self.waits) * 0.99) - 1]


def _peak(pid: int) -> float:
    """Return the largest resident memory of the process so far (MiB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(each for each in lines if each.startswith("VmHWM")).split()[1]) / 1024


def _hostile(upstream: FakeUpstream, pattern: str, fault: dict[str, Any]) -> None:
    upstream.add_blob(NAME, LARGE)
    upstream.add_manifest(NAME, "lies", json.dumps(LIES).encode(), OCI_MANIFEST)
    if fault:
        upstream.misbehave(f"{pattern}|/next", **{"status": 200, **fault})


@pytest.fixture
def upstreams() -> Iterator[dict[str, FakeUpstream]]:
    """Run an honest upstream, and a hostile one for each attack."""
    with ExitStack() as stack:
        found = {each: stack.enter_context(FakeUpstream()) for each in ("honest", *FAULTS)}
        found["honest"].add_image(NAME, "v1", [LAYER])
        for each, (pattern, fault) in FAULTS.items():
            _hostile(found[each], pattern, fault)
        yield found


def test_hostile_upstreams_take_neither_memory_nor_time_from_other_pulls(
    upstreams: dict[str, FakeUpstream], tmp_path: Path
) -> None:
    """Hostile upstreams make no pull from the honest one fail, and no worker exceeds MOST_MIB.

    Only `make soak` compares the response times, because by default the test measures too few of
    them. The test writes all numbers to `figures.json`.
    """
    settings = {each.host: {"url": each.url} for each in upstreams.values()}
    names = {key: f"{each.host.replace(':', '_')}/{NAME}" for key, each in upstreams.items()}
    environment = {
        "ENTREPOT_WORKERS": "2",
        "CLEANER_MAXSIZE": "500M",
        "ENTREPOT_READ_TIMEOUT": "3s",
    }
    with Appliance(tmp_path, Setup(upstreams=settings, environment=environment)) as appliance:
        load = Load(appliance.http)
        # In these attacks the upstream's manifest states a wrong size for a blob. The worker knows
        # this size only after a client has requested the manifest.
        for each in ("sizes", "layer as a manifest"):
            assert load.http.get(f"/v2/{names[each]}/manifests/lies").status == 200
        assert load.http.get(f"/v2/{names['layer as a manifest']}/blobs/{DIGEST}").status == 200
        pulls = [partial(load.pull, names["honest"])] * HONEST
        harmless = f"/v2/{names['honest']}/manifests/none"
        attacks = [f"/v2/{names[key]}/{path}" for key, (path, _) in FAULTS.items()]
        before = load.run([*pulls, *(partial(load.request, harmless) for _ in attacks)])
        beside = load.run([*pulls, *(partial(load.request, path) for path in attacks)])
        peaks = [_peak(each.pid) for each in appliance.workers()]
        figures = {"p99_s": [before, beside], "peaks_mib": peaks, "pulls": len(load.waits)}
        (tmp_path / "figures.json").write_text(json.dumps(figures))

        assert load.failures == []
        assert max(peaks) < MOST_MIB, figures
        assert "Traceback" not in appliance.output()
        if FULL:
            assert beside < 3 * before, figures
