"""Test the URL, the image prefixes and the upstreams of `Endpoint`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.endpoints import PLAIN, TLS


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (PLAIN, "http://cache.test:5000"),
        (TLS, "https://cache.test:8443"),
        (replace(TLS, port=443), "https://cache.test"),
        (replace(PLAIN, port=80), "http://cache.test:80"),
        (replace(PLAIN, port=443), "http://cache.test:443"),
        (replace(PLAIN, host="[::1]"), "http://[::1]:5000"),
    ],
    ids=["plain", "tls", "https' own port", "http's own port", "odd", "IPv6"],
)
def test_only_the_port_of_https_is_omitted(endpoint: Endpoint, url: str) -> None:
    """The appliance's URL omits the port only if it is 443 and the appliance uses TLS.

    Clients use TLS for an address without a port, so port 80 must be written.
    """
    assert url == endpoint.url


def test_the_port_of_an_upstream_is_written_with_an_underscore() -> None:
    """In an image reference "_" replaces the colon before the port of an upstream.

    A reference cannot contain a second colon; the appliance accepts the underscore.
    """
    assert TLS.prefix("reg.test:8443") == "cache.test:8443/reg.test_8443"


def test_upstreams_on_loopback_are_not_in_a_clusters_mirrors() -> None:
    """A cluster's mirrors omit upstreams on loopback: on a node, 127.0.0.1 is the node itself."""
    endpoint = replace(PLAIN, upstreams=("quay.io", "localhost:5001", "127.0.0.1:5002"))

    assert endpoint.elsewhere == ("quay.io",)
