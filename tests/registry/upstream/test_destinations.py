"""A client checks the address to which an upstream's response leads before it connects."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.download.resume import resumed
from entrepot.registry.download.sources import Sources
from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream import destinations
from entrepot.registry.upstream.destinations import AddressRefused, Destinations, Reach, reach_of
from entrepot.registry.upstream.protocol import Upstream
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Shared
from entrepot.runtime.proxies import Proxies
from entrepot.runtime.urls import RawOrigin
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream

CDN = RawOrigin("https", "cdn.example", 443)
INTERNAL = [
    "127.0.0.1",
    "127.255.0.1",
    "::1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "10.0.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12::1",
    "fec0::1",
    "feff::1",
    "5f00::1",
    "1::1",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "198.18.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::a00:1",
    "64:ff9b:1::808:808",
    "64:ff9b:1:a9fe:a9:fe00:808:808",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::",
    "2001:0:a00:1::1",
    "nonsense",
    "",
]
PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", INTERNAL)
def test_a_public_upstream_may_not_redirect_to_an_internal_address(address: str) -> None:
    """A redirect from a public upstream to an internal address, in any notation, is refused."""
    checked = Destinations(UpstreamConfig("a.io", "https://a.io"))
    checked.check_dialled(RawOrigin("https", "a.io", 443), "8.8.8.8")

    assert reach_of(address) is not Reach.PUBLIC
    with pytest.raises(AddressRefused):
        checked.permitted(CDN, [address])


@pytest.mark.parametrize("address", PUBLIC)
def test_an_upstream_may_redirect_to_public_addresses(address: str) -> None:
    """An upstream may redirect to public addresses, where many registries store their layers."""
    checked = Destinations(UpstreamConfig("a.io", "https://a.io"))
    checked.check_dialled(CDN, address)

    assert checked.permitted(CDN, [address]) == [address]


@pytest.mark.parametrize(
    ("home", "leads_to", "not_to"),
    [
        ("10.0.0.1", ["10.9.9.9", "192.168.0.1", "fd12::1"], ["127.0.0.1", "169.254.169.254"]),
        ("127.0.0.1", ["127.0.0.2", "::1", "10.0.0.1"], ["169.254.169.254", "224.0.0.1"]),
        ("fe80::1%eth0", ["fe80::2%eth0"], ["10.0.0.1", "127.0.0.1"]),
    ],
)
def test_an_upstream_may_redirect_to_its_own_kind_of_address(
    home: str, leads_to: list[str], not_to: list[str]
) -> None:
    """An upstream may redirect to addresses of the same kind as its own, such as private ones.

    The storage of a private registry is often in the same network. Without the setting `redirects`,
    a redirect to the metadata address of cloud providers is refused.
    """
    checked = Destinations(UpstreamConfig("reg.lan", "http://reg.lan:5000"))
    checked.check_dialled(RawOrigin("http", "reg.lan", 5000), home)

    assert checked.permitted(CDN, [*leads_to, *not_to]) == leads_to


def test_an_upstream_stays_public_after_its_first_public_address() -> None:
    """An upstream that once had a public address is treated as public from then on."""
    checked = Destinations(UpstreamConfig("a.io", "https://a.io"))
    for address in ("8.8.8.8", "10.0.0.1"):
        checked.check_dialled(RawOrigin("https", "a.io", 443), address)

    with pytest.raises(AddressRefused):
        checked.permitted(CDN, ["10.0.0.2"])


def test_another_port_of_the_upstream_is_another_origin() -> None:
    """A redirect to another port of the upstream is checked like a redirect to another host.

    The operator did not configure that port.
    """
    checked = Destinations(UpstreamConfig("a.io", "https://a.io", realm="https://sso.lan/t"))
    checked.check_dialled(RawOrigin("https", "a.io", 443), "8.8.8.8")

    assert checked.permitted(RawOrigin("https", "a.io", 443), ["10.0.0.1"]) == ["10.0.0.1"]
    assert checked.permitted(RawOrigin("https", "sso.lan", 443), ["10.0.0.1"]) == ["10.0.0.1"]
    others = [("https", "a.io", 8443), ("http", "a.io", 80), ("https", "sso.lan", 8443)]
    for origin in itertools.starmap(RawOrigin, others):
        with pytest.raises(AddressRefused):
            checked.permitted(origin, ["10.0.0.1"])


@pytest.mark.parametrize(
    ("allowed", "address", "expected"),
    [
        (("any",), "169.254.169.254", True),
        (("10.1.0.0/16",), "10.1.2.3", True),
        (("10.1.0.0/16",), "::ffff:10.1.2.3", True),
        (("10.1.0.0/16",), "10.2.0.1", False),
        (("public", "fd12::/16"), "fd12::9", True),
        (("public", "fd12::/16"), "10.1.0.1", False),
    ],
)
def test_the_operator_can_permit_more_addresses(
    allowed: tuple[str, ...], address: str, *, expected: bool
) -> None:
    """The setting `redirects` can permit any address or the addresses in listed networks."""
    checked = Destinations(UpstreamConfig("a.io", "https://a.io", redirects=allowed))
    checked.check_dialled(RawOrigin("https", "a.io", 443), "8.8.8.8")
    if expected:
        assert checked.permitted(CDN, [address]) == [address]
    else:
        with pytest.raises(AddressRefused):
            checked.permitted(CDN, [address])


@given(st.ip_addresses(v=4))
def test_an_embedded_ipv4_address_has_the_same_reach(address: Any) -> None:
    """An IPv4 address within an IPv6 address is checked like that IPv4 address.

    Otherwise an attacker could reach a private address by writing it as an IPv6 address.
    """
    plain, number = reach_of(str(address)), int(address)
    forms = [f"::ffff:{address}", f"64:ff9b::{address}", f"::ffff:0:{address}"]
    forms.append(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1")

    assert {reach_of(each) for each in forms} == {plain}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]:9/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://10.1/",
        "http://127.0.0.1./",
        "http://10.0.0.1.:80/",
        "http://169.254.169%2e254/",
        "http://127%2E0%2e0%2e1/",
        "http://%6cocalhost/",
        "http://localhost%2e/",
        "http://a.io%2f@127.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://127。0。0。1/",
    ],
)
def test_an_address_in_a_url_is_checked_before_the_proxy(url: str) -> None:
    """A redirect to a URL with an internal address is refused even if a proxy is configured.

    A host name is not checked, because the proxy resolves it.
    """
    checked = Destinations(UpstreamConfig("a.io", "https://a.io"))
    with pytest.raises(AddressRefused):
        checked.check_by_name(url)
    checked.check_by_name("http://metadata.example/")
    checked.check_by_name("http://metadata.example.:8080/?q=%2e")
    checked.check_by_name("http://8.8.8.8/")


# ---- tests of redirects that the client of an upstream follows


@pytest.fixture
def public_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the loopback address of the upstream, which is checked first, as public."""
    reaches = iter([Reach.PUBLIC])
    monkeypatch.setattr(
        destinations, "reach_of", lambda each: next(reaches, None) or reach_of(each)
    )


