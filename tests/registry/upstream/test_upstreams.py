"""The upstream table finds upstreams by name or pattern and follows changes to the settings."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.datastore.refs import Tag
from entrepot.registry.errors import UpstreamError
from entrepot.registry.upstream import pools
from entrepot.registry.upstream.breaker import read_all
from entrepot.registry.upstream.credentials import Credential
from entrepot.registry.upstream.pools import TlsContexts
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, Shared, UpstreamTable
from entrepot.registry.upstream.wire import Wire
from entrepot.runtime import run_names
from entrepot.runtime.hostnames import fold, is_host, unfold
from tests.certificates import Authority
from tests.gates import BasicGate
from tests.registry.upstream.clients import PlainSecret, secret_of
from tests.sizes import scaled
from tests.upstream import FakeUpstream


def _config(host: str) -> UpstreamConfig:
    return UpstreamConfig(host, f"https://{host}")


class InForce:
    """The settings of upstreams; the test can change their pull secret at any time."""

    def __init__(
        self,
        hosts: Sequence[str],
        secret: Callable[[], PlainSecret | None],
        config: Callable[[str], UpstreamConfig] = _config,
    ) -> None:
        self._hosts = hosts
        self._secret = secret
        self._config = config

    def hosts(self) -> list[str]:
        """Return the configured hosts, and those that the pull secret names in full."""
        secret = self._secret()
        return list({*self._hosts, *(secret.hosts if secret else ())})

    def config(self, host: str) -> UpstreamConfig | None:
        """Return the settings of the upstream *host*, or None if it is not an upstream."""
        secret = self._secret()
        is_named = host in self._hosts or (secret is not None and secret.names(host))
        return self._config(host) if is_named else None


def _table(*hosts: str, secret: PlainSecret | None = None) -> UpstreamTable:
    return UpstreamTable(InForce(hosts, lambda: secret), Shared(secret=lambda: secret))


@pytest.mark.parametrize(
    ("host", "folded"),
    [("127.0.0.1:5001", "127.0.0.1_5001"), ("quay.io", "quay.io"), ("Reg.LAN:80", "reg.lan_80")],
)
def test_both_spellings_of_a_port_are_converted(host: str, folded: str) -> None:
    """An upstream is named `host:port`; a repository's name contains the form `host_port`."""
    assert fold(host) == folded
    assert unfold(folded) == host.lower()


def test_both_spellings_find_the_same_upstream() -> None:
    """`host:port` and `host_port`, in upper or lower case, find the same upstream and client."""
    table = _table("reg.lan:5000")

    found = table.find("reg.lan:5000")

    assert found is not None
    assert table.find("reg.lan_5000") is table.find("REG.lan:5000") is found
    assert found.config.host == "reg.lan:5000"


def test_a_host_name_with_an_underscore_is_found() -> None:
    """The table finds a host with an underscore, such as a service of a compose file."""
    found = _table("cache_1").find("cache_1")

    assert found is not None
    assert found.config.host == "cache_1"


def test_an_unknown_host_is_not_an_upstream() -> None:
    """A host that is not configured is not an upstream.

    Otherwise a client could make the appliance connect to any host.
    """
    assert _table("quay.io").find("evil.example") is None


def test_hosts_of_the_pull_secret_are_upstreams() -> None:
    """Each host in the pull secret, and each host that matches a pattern there, is an upstream.

    `hosts` lists only the hosts that are named in full.
    """
    secret = PlainSecret({"quay.io": Credential("", ""), "*.azurecr.io": Credential("a", "b")})
    table = _table("reg.lan:5000", secret=secret)

    assert table.hosts() == ["quay.io", "reg.lan:5000"]
    assert table.find("team.azurecr.io") is not None
    assert table.find("a.team.azurecr.io") is None


