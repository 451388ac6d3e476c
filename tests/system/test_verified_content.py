"""If another program changes a file while a worker writes it, no wrong content stays stored.

`make soak` tests two sizes and two moments of the change. By default there is one size, which is
larger than the part that a worker buffers in memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.datadir import spool_file
from tests.system.images import FULL
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

MIB = 1024 * 1024
SIZES = [8 * MIB, 24 * MIB] if FULL else [6 * MIB]
MOMENTS = [0.25, 0.75] if FULL else [0.5]
WITHIN_S = 60.0
NAME = "lib/app"


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flipped(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))


def _zeroed(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.write(bytes(100_000))


CASES = [
    pytest.param(size, moment, damage, id=f"{size // MIB}-{moment}-{damage.__name__.strip('_')}")
    for size in SIZES
    for moment in MOMENTS
    for damage in (_cut, _flipped, _zeroed)
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run one upstream for all tests of this file."""
    with FakeUpstream() as found:
        yield found


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream
) -> Iterator[Appliance]:
    """Run one appliance in front of the upstream; the appliance also accepts pushes."""
    setup = Setup({"fake.test": {"url": upstream.url}}, environment={"ENTREPOT_PREFETCH": "0"})
    with Appliance(tmp_path_factory.mktemp("verified"), setup) as running:
        yield running


def _is_right_or_gone(appliance: Appliance, digest: Digest, content: bytes) -> bool:
    path = appliance.data / layout.blob(digest)
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return True


def _fetch(appliance: Appliance, digest: Digest) -> bytes | None:
    """Return the body of a blob, or None if the response was refused or cut off."""
    with suppress(HTTPException, OSError):
        response = appliance.http.get(f"/v2/fake.test/{NAME}/blobs/{digest}")
        return response.body if response.status == 200 else None
    return None


@pytest.mark.parametrize(("size", "moment", "damage"), CASES)
def test_wrong_content_of_a_changed_spool_file_does_not_stay_stored(
    appliance: Appliance,
    upstream: FakeUpstream,
    size: int,
    moment: float,
    damage: Callable[[Path], None],
) -> None:
    """If a spool file is changed during the download, no wrong content stays stored.

    A shortened file never leads to a complete response with wrong bytes.
    """
    seed = hash((size, moment, damage.__name__)) % 2**32
    content = filler(size, seed)
    digest = upstream.add_blob(NAME, content)
    rest, at = threading.Event(), int(size * moment)
    upstream.misbehave(str(digest), times=1, hold=rest, hold_after=at)
    got: list[bytes | None] = []
    client = threading.Thread(target=lambda: got.append(_fetch(appliance, digest)))
    client.start()
    spool = spool_file(appliance.state, "fake.test", digest)
    eventually(lambda: spool.exists() and spool.stat().st_size >= at, what="half the blob arrived")

    damage(spool)
    rest.set()
    client.join()

    (body,) = got
    assert body is None or len(body) == size
    assert damage is not _cut or body in (None, content)
    eventually(
        lambda: _is_right_or_gone(appliance, digest, content),
        what="no wrong content is stored",
        within=WITHIN_S,
    )
    assert _fetch(appliance, digest) == content
    assert (appliance.data / layout.blob(digest)).read_bytes() == content


@pytest.mark.parametrize(("size", "moment", "damage"), CASES)
def test_wrong_content_of_a_changed_upload_file_does_not_stay_stored(
    appliance: Appliance, size: int, moment: float, damage: Callable[[Path], None]
) -> None:
    """If the file of an upload is shortened, the push gets no 201; other damage is found later."""
    content = filler(size, hash((moment, size, damage.__name__, "push")) % 2**32)
    digest = Digest.of(content)
    before = appliance.metric("entrepot_damaged_files_total", found="commit")
    where = appliance.http.request("POST", "/v2/team/app/blobs/uploads/").headers["location"]
    path = where.partition("://")[2].partition("/")[2] if "://" in where else where.lstrip("/")
    folder = appliance.state / layout.UPLOADS
    at = int(size * moment)

    def pieces() -> Iterator[bytes]:
        yield content[:at]
        # the folder also has files with the length and the digest of the upload
        (file,) = [each for each in folder.iterdir() if each.suffix not in (".digest", ".size")]
        eventually(lambda: file.stat().st_size >= at, what="half the blob arrived")
        damage(file)
        yield content[at:]

    status = 0
    with suppress(HTTPException, OSError):
        headers = {"Content-Length": str(size)}
        url = f"/{path}?digest={digest}"
        status = appliance.http.request("PUT", url, headers=headers, body=pieces()).status

    assert damage is not _cut or status != 201
    eventually(
        lambda: _is_right_or_gone(appliance, digest, content),
        what="no wrong content is stored",
        within=WITHIN_S,
    )
    if status == 201:
        kept = appliance.data / layout.quarantined(digest)
        eventually(kept.exists, what="the damaged file is kept")
        eventually(
            lambda: appliance.metric("entrepot_damaged_files_total", found="commit") > before,
            what="the metric counts the damaged file",
        )


def test_verify_works_with_and_without_a_running_appliance(
    appliance: Appliance, upstream: FakeUpstream
) -> None:
    """`entrepot verify` finds a flipped bit and exits with 1; the next pull gets right content.

    The command works with and without a running appliance.
    """
    content = filler(200_000, 77)
    digest = upstream.add_blob(NAME, content)
    assert _fetch(appliance, digest) == content
    _flipped(appliance.data / layout.blob(digest))

    done = appliance.entrepot("verify", "--json")

    assert done.returncode == 1, done.stderr
    assert f'"{digest}"' in done.stdout
    assert _fetch(appliance, digest) == content
    appliance.stop()
    try:
        assert "in quarantine" in appliance.entrepot("verify").stdout
    finally:
        appliance.start()
