"""An appliance with `storage.azure` stores its content in a container of Azurite."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from entrepot.datastore.drivers.objects.setup import parts_of
from entrepot.datastore.refs import Digest
from tests.azure_storage import ACCOUNT, KEY, always_owned, parameters
from tests.azurite import Azurite
from tests.system.appliance import Appliance, Setup
from tests.system.driver_checks import CHECKS, SHORT, SMALL, Check
from tests.system.http_client import HttpClient
from tests.system.images import KB, MB, of_size
from tests.system.pulls import blob_path, pull, pull_blob
from tests.system.pushes import ALLOWED, push, push_blob, push_soon, tags
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

# These tests run in `make soak` only: Azurite's npm package has 190 MB, and each start takes 2 s.
pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Run Azurite for all tests of this file."""
    with Azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream for all tests of this file."""
    with FakeUpstream() as fake:
        yield fake


def _keys(azurite: Azurite, **others: object) -> dict[str, Any]:
    return {
        "accountname": ACCOUNT,
        "accountkey": KEY,
        "container": "images",
        "serviceurl": azurite.url,
        "rootdirectory": "/registry",
        **others,
    }


def _setup(azurite: Azurite, upstream: FakeUpstream, data: Path, **others: object) -> Setup:
    return Setup(
        {"one.test": {"url": upstream.url}},
        {"storage": {**ALLOWED["storage"], "azure": _keys(azurite, **others), "redirect": SHORT}},
        {**SMALL, "REGISTRYDIR": "", "ENTREPOT_STATEDIR": str(data / "entrepot")},
        data=data,
    )


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, azurite: Azurite, upstream: FakeUpstream
) -> Iterator[Appliance]:
    """Run one appliance that has two workers and stores its content in the container."""
    folder = tmp_path_factory.mktemp("azure")
    with Appliance(folder, _setup(azurite, upstream, folder / "data")) as running:
        yield running


@pytest.mark.parametrize("check", CHECKS, ids=lambda each: str(each.__name__))
def test_clients_are_served_from_a_container(
    appliance: Appliance, upstream: FakeUpstream, check: Check
) -> None:
    """Each check of the storage drivers passes for an appliance with content in a container."""
    check(appliance, upstream)


def test_a_large_layer_is_sent_in_blocks(appliance: Appliance) -> None:
    """A layer of 15 MB is sent to Azure in two blocks, and is pulled with the same bytes."""
    made = of_size(15 * MB, 700)

    def is_pushed() -> bool:
        return push(appliance.http, "team/large", "v1", made)

    eventually(is_pushed, what="the cleaner has made space for the push", within=60)
    assert pull(appliance.http, "team/large", "v1")[0] == made.digest


def test_a_client_is_redirected_to_one_blob(appliance: Appliance, azurite: Azurite) -> None:
    """A redirect's signed URL is valid for one blob and its ranges, not for another blob."""
    content, other = (of_size(200 * KB, seed).layers[0] for seed in (705, 706))
    for each in (content, other):
        assert push_blob(appliance.http, "team/redirected", each).status == 201
    path = blob_path("team/redirected", Digest.of(content))

    found = appliance.http.get(path, Range="bytes=1000-1999")

    assert found.status == 307
    url = urlsplit(found.headers["location"])
    assert f"{url.scheme}://{url.netloc}" == f"http://127.0.0.1:{azurite.port}"
    client = HttpClient(azurite.port, host="127.0.0.1")
    part = client.get(f"{url.path}?{url.query}", Range="bytes=1000-1999")
    assert (part.status, part.body) == (206, content[1000:2000])
    wrong, right = Digest.of(other).hex, Digest.of(content).hex
    moved = url.path.replace(right[:2] + "/" + right, wrong[:2] + "/" + wrong)
    assert client.get(f"{moved}?{url.query}").status == 403


def test_check_tries_each_request(appliance: Appliance) -> None:
    """`entrepot check` sends each kind of request to Azure, and prints the time of each request.

    One of these requests is a GET with a signed URL.
    """
    checked = appliance.entrepot("check")

    assert checked.returncode == 0, checked.stdout
    for name in ("list", "conditional put", "get with range", "signed URL", "delete"):
        assert name in checked.stdout


def test_content_survives_a_restart_and_a_lost_index(
    appliance: Appliance, upstream: FakeUpstream
) -> None:
    """After the loss of the state directory, a restarted appliance serves and stores content.

    Hosted tags are still listed.
    """
    made = of_size(200 * KB, 710)
    push_soon(appliance.http, "team/rebuilt", "v1", made)
    assert appliance.stop() == 0
    shutil.rmtree(appliance.state)

    appliance.start()

    assert pull(appliance.http, "team/rebuilt", "v1")[0] == made.digest
    assert tags(appliance.http, "team/rebuilt") == ["v1"]
    upstream.put_image("after", "v1", of_size(100 * KB, 711))

    def is_stored() -> bool:
        pull(appliance.http, "one.test/after", "v1")
        upstream.forget()
        pull(appliance.http, "one.test/after", "v1")
        return not any("/blobs/" in each.path for each in upstream.requests)

    eventually(is_stored, what="downloads are stored after the rebuild", within=60)