def test_a_changed_pull_secret_applies_at_once() -> None:
    """If the pull secret changes, upstreams and passwords change without a restart."""
    with FakeUpstream(gate=BasicGate({"me": "new"})) as upstream:
        upstream.add_image("app", "v1", [b"layer"])
        now = [secret_of("other.example", "me", "x")]
        in_force = InForce((), lambda: now[0], lambda host: UpstreamConfig(host, upstream.url))
        table = UpstreamTable(in_force, Shared(secret=lambda: now[0]))
        assert table.find(upstream.host) is None
        now[0] = secret_of(upstream.host, "me", "new")
        found = table.find(upstream.host)

        assert found is not None
        assert found.upstream.head("app", Tag("v1")).size
        assert table.find("other.example") is None


def test_a_client_is_kept_until_its_settings_change() -> None:
    """The table keeps an upstream's client until the settings of the upstream change.

    This preserves the client's connections and tokens.
    """
    freshness = [60.0]
    table = UpstreamTable(
        InForce(
            ("quay.io",),
            lambda: None,
            lambda host: UpstreamConfig(host, f"https://{host}", freshness=freshness[0]),
        )
    )
    first, again = table.find("quay.io"), table.find("quay.io")
    freshness[0] = 5.0
    changed = table.find("quay.io")

    assert first is not None
    assert first is again
    assert changed is not None
    assert changed is not first
    assert changed.config.freshness == 5.0


def test_the_number_of_clients_from_globs_is_bounded() -> None:
    """For hosts that match a pattern, the table keeps at most 64 clients.

    Clients choose these hosts, so without a bound they could fill the memory.
    """
    table = _table(secret=PlainSecret({"*.azurecr.io": Credential("a", "b")}))

    for number in range(300):
        assert table.find(f"t{number}.azurecr.io") is not None

    assert len(table._from_globs) == 64


def test_hosts_from_globs_do_not_evict_clients_of_named_hosts() -> None:
    """Hosts that match a pattern do not displace the clients of hosts without a pattern.

    Otherwise requests for many hosts would discard the tokens and connections of those clients.
    """
    secret = PlainSecret({"quay.io": Credential("", ""), "*.azurecr.io": Credential("a", "b")})
    table = _table("reg.lan", secret=secret)
    first = table.find("quay.io"), table.find("reg.lan")
    for number in range(300):
        table.find(f"t{number}.azurecr.io")

    assert (table.find("quay.io"), table.find("reg.lan")) == first


@pytest.mark.parametrize("secure", [True, False])
def test_hosts_from_globs_share_tls_contexts(*, secure: bool) -> None:
    """Hosts with equal TLS settings share one TLS context, because each needs a third of a MiB."""
    shared = Shared()
    scheme = "https" if secure else "http"
    wires = [
        Wire(UpstreamConfig(f"t{n}.test", f"{scheme}://t{n}.test"), shared.proxies, shared.contexts)
        for n in range(20)
    ]
    managers = [each._manager(f"{scheme}://x.test/") for each in wires]
    contexts = {id(each.connection_pool_kw["ssl_context"]) for each in managers}

    assert len(contexts) == 1


