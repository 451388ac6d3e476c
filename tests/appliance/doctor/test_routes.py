"""The names under which clients ask for one image."""

from __future__ import annotations

from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.doctor.routes import routes


def test_an_image_is_reached_by_prefix_and_by_namespace() -> None:
    """A port's colon is an underscore in a path, and itself in `ns`."""
    prefix, ns = routes(ImageName("reg.test:5000", "app", "v1"), None)

    assert prefix.manifest("v1") == "/v2/reg.test_5000/app/manifests/v1"
    assert ns.blob("sha256:1") == "/v2/app/blobs/sha256:1?ns=reg.test%3A5000"


def test_the_default_upstreams_images_need_no_word_of_it() -> None:
    """What dockerd's older store sends."""
    image = ImageName("quay.io", "app", "v1")

    assert [each.name for each in routes(image, "quay.io")] == ["prefix", "ns", "default"]
    assert [each.name for each in routes(image, "docker.io")] == ["prefix", "ns"]


def test_docker_hubs_images_may_come_that_way_while_nobody_says_what_the_default_is() -> None:
    """We may be asked about an appliance elsewhere, whose settings we don't know."""
    hub = ImageName("docker.io", "library/app", "v1")

    assert routes(hub, None)[-1].is_optional
    assert not routes(hub, "docker.io")[-1].is_optional
