"""Which upstreams there are, by which names, and how they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from datastore.refs import Tag
from registry.names import fold, unfold
from registry.upstream.credentials import Credential
from registry.upstream.source import Source
from registry.upstream.table import Fixed, Shared, Upstreams
from tests.gates import BasicGate
from tests.registry.upstream.clients import PlainSecret, secret_of
from tests.upstream import FakeUpstream


def _source(host: str) -> Source:
    return Source(host, f"https://{host}")


class InForce:
    """Upstreams of a configuration and of a secret, which tests change at any time."""

    def __init__(
        self,
        hosts: Sequence[str],
        secret: Callable[[], PlainSecret | None],
        source: Callable[[str], Source] = _source,
    ) -> None:
        self._hosts = hosts
        self._secret = secret
        self._source = source

    def hosts(self) -> list[str]:
        """Return the hosts that are named in full."""
        secret = self._secret()
        return list({*self._hosts, *(secret.hosts if secret else ())})

    def source(self, host: str) -> Source | None:
        """Return the settings of an upstream."""
        secret = self._secret()
        is_named = host in self._hosts or (secret is not None and secret.names(host))
        return self._source(host) if is_named else None


def _table(*hosts: str, secret: PlainSecret | None = None) -> Upstreams:
    return Upstreams(InForce(hosts, lambda: secret), Shared(secret=lambda: secret))


@pytest.mark.parametrize(
    ("host", "folded"),
    [("127.0.0.1:5001", "127.0.0.1_5001"), ("quay.io", "quay.io"), ("Reg.LAN:80", "reg.lan_80")],
)
def test_a_port_is_folded_and_unfolded(host: str, folded: str) -> None:
    """The two spellings of one name."""
    assert fold(host) == folded
    assert unfold(folded) == host.lower()


def test_an_upstream_is_found_in_both_spellings() -> None:
    """In any case of its letters, and it is one client."""
    table = _table("reg.lan:5000")

    found = table.find("reg.lan:5000")

    assert found is not None
    assert table.find("reg.lan_5000") is table.find("REG.lan:5000") is found
    assert found.source.host == "reg.lan:5000"


def test_a_host_with_an_underscore_of_its_own_is_found_first() -> None:
    """A compose service may be called so."""
    found = _table("cache_1").find("cache_1")

    assert found is not None
    assert found.source.host == "cache_1"


def test_what_nobody_named_is_not_there() -> None:
    """Nobody makes us talk to another host."""
    assert _table("quay.io").find("evil.example") is None


def test_the_pull_secret_names_upstreams_too() -> None:
    """Its hosts, and those that its globs match; only the former can be listed."""
    secret = PlainSecret({"quay.io": Credential("", ""), "*.azurecr.io": Credential("a", "b")})
    table = _table("reg.lan:5000", secret=secret)

    assert table.hosts() == ["quay.io", "reg.lan:5000"]
    assert table.find("team.azurecr.io") is not None
    assert table.find("a.team.azurecr.io") is None


def test_a_changed_secret_is_in_force_at_once() -> None:
    """Without a restart: hosts come and go, and passwords change."""
    with FakeUpstream(gate=BasicGate({"me": "new"})) as upstream:
        upstream.add_image("app", "v1", [b"layer"])
        now = [secret_of("other.example", "me", "x")]
        in_force = InForce((), lambda: now[0], lambda host: Source(host, upstream.url))
        table = Upstreams(in_force, Shared(secret=lambda: now[0]))
        assert table.find(upstream.host) is None
        now[0] = secret_of(upstream.host, "me", "new")
        found = table.find(upstream.host)

        assert found is not None
        assert found.upstream.head("app", Tag("v1")).size
        assert table.find("other.example") is None


def test_a_client_is_kept_until_its_source_changes() -> None:
    """Its connections and tokens live as long."""
    freshness = [60.0]
    table = Upstreams(
        InForce(
            ("quay.io",),
            lambda: None,
            lambda host: Source(host, f"https://{host}", freshness=freshness[0]),
        )
    )
    first, again = table.find("quay.io"), table.find("quay.io")
    freshness[0] = 5.0
    changed = table.find("quay.io")

    assert first is not None
    assert first is again
    assert changed is not None
    assert changed is not first
    assert changed.source.freshness == 5.0


def test_a_glob_makes_no_end_of_clients() -> None:
    """Clients choose the name, so the number that is kept is bounded."""
    table = _table(secret=PlainSecret({"*.azurecr.io": Credential("a", "b")}))

    for number in range(300):
        assert table.find(f"t{number}.azurecr.io") is not None

    assert len(table._clients) == 256


def test_the_default_is_what_was_said() -> None:
    """For names without an upstream."""
    assert Upstreams(Fixed({}), default="docker.io").default == "docker.io"
    assert _table().default is None