def test_a_second_appliance_only_reads(
    appliance: Appliance, azurite: Azurite, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A second appliance only reads from a container that another appliance already owns."""
    made = of_size(200 * KB, 720)
    push_soon(appliance.http, "team/two", "v1", made)
    with Appliance(tmp_path / "second", _setup(azurite, upstream, tmp_path / "data")) as second:
        assert "another appliance owns the bucket" in second.output()
        assert pull(second.http, "team/two", "v1")[0] == made.digest
        assert not push(second.http, "team/two", "v2", of_size(50 * KB, 721))
    push_soon(appliance.http, "team/two", "v3", of_size(50 * KB, 722))


@pytest.mark.parametrize("size", [100 * KB, 12 * MB], ids=["short", "in blocks"])
def test_a_push_replaces_the_append_blob_of_docker_distribution(
    appliance: Appliance, azurite: Azurite, size: int
) -> None:
    """A push replaces an append blob that docker distribution wrote.

    Azure requires that the append blob is deleted first.
    """
    content = of_size(size, 730).layers[0]
    digest = Digest.of(content)
    name = f"registry/docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"
    assert azurite.request("PUT", f"/images/{name}", x_ms_blob_type="AppendBlob") == 201

    def is_pushed() -> bool:
        return push_blob(appliance.http, "team/append", content).status == 201

    eventually(is_pushed, what="the cleaner has made space for the push", within=60)
    assert pull_blob(appliance.http, "team/append", digest) == content


def test_content_that_is_set_aside_is_copied_before_it_is_removed(
    azurite: Azurite, tmp_path: Path
) -> None:
    """The driver moves damaged content with a read and a write, not with Azure's copy request.

    Azure can respond to a copy request before the copy is complete. If the driver deleted the
    source after this response, the copy would fail.
    """
    storage = always_owned(azurite.url, tmp_path, rootdirectory="aside")
    content = of_size(12 * MB, 740).layers[0]
    file = tmp_path / "file"
    file.write_bytes(content)
    storage.commit_file(file, "a/damaged")

    with storage.open("a/damaged") as opened:
        assert storage.set_aside("a/damaged", "b/aside", opened)

    assert storage.read("b/aside") == content
    assert storage.stat("a/damaged") is None


def test_a_disk_moves_to_a_container(
    azurite: Azurite, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """`entrepot migrate` copies an image from a disk to a container; a new appliance serves it."""
    made = of_size(12 * MB, 760)
    disk = Setup({"one.test": {"url": upstream.url}}, ALLOWED)
    with Appliance(tmp_path / "disk", disk) as old:
        assert push(old.http, "team/moved", "v1", made)
    setup = _setup(azurite, upstream, tmp_path / "data", rootdirectory="/moved")
    setup.settings["storage"]["statedir"] = str(tmp_path / "data/entrepot")
    new = Appliance(tmp_path / "new", setup)

    moved = new.entrepot("migrate", "--json", str(old.data))

    assert moved.returncode == 0, moved
    with new:
        assert pull(new.http, "team/moved", "v1")[0] == made.digest


_OTHER = "c2VzYW1l"


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"accountkey": _OTHER}, "correct storage.azure.accountkey"),
        ({"container": "absent"}, "create the container, or correct storage.azure.container"),
        ({"container": "No"}, "correct storage.azure.container"),
    ],
    ids=["key", "container", "name"],
)
def test_a_container_that_refuses_requests_is_one_line(
    azurite: Azurite,
    upstream: FakeUpstream,
    tmp_path: Path,
    wrong: dict[str, object],
    expected: str,
) -> None:
    """If the container refuses requests, `serve` and `check` print one line and exit with 2."""
    _assert_refused(_setup(azurite, upstream, tmp_path / "data", **wrong), tmp_path, expected)


def _assert_refused(setup: Setup, folder: Path, expected: str) -> None:
    appliance = Appliance(folder / "appliance0", setup)
    assert appliance.launch().wait(timeout=120) == 2
    lines = [line for line in appliance.output().splitlines() if "storage.azure" in line]
    assert len(lines) == 1, appliance.output()
    assert expected in lines[0]
    checked = appliance.entrepot("check")
    assert checked.returncode == 2
    assert expected in checked.stdout


@pytest.mark.parametrize("root", ["", "/registry"])
def test_names_that_begin_with_a_slash_are_not_taken_for_an_empty_container(
    upstream: FakeUpstream, tmp_path: Path, root: str
) -> None:
    """If all names in a container begin with a slash, the appliance refuses to start.

    Docker distribution 2 wrote such names, which the appliance cannot read. After the blobs are
    copied to names without the slash, the appliance starts.
    """
    link = "docker/registry/v2/repositories/a/_layers/sha256/0/link"
    with Azurite(tmp_path / "azurite") as azurite:
        assert azurite.request("PUT", f"/images//{link}", x_ms_blob_type="BlockBlob") == 201
        setup = _setup(azurite, upstream, tmp_path / "data", rootdirectory=root)
        _assert_refused(setup, tmp_path, "copy them to names without the slash")

        client = parts_of(
            "azure", parameters(azurite.url, tmp_path, rootdirectory=root), lambda: 0.0
        ).client
        client.put(link, b"copied")
        with Appliance(tmp_path / "copied", setup):
            pass
