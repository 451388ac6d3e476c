"""How an appliance is named to its clients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.fronts import PLAIN, TLS


@pytest.mark.parametrize(
    ("front", "url"),
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
def test_only_the_port_of_https_goes_without_saying(front: Endpoint, url: str) -> None:
    """A reference without a port is tried with TLS first, so port 80 has to be said."""
    assert url == front.url


def test_a_port_of_an_upstream_is_written_with_an_underscore() -> None:
    """A reference has no place for a second colon; the appliance folds it the same way."""
    assert TLS.prefix("reg.test:8443") == "cache.test:8443/reg.test_8443"


def test_what_only_this_machine_can_reach_is_left_out_of_a_clusters_mirrors() -> None:
    """127.0.0.1 is another machine on every node."""
    front = replace(PLAIN, upstreams=("quay.io", "localhost:5001", "127.0.0.1:5002"))

    assert front.elsewhere == ("quay.io",)