@pytest.fixture
def internal() -> Iterator[FakeUpstream]:
    """Run a service at an internal address, to which no redirect may lead."""
    with FakeUpstream() as service:
        service.add_image("app", "v1", [b"layer"])
        yield service


DIGEST = Digest.of(b"layer")
OPERATIONS: dict[str, Callable[[Upstream], object]] = {
    "head": lambda each: each.head("app", Tag("v1")),
    "manifest": lambda each: each.manifest("app", Tag("v1")),
    "blob_size": lambda each: each.blob_size("app", DIGEST),
    "blob": lambda each: ExitStack().enter_context(each.blob("app", DIGEST)),
    "range": lambda each: ExitStack().enter_context(each.blob("app", DIGEST, 1, 3)),
    "tags": lambda each: each.tags("app"),
    "referrers": lambda each: each.referrers("app", DIGEST),
}


@pytest.mark.usefixtures("public_home")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_redirect_to_an_internal_address_is_not_followed(
    upstream: FakeUpstream, internal: FakeUpstream, operation: str
) -> None:
    """If an upstream redirects to an internal address, the client does not connect to it."""
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave(redirect=f"{internal.url}{{path}}")
    with pytest.raises(Unavailable) as raised:
        OPERATIONS[operation](client_of(upstream))

    assert raised.value.why is Why.NONSENSE
    assert "redirects" in str(raised.value)
    assert internal.host.partition(":")[2] not in str(raised.value)
    assert internal.connections == 0


