"""Real clients push to hosted repositories and pull from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests import images
from tests.images import Family, filler
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.images import KB, MB, of_size, two_platforms
from tests.system.pulls import pull
from tests.system.pushes import (
    as_folder,
    begin,
    push,
    push_blob,
    push_index,
    put_manifest,
)
from tests.system.registries import Registry

_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"


@pytest.mark.parametrize("family", ["oci", "docker"])
def test_skopeo_pushes_and_podman_pulls(
    hosting: Appliance, clients: Clients, tmp_path: Path, family: Family
) -> None:
    """Podman pulls the bytes that skopeo has pushed, in OCI and in Docker format."""
    image = of_size(200 * KB, 400, family=family)
    target = f"{hosting.http.netloc}/team/{family}:v1"
    source = as_folder(image, tmp_path / "image")

    plain = ["--dest-tls-verify=false", "--preserve-digests"]
    done = clients.skopeo("copy", *plain, source, f"docker://{target}")

    assert done.returncode == 0, done.stderr
    assert clients.pull(target) == Digest.of(image.config).hex
    assert pull(hosting.http, f"team/{family}", "v1")[0] == image.digest


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_podman_pushes_a_pulled_image(hosting: Appliance, clients: Clients, form: str) -> None:
    """Podman can push an image in OCI and Docker format, and can pull it again afterwards."""
    assert push(hosting.http, f"team/base-{form}", "v1", of_size(100 * KB, 410))
    own = clients.pull(f"{hosting.http.netloc}/team/base-{form}:v1")
    target = f"{hosting.http.netloc}/team/copy-{form}:v2"

    done = clients.podman("push", "--tls-verify=false", f"--format={form}", own, target)

    assert done.returncode == 0, done.stderr
    clients.forget()
    assert clients.pull(target) == own


def test_buildah_pushes_a_built_image(hosting: Appliance, clients: Clients, tmp_path: Path) -> None:
    """Buildah pushes an image that it has built, and sends its layer without a Content-Length."""
    (tmp_path / "program").write_bytes(filler(300 * KB, 420))
    target = f"{hosting.http.netloc}/team/built:v1"
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
    """Skopeo copies an index with all its images to another repository of the appliance."""
    children = two_platforms(430, family)
    index = push_index(hosting.http, f"team/many-{family}", "v1", children, family)
    base = f"docker://{hosting.http.netloc}/team"
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]

    done = clients.skopeo(
        "copy", "--all", *plain, f"{base}/many-{family}:v1", f"{base}/more-{family}:v2"
    )

    assert done.returncode == 0, done.stderr
    assert pull(hosting.http, f"team/more-{family}", "v2")[0] == index


def test_a_signature_is_attached_and_found(hosting: Appliance) -> None:
    """A signature can be pushed and found with the requests that oras and cosign send.

    The signature is an artifact with an empty config and a subject. The list of the image's
    referrers contains the signature.
    """
    http, name = hosting.http, "team/signed"
    image = of_size(KB, 440)
    assert push(http, name, "v1", image)
    signature = images.artifact(image, b'{"critical":{}}', _SIGNATURE)
    for blob in signature.blobs:
        push_blob(http, name, blob)

    put = put_manifest(http, name, signature.digest, signature.manifest, signature.media_type)

    assert put.headers["oci-subject"] == str(image.digest)
    kind = _SIGNATURE.replace("+", "%2B")
    found = http.get(f"/v2/{name}/referrers/{image.digest}?artifactType={kind}")
    assert found.headers["oci-filters-applied"] == "artifactType"
    (entry,) = json.loads(found.body)["manifests"]
    assert entry["digest"] == str(signature.digest)
    assert pull(http, name, entry["digest"])[0] == signature.digest


def test_a_push_that_does_not_fit_is_refused_and_pulls_continue(
    start: Start, clients: Clients, tmp_path: Path
) -> None:
    """A layer larger than the cap gets 507 DENIED at the first chunk of its upload.

    The error has the size of the chunk and the available space; skopeo's message has the status.
    Pulls continue, and no part of the upload stays on the disk.
    """
    appliance = start(Setup(environment={"CLEANER_MAXSIZE": "20M"}))
    http, small = appliance.http, of_size(MB, 510)
    assert push(http, "team/small", "v1", small)
    source = as_folder(of_size(40 * MB, 511), tmp_path / "large")

    pushed = clients.skopeo(
        "copy", "--dest-tls-verify=false", source, f"docker://{http.netloc}/team/large:v1"
    )
    where = begin(http, "team/large")
    refused = http.request("PATCH", where, body=bytes(40_000_000))

    assert pushed.returncode != 0
    assert "507" in pushed.stderr
    assert (refused.status, refused.code) == (507, "DENIED")
    detail = json.loads(refused.body)["errors"][0]["detail"]
    assert detail["size"] == 40_000_000
    assert detail["room"] < 20 * MB
    assert list((appliance.state / layout.UPLOADS).iterdir()) == []
    assert pull(http, "team/small", "v1")[0] == small.digest


def test_docker_registry_serves_pushed_content(
    start: Start, clients: Clients, tmp_path: Path
) -> None:
    """docker-registry serves content that was pushed to the appliance.

    So an operator can replace the appliance by docker-registry again.
    """
    appliance = start(Setup())
    image, children = of_size(64 * KB, 530), two_platforms(531)
    assert push(appliance.http, "team/app", "v1", image)
    index = push_index(appliance.http, "team/many", "v1", children)
    assert appliance.stop() == 0

    with Registry(tmp_path / "registry", storage=appliance.data) as registry:
        app = clients.pull(f"{registry.http.netloc}/team/app:v1")
        many = clients.pull(f"{registry.http.netloc}/team/many@{index}")

    assert app == Digest.of(image.config).hex
    assert many == Digest.of(children[0].config).hex
