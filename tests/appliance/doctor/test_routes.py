"""Test `routes`, which returns the forms of an image's name that clients may request."""

from __future__ import annotations

from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.doctor.routes import routes


def test_an_image_has_a_route_by_prefix_and_one_by_namespace() -> None:
    """A route by prefix has "_" instead of the colon before a port; a route by `ns` has a colon."""
    prefix, ns = routes(ImageName("reg.test:5000", "app", "v1"), None)

    assert prefix.manifest("v1") == "/v2/reg.test_5000/app/manifests/v1"
    assert ns.blob("sha256:1") == "/v2/app/blobs/sha256:1?ns=reg.test%3A5000"


def test_images_of_the_default_upstream_have_a_route_without_a_host() -> None:
    """An image of the default upstream has a route without a host, for dockerd's older store."""
    image = ImageName("quay.io", "app", "v1")

    assert [each.name for each in routes(image, "quay.io")] == ["prefix", "ns", "default"]
    assert [each.name for each in routes(image, "docker.io")] == ["prefix", "ns"]


def test_that_route_is_optional_for_docker_hub_while_the_default_is_unknown() -> None:
    """The route without a host is optional for Docker Hub if the default upstream is unknown.

    `doctor` may check a remote appliance, whose settings it does not know.
    """
    hub = ImageName("docker.io", "library/app", "v1")

    assert routes(hub, None)[-1].is_optional
    assert not routes(hub, "docker.io")[-1].is_optional