@pytest.mark.usefixtures("public_home")
def test_every_redirect_is_checked(upstream: FakeUpstream, internal: FakeUpstream) -> None:
    """Each redirect in a chain is checked, even after a redirect to the upstream itself."""
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("hop", redirect=f"{internal.url}/v2/app/manifests/v1")
    upstream.misbehave("/manifests/v1", redirect=f"{upstream.url}/hop")
    with pytest.raises(Unavailable):
        client_of(upstream).manifest("app", Tag("v1"))

    assert internal.connections == 0


@pytest.mark.usefixtures("public_home")
def test_a_host_name_is_checked_by_its_address(
    upstream: FakeUpstream, internal: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect to a host name is checked by the host's address, and the name is resolved once.

    A second lookup of the name could return another address.
    """
    lookups: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, **more: Any) -> Any:
        if host != "rebinding.test":
            return real(host, port, **more)
        lookups.append(host)
        return real("127.0.0.1", port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = internal.host.partition(":")[2]
    upstream.misbehave("/manifests/v1", redirect=f"http://rebinding.test:{port}{{path}}")
    with pytest.raises(Unavailable):
        client_of(upstream).manifest("app", Tag("v1"))

    assert internal.connections == 0
    assert len(lookups) == 1


@pytest.mark.usefixtures("public_home")
def test_a_token_realm_at_an_internal_address_is_not_requested(
    upstream: FakeUpstream, internal: FakeUpstream
) -> None:
    """If a token realm has an internal address, the client sends no request to the realm."""
    challenge = f'Bearer realm="{internal.url}/token",service="s"'
    upstream.misbehave(status=401, headers={"WWW-Authenticate": challenge})
    with pytest.raises(Unavailable):
        client_of(upstream).manifest("app", Tag("v1"))

    assert internal.connections == 0


@pytest.mark.usefixtures("public_home")
def test_redirects_of_a_mirror_are_checked(upstream: FakeUpstream, internal: FakeUpstream) -> None:
    """A redirect from a mirror is checked against the address of that mirror."""
    upstream.add_image("app", "v1", [b"layer"])
    with FakeUpstream() as mirror:
        mirror.misbehave(redirect=f"{internal.url}{{path}}")
        client = client_of(upstream, mirrors=(mirror.url,))

        assert client.manifest("app", Tag("v1")).body
    assert internal.connections == 0


@pytest.mark.usefixtures("public_home")
@pytest.mark.parametrize("allowed", [("any",), ("127.0.0.0/8",)])
def test_a_permitted_redirect_is_followed(
    upstream: FakeUpstream, internal: FakeUpstream, allowed: tuple[str, ...]
) -> None:
    """If the operator permits an internal address, a redirect to it is followed.

    A public registry can have its storage in the internal network.
    """
    upstream.misbehave(redirect=f"{internal.url}{{path}}")

    assert client_of(upstream, redirects=allowed).manifest("app", Tag("v1")).body


@pytest.mark.usefixtures("public_home")
def test_a_blob_behind_a_refused_redirect_is_refused_at_once(
    upstream: FakeUpstream, internal: FakeUpstream
) -> None:
    """If a blob's redirect is refused, the download fails at once, without a second request."""
    upstream.misbehave(redirect=f"{internal.url}{{path}}")
    digest = Digest.of(b"layer")
    pauses: list[float] = []
    sources = Sources(client_of(upstream).blob_sources("app", digest), sleep=pauses.append)
    with pytest.raises(Unavailable, match="not public; permit it with"):
        list(resumed(sources, 0))

    assert pauses == []
    assert internal.connections == 0


@pytest.mark.parametrize("inner", ["10.0.0.1", "169.254.169%2e254", "127.0.0.1.", "localhost."])
def test_a_proxy_gets_no_request_for_an_internal_address(
    upstream: FakeUpstream, internal: FakeUpstream, inner: str
) -> None:
    """If a redirect leads to an internal address, the client sends the proxy no request for it.

    The proxy might be able to reach that address.
    """
    with FakeUpstream() as proxy:
        proxy.misbehave(redirect=f"http://{inner}/x")
        shared = Shared(proxies=Proxies({"http": proxy.url}))
        client = client_of(upstream, shared, url="http://registry.example")
        with pytest.raises(Unavailable, match=r"redirects|not resolve"):
            client.manifest("app", Tag("v1"))

        assert len(proxy.requests) == 1
    assert internal.connections == 0
