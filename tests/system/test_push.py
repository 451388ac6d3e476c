"""A registry in its own right: real clients push and pull; uploads through the front door."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore import layout
from datastore.refs import Digest
from tests import images
from tests.images import Family, filler
from tests.system import processes
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.images import KB, MB, of_size, scaled, two_platforms
from tests.system.pulls import blob_path, manifest_path, pull, pull_blob
from tests.system.pushes import (
    ALLOWED,
    as_folder,
    begin,
    push,
    push_blob,
    push_index,
    put_manifest,
    repeated,
    stream,
    tags,
)
from tests.system.registries import Registry
from tests.system.waiting import eventually

LARGE = scaled(128 * MB, 1024 * MB)
_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """One appliance for pushes of this module; clients may delete."""
    setup = Setup({"one.test": {"url": public.url}}, ALLOWED, {"ENTREPOT_WORKERS": "2"})
    with Appliance(tmp_path_factory.mktemp("hosting"), setup) as appliance:
        yield appliance


# ---- real clients


@pytest.mark.parametrize("family", ["oci", "docker"])
def test_skopeo_pushes_and_podman_pulls(
    hosting: Appliance, clients: Clients, tmp_path: Path, family: Family
) -> None:
    """Byte for byte, whether OCI or Docker."""
    image = of_size(200 * KB, 400, family=family)
    target = f"{hosting.door.netloc}/team/{family}:v1"
    source = as_folder(image, tmp_path / "image")

    plain = ["--dest-tls-verify=false", "--preserve-digests"]
    done = clients.skopeo("copy", *plain, source, f"docker://{target}")

    assert done.returncode == 0, done.stderr
    assert clients.pull(target) == Digest.of(image.config).hex
    assert pull(hosting.door, f"team/{family}", "v1")[0] == image.digest


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_podman_pushes_what_it_pulled(hosting: Appliance, clients: Clients, form: str) -> None:
    """In either format; another podman, without it, pulls the same image."""
    assert push(hosting.door, f"team/base-{form}", "v1", of_size(100 * KB, 410))
    own = clients.pull(f"{hosting.door.netloc}/team/base-{form}:v1")
    target = f"{hosting.door.netloc}/team/copy-{form}:v2"

    done = clients.podman("push", "--tls-verify=false", f"--format={form}", own, target)

    assert done.returncode == 0, done.stderr
    clients.forget()
    assert clients.pull(target) == own


def test_buildah_pushes_what_it_built(hosting: Appliance, clients: Clients, tmp_path: Path) -> None:
    """A layer that is made on the way, so nobody knows its length before."""
    (tmp_path / "program").write_bytes(filler(300 * KB, 420))
    target = f"{hosting.door.netloc}/team/built:v1"
    container = clients.buildah("from", "scratch").stdout.strip()
    clients.buildah("copy", container, str(tmp_path / "program"), "/program")
    built = clients.buildah("commit", "--quiet", container).stdout.strip()

    clients.buildah("push", "--tls-verify=false", built, f"docker://{target}")

    clients.buildah("rm", container)
    clients.forget()
    assert clients.pull(target) == built


@pytest.mark.parametrize("family", ["oci", "docker"])
def test_skopeo_copies_an_index_with_its_images(
    hosting: Appliance, clients: Clients, family: Family
) -> None:
    """From one name to another: its blobs are mounted, not sent."""
    children = two_platforms(430, family)
    index = push_index(hosting.door, f"team/many-{family}", "v1", children, family)
    base = f"docker://{hosting.door.netloc}/team"
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]

    done = clients.skopeo(
        "copy", "--all", *plain, f"{base}/many-{family}:v1", f"{base}/more-{family}:v2"
    )

    assert done.returncode == 0, done.stderr
    assert pull(hosting.door, f"team/more-{family}", "v2")[0] == index


def test_a_signature_is_attached_and_found(hosting: Appliance) -> None:
    """As oras and cosign do it, by plain HTTP: artifact, empty config, subject, referrers."""
    door, name = hosting.door, "team/signed"
    image = of_size(KB, 440)
    assert push(door, name, "v1", image)
    signature = images.artifact(image, b'{"critical":{}}', _SIGNATURE)
    for blob in signature.blobs:
        push_blob(door, name, blob)

    put = put_manifest(door, name, signature.digest, signature.manifest, signature.media_type)

    assert put.headers["oci-subject"] == str(image.digest)
    kind = _SIGNATURE.replace("+", "%2B")
    found = door.get(f"/v2/{name}/referrers/{image.digest}?artifactType={kind}")
    assert found.headers["oci-filters-applied"] == "artifactType"
    (entry,) = json.loads(found.body)["manifests"]
    assert entry["digest"] == str(signature.digest)
    assert pull(door, name, entry["digest"])[0] == signature.digest


# ---- through the front door


def test_an_upload_goes_over_both_workers(hosting: Appliance) -> None:
    """In chunks, by new connections, each to whichever worker is free; a mistake ends nothing."""
    door, content = hosting.door, filler(3 * MB, 450)
    where, start = begin(door, "team/chunks"), 0
    while start < len(content):
        chunk = content[start : start + 300 * KB]
        late = door.ask("PATCH", where, body=chunk, headers=_span(start + 1, chunk))
        assert (late.status, late.code) == (416, "BLOB_UPLOAD_INVALID")
        taken = door.ask("PATCH", where, body=chunk, headers=_span(start, chunk))
        start += len(chunk)
        assert (taken.status, taken.headers["range"]) == (202, f"0-{start - 1}")
        where = taken.headers["location"]

    done = door.ask("PUT", f"{where}?digest={Digest.of(content)}")

    assert done.status == 201
    assert pull_blob(door, "team/chunks", Digest.of(content)) == content
    counted = {"method": "patch", "handler": "blob_upload"}
    eventually(
        lambda: hosting.metric("registry_http_requests_total", code="202", **counted) >= 11,
        what="the chunks are counted",
    )


def test_a_broken_upload_goes_on_from_where_it_broke(hosting: Appliance) -> None:
    """What HAProxy had passed on is kept; GET says how much that is."""
    door, content = hosting.door, filler(4 * MB, 460)
    where = begin(door, "team/broken")
    file = _file(hosting, where)
    with socket.create_connection(("127.0.0.1", door.port)) as wire:
        head = f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        wire.sendall(head.encode() + content[: 3 * MB])
        eventually(lambda: file.stat().st_size > MB, what="some of it has come in")
    eventually(lambda: processes.flock_holder(file) is None, what="the broken request is over")

    start = _offset(door.get(where).headers["range"])
    rest = door.ask("PATCH", where, body=content[start:], headers=_span(start, content[start:]))
    done = door.ask("PUT", f"{where}?digest={Digest.of(content)}")

    assert MB < start <= 3 * MB
    assert (rest.status, done.status) == (202, 201)
    assert pull_blob(door, "team/broken", Digest.of(content)) == content


def test_a_killed_worker_loses_no_byte_of_an_upload(hosting: Appliance) -> None:
    """Another goes on where the file ends, and no lock is left."""
    door, content = hosting.door, filler(2 * MB, 470)
    where = begin(door, "team/killed")
    with socket.create_connection(("127.0.0.1", door.port)) as wire:
        head = f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        wire.sendall(head.encode() + content[:MB])
        file = _file(hosting, where)
        writer = eventually(lambda: processes.flock_holder(file), what="a worker writes")
        eventually(lambda: file.stat().st_size == MB, what="all of it has come in")
        os.kill(writer, 9)
        eventually(lambda: processes.flock_holder(file) != writer, what="it is dead")

    start = _offset(door.get(where).headers["range"])
    done = door.ask("PUT", f"{where}?digest={Digest.of(content)}", body=content[start:])

    assert start == MB
    assert done.status == 201
    assert pull_blob(door, "team/killed", Digest.of(content)) == content
    eventually(lambda: len(hosting.workers()) == 2, what="the killed worker is back")


def test_a_large_layer_costs_its_worker_little_memory(hosting: Appliance) -> None:
    """In one request and as a stream: under 60 MB, whatever its size."""
    door, piece = hosting.door, filler(MB, 480)
    digest = repeated(piece, LARGE // MB)
    pieces = (piece for _ in range(LARGE // MB))
    headers = {"Content-Length": str(LARGE)}

    where = begin(door, "team/large")
    done = door.ask("PUT", f"{where}?digest={digest}", body=pieces, headers=headers)
    where = begin(door, "team/larger")
    taken = stream(door, "PATCH", where, (piece for _ in range(LARGE // MB)))
    ended = door.ask("PUT", f"{where}?digest={digest}")

    assert (done.status, taken.status, ended.status) == (201, 202, 201)
    assert door.head(blob_path("team/large", digest)).headers["content-length"] == str(LARGE)
    assert max(_peak(each.pid) for each in hosting.workers()) < 60 * MB


def test_deletes_go_through_the_front_door(hosting: Appliance) -> None:
    """Tag, manifest, blob: each is gone at once, for both workers."""
    door, image = hosting.door, of_size(KB, 490)
    for tag in ("v1", "v2"):
        assert push(door, "team/gone", tag, image)
    layer = Digest.of(image.layers[0])

    for path in ("manifests/v1", f"manifests/{image.digest}", f"blobs/{layer}"):
        assert door.ask("DELETE", f"/v2/team/gone/{path}").status == 202
        for _ in range(4):
            assert door.get(f"/v2/team/gone/{path}").status == 404
    assert tags(door, "team/gone") == []


def test_a_moved_tag_is_seen_at_once(hosting: Appliance) -> None:
    """By every worker, and from no memory."""
    door = hosting.door
    for number in range(6):
        image = of_size(KB, 500 + number)
        assert push(door, "team/moving", "latest", image)
        for _ in range(3):
            seen = door.head(manifest_path("team/moving", "latest"))
            assert seen.headers["docker-content-digest"] == str(image.digest)


def test_a_push_that_does_not_fit_is_refused_and_pulls_go_on(
    start: Start, clients: Clients, tmp_path: Path
) -> None:
    """507 DENIED with both sizes at the first chunk; the client says so, and nothing stays."""
    appliance = start(Setup(environment={"CLEANER_MAXSIZE": "20M"}))
    door, small = appliance.door, of_size(MB, 510)
    assert push(door, "team/small", "v1", small)
    source = as_folder(of_size(40 * MB, 511), tmp_path / "large")

    pushed = clients.skopeo(
        "copy", "--dest-tls-verify=false", source, f"docker://{door.netloc}/team/large:v1"
    )
    where = begin(door, "team/large")
    refused = door.ask("PATCH", where, body=bytes(40_000_000))

    assert pushed.returncode != 0
    assert "507" in pushed.stderr
    assert (refused.status, refused.code) == (507, "DENIED")
    detail = json.loads(refused.body)["errors"][0]["detail"]
    assert detail["size"] == 40_000_000
    assert detail["room"] < 20 * MB
    assert list((appliance.state / layout.UPLOADS).iterdir()) == []
    assert pull(door, "team/small", "v1")[0] == small.digest


def _span(start: int, chunk: bytes) -> dict[str, str]:
    return {"Content-Range": f"{start}-{start + len(chunk) - 1}"}


def _file(appliance: Appliance, where: str) -> Path:
    """Return the file of an upload."""
    (file,) = (appliance.state / layout.UPLOADS).glob(f"{where.rpartition('/')[2]}.*")
    return file


def _offset(header: str) -> int:
    return int(header.removeprefix("0-")) + 1


def _peak(pid: int) -> int:
    """Return the most memory that a process ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * KB
