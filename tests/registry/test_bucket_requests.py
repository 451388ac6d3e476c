"""Tests that count, at the S3 server, the requests that pulls and pushes send to a bucket.

The section "Requests and bytes" of docs/storage.md states the same numbers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.app import Parts, assemble
from entrepot.registry.auth.identity import OpenAuthenticator
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from tests.clock import Clock
from tests.images import Image, filler, image
from tests.s3_front import S3Front
from tests.s3_storage import always_owned
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

pytestmark = pytest.mark.slow

KB = 1024
PART = 64 * KB
HOST = "one.test"
SHORT, LONG = filler(20 * KB, 1), filler(4 * PART, 2)
MADE = image([SHORT, LONG])


@dataclass
class Registry:
    """A registry with an empty bucket as its storage, and an upstream with the image `app:v1`."""

    s3: S3Front
    upstream: FakeUpstream
    state: Path
    clock: Clock = field(default_factory=lambda: Clock(time.time()))
    ended: list[str] = field(default_factory=list)
    limits: SpaceLimits = field(default_factory=SpaceLimits)

    def __post_init__(self) -> None:
        index = MemoryIndex(clock=self.clock)
        config = UpstreamConfig(HOST, self.upstream.url, freshness=60.0)
        parts = Parts(
            always_owned(self.s3, self.state, rootdirectory=self.state.name, chunksize=PART),
            index,
            self.state,
            UpstreamTable(FixedUpstreams({HOST: config})),
            OpenAuthenticator(),
            Reservations(index.reservations, self.limits, notes=index.notes),
            report=lambda **event: self.ended.append(event["digest"]),
            clock=self.clock,
        )
        self.client = TestClient(assemble(parts))

    def ask(self, method: str, path: str, **others: Any) -> Result:
        """Send a request for a path below /v2/; assert that it succeeds."""
        answer: Result = self.client.simulate_request(method, f"/v2/{path}", **others)
        assert answer.status_code < 300, answer
        return answer

    def pull(self, name: str, content: bytes, *, is_cold: bool = False) -> None:
        """Pull a blob; with *is_cold*, wait until the blob is committed to the bucket."""
        digest = str(Digest.of(content))
        assert self.ask("GET", f"{name}/blobs/{digest}").content == content
        if is_cold:
            eventually(lambda: digest in self.ended, what="the blob is committed", within=60)

    def push(self, name: str, made: Image) -> None:
        """Push an image."""
        for content in made.blobs:
            where = self.ask("POST", f"{name}/blobs/uploads/").headers["location"]
            target = f"{where.removeprefix('/v2/')}?digest={Digest.of(content)}"
            self.ask("PUT", target, body=content)
        headers = {"Content-Type": made.media_type}
        self.ask("PUT", f"{name}/manifests/v1", body=made.manifest, headers=headers)

    def counted(self) -> dict[str, int]:
        """Return the number of requests with each method since the previous call.

        Requests that send a part of a blob are not counted.
        """
        found = Counter(each.method for each in self.s3.requests if "partNumber" not in each.query)
        self.s3.forget()
        return dict(found)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Front]:
    """Run one strict S3 server for all tests of this file."""
    with S3Front(least_part=KB) as front:
        yield front


@pytest.fixture
def registry(s3: S3Front, tmp_path: Path) -> Iterator[Registry]:
    """Yield a registry with an empty bucket."""
    with FakeUpstream() as fake:
        fake.put_image("app", "v1", MADE)
        s3.forget()
        yield Registry(s3, fake, tmp_path)


def test_a_pull_sends_few_requests(registry: Registry) -> None:
    """Cold and warm pulls send few requests to the bucket.

    When a worker confirms a tag at the upstream, it sends no request to the bucket.
    """
    name = f"{HOST}/app"

    registry.ask("GET", f"{name}/manifests/v1")
    manifest = registry.counted()
    assert manifest.pop("PUT") <= 6
    assert manifest == {"GET": 4}
    registry.pull(name, SHORT, is_cold=True)
    assert registry.counted() == {"PUT": 2, "HEAD": 1}, "at most four besides the blob"
    registry.pull(name, MADE.blobs[0], is_cold=True)
    assert registry.counted() == {"PUT": 2, "HEAD": 1}
    registry.pull(name, LONG, is_cold=True)
    assert registry.counted() == {"POST": 2, "HEAD": 1, "PUT": 1}, "four besides the parts"

    registry.ask("GET", f"{name}/manifests/v1")
    registry.ask("GET", f"{name}/manifests/{MADE.digest}")
    registry.pull(name, SHORT)
    assert registry.counted() == {}, "workers keep short content in memory"
    registry.pull(name, LONG)
    assert registry.counted() == {"GET": 1}
    registry.clock.now += 100.0
    registry.upstream.forget()
    registry.ask("GET", f"{name}/manifests/v1")
    assert registry.counted() == {}, "the confirmation of a tag is not written to the bucket"
    assert registry.upstream.requests != []


def test_the_first_blob_of_a_repository_costs_two_requests_more(registry: Registry) -> None:
    """A blob that is pulled before any manifest of its repository costs two additional requests.

    With these requests the worker reads and writes the repository's origin.
    """
    registry.pull(f"{HOST}/app", LONG, is_cold=True)

    assert registry.counted() == {"POST": 2, "HEAD": 1, "PUT": 2, "GET": 1}, "six besides the parts"


def test_a_push_sends_few_requests(registry: Registry) -> None:
    """A push of an image with three blobs sends few requests to the bucket.

    One of the blobs is sent in parts; the test does not count the requests for the parts.
    """
    registry.push("team/app", MADE)

    assert registry.counted() == {"PUT": 9, "POST": 2, "GET": 5, "HEAD": 3}


def test_a_blob_without_room_in_the_state_directory_is_not_stored(
    s3: S3Front, tmp_path: Path
) -> None:
    """If the state directory has no space for a blob, the worker passes the blob through.

    A push of the blob gets 507.
    """
    with FakeUpstream() as fake:
        fake.put_image("app", "v1", MADE)
        registry = Registry(s3, fake, tmp_path, limits=SpaceLimits(spool=len(LONG) - 1))
        registry.pull(f"{HOST}/app", SHORT, is_cold=True)
        registry.pull(f"{HOST}/app", LONG)
        where = registry.ask("POST", "team/app/blobs/uploads/").headers["location"]
        target = f"{where}?digest={Digest.of(LONG)}"
        refused = registry.client.simulate_put(target, body=LONG)

    assert refused.status_code == 507
    assert refused.json["errors"][0]["detail"]["room"] == len(LONG) - 1
    stored = [key for key in s3.keys(tmp_path.name) if key.endswith("/data")]
    assert len(stored) == 1
