"""`entrepot migrate` copies an appliance's content from a disk to a bucket, and back to a disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.drivers.objects.owner import KEY
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.s3_front import S3Front, Stall
from tests.s3_storage import configured
from tests.system.appliance import ROOT, Appliance, Setup
from tests.system.images import KB, MB, of_size
from tests.system.processes import clean_environment
from tests.system.pulls import pull
from tests.system.pushes import ALLOWED, push, tags
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

_ENDS_WITHIN = 60.0

PUSHED, LONG, PULLED = of_size(200 * KB, 900), of_size(7 * MB, 901), of_size(300 * KB, 902)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Front]:
    """Run one strict S3 server for all tests of this file."""
    with S3Front() as front:
        yield front


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream for all tests of this file."""
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that contains the data directories."""
    return tmp_path_factory.mktemp("migrate")


@pytest.fixture(scope="module")
def bucket(s3: S3Front, upstream: FakeUpstream, folder: Path) -> Appliance:
    """Return an appliance whose content is in the bucket; do not start it."""
    keys = {
        **configured(s3),
        "rootdirectory": "/moved",
        "chunksize": "5M",
    }
    storage = {**ALLOWED["storage"], "s3": keys, "statedir": str(folder / "state")}
    setup = Setup(
        {"one.test": {"url": upstream.url}},
        {"storage": storage},
        {"REGISTRYDIR": ""},
        data=folder / "bucket-data",
    )
    return Appliance(folder / "bucket", setup)


def _on_disk(folder: Path, upstream: FakeUpstream) -> Appliance:
    return Appliance(folder, Setup({"one.test": {"url": upstream.url}}, ALLOWED))


@pytest.fixture(scope="module")
def disk(folder: Path, upstream: FakeUpstream) -> Path:
    """Return the data directory of an appliance to which clients have pushed and pulled images."""
    upstream.put_image("app", "v1", PULLED)
    with _on_disk(folder / "disk", upstream) as appliance:
        assert push(appliance.http, "team/app", "v1", PUSHED)
        assert push(appliance.http, "team/long", "v2", LONG)
        pull(appliance.http, "one.test/app", "v1")
    return appliance.data


def _begin(*words: object) -> subprocess.Popen[str]:
    """Start `entrepot migrate`."""
    return subprocess.Popen(
        [sys.executable, "-m", "entrepot.appliance", "migrate", "--json", *map(str, words)],
        cwd=ROOT,
        env=clean_environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> tuple[int, Any]:
    """Return the exit code and the report of a migration."""
    output, errors = process.communicate(timeout=_ENDS_WITHIN)
    assert output, errors
    return process.returncode, json.loads(output)


def _check(appliance: Appliance, upstream: FakeUpstream) -> None:
    """Check that all images are served with the same digests, without a download.

    The snapshot of a bucket's index has no times at which tags were confirmed, so the appliance may
    confirm a tag with a HEAD.
    """
    upstream.forget()
    expected: tuple[tuple[str, str, Image], ...] = (
        ("team/app", "v1", PUSHED),
        ("team/long", "v2", LONG),
        ("one.test/app", "v1", PULLED),
    )
    for name, tag, made in expected:
        assert pull(appliance.http, name, tag)[0] == made.digest
    assert tags(appliance.http, "team/app") == ["v1"]
    assert {each.method for each in upstream.requests} <= {"HEAD"}


def _stalled(
    s3: S3Front, pattern: str, *words: object
) -> tuple[subprocess.Popen[str], threading.Event]:
    """Start a migration, and wait until its PUT of a key that matches *pattern* has begun.

    The server responds to this PUT when the test sets the returned event.
    """
    released = threading.Event()
    s3.fault("PUT", pattern, Stall(released))
    process = _begin(*words)

    def has_begun() -> bool:
        assert process.poll() is None, process.communicate()
        return s3.count("PUT", pattern) > 0

    eventually(has_begun, what=f"a PUT of {pattern}", within=_ENDS_WITHIN)
    return process, released


def test_a_disk_moved_to_a_bucket_with_two_interruptions_serves_the_same_digests(
    disk: Path, bucket: Appliance, s3: S3Front, upstream: FakeUpstream
) -> None:
    """After a kill and a SIGTERM, a repeated migration copies no blob that is already stored."""
    blobs = [Digest.of(each) for made in (PUSHED, LONG, PULLED) for each in made.blobs]
    blobs += [made.digest for made in (PUSHED, LONG, PULLED)]
    last = max(blobs, key=str)

    killed, released = _stalled(s3, last.hex, disk, bucket.file)
    others = [each.hex for each in blobs if each != last]
    eventually(
        lambda: all(s3.keys(f"moved/docker/registry/v2/blobs/sha256/{x[:2]}/{x}") for x in others),
        what="the other blobs are stored",
        within=_ENDS_WITHIN,
    )
    killed.kill()
    killed.communicate()
    released.set()
    s3.forget()

    stopped, released = _stalled(s3, "/_layers/", disk, bucket.file)
    stopped.send_signal(signal.SIGTERM)
    released.set()
    code, report = _ended(stopped)
    assert (code, report["complete"]) == (1, False)
    assert report["blobs"]["copied"] <= 1
    s3.forget()

    code, report = _ended(_begin(disk, bucket.file))
    assert (code, report["complete"], report["failures"]) == (0, True, 0)
    assert (report["blobs"]["found"], report["blobs"]["copied"]) == (len(blobs), 0)
    assert s3.count("PUT", "/blobs/") == 0
    assert s3.get(f"moved/{KEY}") is None

    with bucket:
        _check(bucket, upstream)
        assert push(bucket.http, "team/later", "v1", PUSHED)
        _check_refusals(disk, bucket, s3)


def _from_another_machine(bucket: Appliance) -> Path:
    """Return a configuration file for the bucket with a new state directory.

    A second machine that uses the same bucket would have this file.
    """
    other = bucket.file.with_name("other-state.yml")
    text = bucket.file.read_text().replace(str(bucket.file.parent.parent / "state"), f"{other}.d")
    other.write_text(text)
    return other


def _last_uses(state: Path) -> dict[Digest, float]:
    """Return the last use of the first layer of each pushed image."""
    index = open_index(state)
    rows = [index.entry(Digest.of(made.layers[0])) for made in (PUSHED, LONG)]
    index.close()
    return {row.digest: row.used for row in rows if row is not None}


def _check_refusals(disk: Path, bucket: Appliance, s3: S3Front) -> None:
    """Check that `migrate` refuses a target with an owner, and a source that an appliance uses."""
    before = s3.keys("moved/docker")
    other = _from_another_machine(bucket)

    as_target = _begin(disk, other)
    as_source = _begin(bucket.file, disk)

    assert "an appliance owns the target" in as_target.communicate(timeout=_ENDS_WITHIN)[1]
    assert "an appliance uses the source" in as_source.communicate(timeout=_ENDS_WITHIN)[1]
    assert (as_target.returncode, as_source.returncode) == (2, 2)
    assert s3.keys("moved/docker") == before


def test_a_bucket_moved_to_a_disk_serves_the_same_digests(
    disk: Path, bucket: Appliance, s3: S3Front, upstream: FakeUpstream, folder: Path
) -> None:
    """`migrate` copies a bucket to a disk, also without the state directory of the bucket's owner.

    The migration only reads from the bucket. The last uses come from the snapshot of the index in
    the bucket.
    """
    if not s3.keys("moved/docker"):
        assert _ended(_begin(disk, bucket.file))[0] == 0
        bucket.start()
        assert bucket.stop() == 0
    back = _on_disk(folder / "back", upstream)
    back.data.mkdir(parents=True)
    s3.forget()

    code, report = _ended(_begin(_from_another_machine(bucket), back.data))

    assert (code, report["complete"]) == (0, True), report
    assert set(s3.counts()) <= {"GET", "HEAD"}
    before = _last_uses(folder / "state")
    assert len(before) == 2
    assert _last_uses(back.state) == pytest.approx(before, abs=1)
    with back:
        _check(back, upstream)