def test_tls_contexts_differ_if_the_trust_settings_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a file of certificate authorities changes, the client reads the file again.

    `TlsContexts` keeps only a bounded number of contexts.
    """
    monkeypatch.setattr(pools, "_MOST_CONTEXTS", 4)
    ca = Authority(tmp_path).path
    contexts = TlsContexts()
    plain = contexts.find(_config("a.io"))
    with_ca = contexts.find(replace(_config("a.io"), ca=ca))
    insecure = contexts.find(replace(_config("a.io"), insecure=True))
    os.utime(ca, (1, 1))
    changed = contexts.find(replace(_config("b.io"), ca=ca))
    for number in range(3):
        os.utime(ca, (number, number))
        contexts.find(replace(_config("c.io"), ca=ca))

    assert len({id(each) for each in (plain, with_ca, insecure, changed)}) == 4
    assert insecure.verify_mode is ssl.CERT_NONE
    assert plain.verify_mode is with_ca.verify_mode is ssl.CERT_REQUIRED
    assert len(contexts._known) == 4


@pytest.mark.parametrize("answers", [True, False])
def test_a_host_that_never_responded_has_no_breaker_file(
    upstream: FakeUpstream, tmp_path: Path, *, answers: bool
) -> None:
    """Until a host responds with a status below 500, its circuit breaker has no file.

    So requests for invented host names create no files. After that response, all workers share the
    state of the circuit breaker.
    """
    secret = PlainSecret({"*.lan": Credential("", "")})
    table = UpstreamTable(
        InForce(
            (), lambda: secret, lambda host: UpstreamConfig(host, upstream.url, read_timeout=2.0)
        ),
        Shared(secret=lambda: secret, breakers=tmp_path / run_names.BREAKERS),
    )
    if answers:
        upstream.misbehave(status=404)
    else:
        upstream.misbehave(status=503)
    found = table.find("invented.lan")
    assert found is not None
    for _ in range(4):
        with suppress(UpstreamError):
            found.upstream.head("app", Tag("v1"))
        upstream.misbehave(status=503)

    assert [each.host for each in read_all(tmp_path / run_names.BREAKERS)] == [
        "invented.lan"
    ] * answers


HOSTS = ["a.io", "a", "a-b.c-d.io", "xn--bcher-kva.example", "127.0.0.1", "[::1]", "a.io:1", "1.a"]
HOSTS += ["[fe80::1]:65535", "a" * 63 + ".io", ".".join(["a" * 49] * 5)]
NO_HOSTS = ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a b", "a/b", "a@b", "a:b", "a:", ":1"]
NO_HOSTS += ["a:0", "a:65536", "a:99999999999999999999", "a:1:2", "::1", "[::1", "[]", "[::1]x"]
NO_HOSTS += [
    "[fe80::1%eth0]",
    "[127.0.0.1]",
    "256.1.1.1",
    "1.2.3",
    "1",
    "0x7f.0",
    "0x7f",
    "a.0x1",
    "é.io",
    "a\x00",
    "a\n",
]
NO_HOSTS += ["%61", "a?b", "a#b", "*", "*.a", "a" * 64, ".".join(["a" * 50] * 5), "a" * 5000]


@pytest.mark.parametrize("host", HOSTS, ids=lambda each: each[:20])
def test_valid_host_names_are_accepted(host: str) -> None:
    """A host name is accepted if it is valid by RFC 1123, 2.1 or RFC 3986, 3.2.2."""
    assert is_host(host)


@pytest.mark.parametrize("host", NO_HOSTS, ids=lambda each: each[:20])
def test_an_invalid_host_name_is_not_an_upstream(host: str) -> None:
    """An invalid host name is never an upstream, even if a pattern in the pull secret matches."""
    secret = PlainSecret({"*." + host.partition(".")[2]: Credential("", "")})
    lookups: list[str] = []

    def config(name: str) -> UpstreamConfig:
        lookups.append(name)
        return _config(name)

    assert not is_host(host)
    assert UpstreamTable(InForce((), lambda: secret, config)).find(host) is None
    assert lookups == []


@given(st.text(alphabet="ab01.-:[]_%é/@", max_size=20))
@settings(max_examples=scaled(50, 300))
def test_every_valid_host_name_can_be_part_of_a_url(text: str) -> None:
    """A valid host name can be part of a URL, and a URL parser returns it unchanged."""
    if is_host(text):
        target = urlsplit(f"https://{text}")

        assert target.netloc == text
        assert target.hostname
        assert target.port is None or 0 < target.port < 65536


def test_the_default_upstream_is_the_configured_one() -> None:
    """The table returns the configured default upstream, which serves names without a host."""
    assert UpstreamTable(FixedUpstreams({}), default="docker.io").default == "docker.io"
    assert _table().default is None
