"""Tests uploads, deletions and lists of an appliance with two workers."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests import images
from tests.images import filler
from tests.system import processes
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.images import KB, MB, of_size, scaled
from tests.system.pulls import blob_path, manifest_path, pull, pull_blob
from tests.system.pushes import (
    begin,
    push,
    push_blob,
    repeated,
    stream,
    tags,
)
from tests.system.waiting import eventually

LARGE = scaled(128 * MB, 1024 * MB)
_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"


def test_an_upload_continues_in_either_worker(hosting: Appliance) -> None:
    """The chunks of an upload can reach either worker, over new connections."""
    http, content = hosting.http, filler(3 * MB, 450)
    where, start = begin(http, "team/chunks"), 0
    while start < len(content):
        chunk = content[start : start + 300 * KB]
        late = http.request("PATCH", where, body=chunk, headers=_span(start + 1, chunk))
        assert (late.status, late.code) == (416, "BLOB_UPLOAD_INVALID")
        taken = http.request("PATCH", where, body=chunk, headers=_span(start, chunk))
        start += len(chunk)
        assert (taken.status, taken.headers["range"]) == (202, f"0-{start - 1}")
        where = taken.headers["location"]

    done = http.request("PUT", f"{where}?digest={Digest.of(content)}")

    assert done.status == 201
    assert pull_blob(http, "team/chunks", Digest.of(content)) == content
    counted = {"method": "patch", "handler": "blob_upload"}
    eventually(
        lambda: hosting.metric("registry_http_requests_total", code="202", **counted) >= 11,
        what="the chunks are counted",
    )


def test_an_interrupted_upload_continues_at_its_end(hosting: Appliance) -> None:
    """An interrupted upload continues after the bytes that HAProxy had passed on to the worker.

    A GET of the upload returns the number of these bytes to the client.
    """
    http, content = hosting.http, filler(4 * MB, 460)
    where = begin(http, "team/broken")
    file = _file(hosting, where)
    with socket.create_connection(("127.0.0.1", http.port)) as wire:
        head = f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        wire.sendall(head.encode() + content[: 3 * MB])
        eventually(lambda: file.stat().st_size > MB, what="1 MB of the upload has arrived")
    eventually(lambda: processes.flock_holder(file) is None, what="the interrupted request is over")

    start = _offset(http.get(where).headers["range"])
    rest = http.request("PATCH", where, body=content[start:], headers=_span(start, content[start:]))
    done = http.request("PUT", f"{where}?digest={Digest.of(content)}")

    assert MB < start <= 3 * MB
    assert (rest.status, done.status) == (202, 201)
    assert pull_blob(http, "team/broken", Digest.of(content)) == content


def test_a_killed_worker_loses_no_byte_of_an_upload(hosting: Appliance) -> None:
    """After a worker was killed, the other worker continues the upload at the end of its file.

    When the worker exits, the kernel releases the worker's lock on this file.
    """
    http, content = hosting.http, filler(2 * MB, 470)
    where = begin(http, "team/killed")
    with socket.create_connection(("127.0.0.1", http.port)) as wire:
        head = f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        wire.sendall(head.encode() + content[:MB])
        file = _file(hosting, where)
        writer = eventually(lambda: processes.flock_holder(file), what="a worker locks the upload")
        eventually(lambda: file.stat().st_size == MB, what="all sent bytes have arrived")
        os.kill(writer, 9)
        eventually(lambda: processes.flock_holder(file) != writer, what="the worker has exited")

    start = _offset(http.get(where).headers["range"])
    done = http.request("PUT", f"{where}?digest={Digest.of(content)}", body=content[start:])

    assert start == MB
    assert done.status == 201
    assert pull_blob(http, "team/killed", Digest.of(content)) == content
    eventually(lambda: len(hosting.workers()) == 2, what="the killed worker is back")


def test_a_large_layer_uses_little_memory_of_its_worker(hosting: Appliance) -> None:
    """A worker needs less than 60 MB for a large upload, with a Content-Length or in chunks."""
    http, piece = hosting.http, filler(MB, 480)
    digest = repeated(piece, LARGE // MB)
    pieces = (piece for _ in range(LARGE // MB))
    headers = {"Content-Length": str(LARGE)}

    where = begin(http, "team/large")
    done = http.request("PUT", f"{where}?digest={digest}", body=pieces, headers=headers)
    where = begin(http, "team/larger")
    taken = stream(http, "PATCH", where, (piece for _ in range(LARGE // MB)))
    ended = http.request("PUT", f"{where}?digest={digest}")

    assert (done.status, taken.status, ended.status) == (201, 202, 201)
    assert http.head(blob_path("team/large", digest)).headers["content-length"] == str(LARGE)
    assert max(_peak(each.pid) for each in hosting.workers()) < 60 * MB


def test_deletes_are_visible_at_once(hosting: Appliance) -> None:
    """A deleted tag, manifest or blob immediately gets 404 from both workers."""
    http, image = hosting.http, of_size(KB, 490)
    for tag in ("v1", "v2"):
        assert push(http, "team/gone", tag, image)
    layer = Digest.of(image.layers[0])

    for path in ("manifests/v1", f"manifests/{image.digest}", f"blobs/{layer}"):
        assert http.request("DELETE", f"/v2/team/gone/{path}").status == 202
        for _ in range(4):
            assert http.get(f"/v2/team/gone/{path}").status == 404
    assert tags(http, "team/gone") == []


def test_a_running_pull_survives_the_delete(hosting: Appliance) -> None:
    """A running pull survives the deletion of its blob, because the worker has opened the file."""
    http, content = hosting.http, filler(8 * MB, 520)
    digest = Digest.of(content)
    assert push_blob(http, "team/pulled", content).status == 201

    with http.open("GET", blob_path("team/pulled", digest)) as response:
        received = response.read(MB)
        assert http.request("DELETE", blob_path("team/pulled", digest)).status == 202
        received += response.read()

    assert received == content
    assert http.get(blob_path("team/pulled", digest)).status == 404


def test_a_moved_tag_is_visible_at_once(hosting: Appliance) -> None:
    """After a push has moved a tag, every worker immediately serves the new manifest."""
    http = hosting.http
    for number in range(6):
        image = of_size(KB, 500 + number)
        assert push(http, "team/moving", "latest", image)
        for _ in range(3):
            seen = http.head(manifest_path("team/moving", "latest"))
            assert seen.headers["docker-content-digest"] == str(image.digest)


def test_one_appliance_can_pull_through_another(hosting: Appliance, start: Start) -> None:
    """An appliance can be the upstream of another appliance.

    Pages of tags, manifests, sha512, ranges and referrers work through both appliances.
    """
    http, name = hosting.http, "team/through"
    image = of_size(64 * KB, 540)
    content = filler(10 * KB, 541)
    for tag in ("v1", "v2", "v3"):
        assert push(http, name, tag, image)
    signature = images.artifact(image, b"signed", _SIGNATURE)
    assert push(http, name, "signature", signature)
    digest = Digest.of(content, "sha512")
    http.request("PUT", f"{begin(http, name)}?digest={digest}", body=content)
    url = f"http://{http.netloc}"
    near = start(Setup({"far.test": {"url": url}})).http
    name = f"far.test/{name}"

    assert pull(near, name, "v1")[0] == image.digest
    assert tags(near, name) == ["signature", "v1", "v2", "v3"]
    assert json.loads(near.get(f"/v2/{name}/tags/list?n=1&last=v1").body)["tags"] == ["v2"]
    part = near.get(blob_path(name, digest), Range="bytes=500-1499")
    assert (part.status, part.body) == (206, content[500:1500])
    assert near.get(blob_path(name, digest)).headers["docker-content-digest"] == str(digest)
    found = near.get(f"/v2/{name}/referrers/{image.digest}")
    (entry,) = json.loads(found.body)["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (str(signature.digest), _SIGNATURE)
    none = near.get(f"/v2/{name}/referrers/{Digest.of(b'unknown')}")
    assert (none.status, json.loads(none.body)["manifests"]) == (200, [])


def _span(start: int, chunk: bytes) -> dict[str, str]:
    return {"Content-Range": f"{start}-{start + len(chunk) - 1}"}


def _file(appliance: Appliance, where: str) -> Path:
    """Return the file with the received bytes of the upload at the URL *where*."""
    (file,) = (appliance.state / layout.UPLOADS).glob(f"{where.rpartition('/')[2]}.*")
    return file


def _offset(header: str) -> int:
    return int(header.removeprefix("0-")) + 1


def _peak(pid: int) -> int:
    """Return the largest resident memory of the process so far (bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * KB
