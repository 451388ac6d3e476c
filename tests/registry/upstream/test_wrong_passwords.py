"""A client sends a wrong password to an upstream only rarely, so that no account is locked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import Denied
from entrepot.registry.upstream import trials
from entrepot.registry.upstream.upstreams import Shared
from tests.gates import BasicGate, TokenService
from tests.registry.upstream.clients import PlainSecret, client_of, secret_of
from tests.upstream import FakeUpstream
from tests.wire import Seen

V1 = Tag("v1")
LAYER = Digest.of(b"layer")


def upstream_with(gate: BasicGate | TokenService) -> FakeUpstream:
    """Return an upstream with two images; *gate* checks its credentials."""
    upstream = FakeUpstream(gate=gate)
    for name in ("app", "other"):
        upstream.add_image(name, "v1", [b"layer"])
    return upstream


def sent(upstream: FakeUpstream) -> list[str]:
    """Return the paths of the requests that carried a password."""
    return [each.path for each in upstream.requests if "authorization" in each.headers]


def denied(*acts: Callable[[], object]) -> None:
    """Call each function of *acts*; assert that it raises Denied."""
    for act in acts:
        with pytest.raises(Denied):
            act()


def test_many_requests_send_a_wrong_password_once() -> None:
    """If `/v2/` rejects a password, the next requests of any kind do not contain it."""
    with upstream_with(BasicGate({"me": "right"})) as upstream:
        secret = secret_of(upstream.host, "me", "wrong")
        client = client_of(upstream, Shared(secret=lambda: secret))
        denied(
            lambda: client.head("app", V1),
            lambda: client.manifest("app", V1),
            lambda: client.blob_size("other", LAYER),
            lambda: client.head("other", V1),
        )

        assert sent(upstream) == ["/v2/"]


def test_requests_at_the_same_time_send_a_wrong_password_once() -> None:
    """If eight threads send requests at the same time, only one sends the wrong password.

    The other threads wait for the result of that request.
    """
    with upstream_with(BasicGate({"me": "right"})) as upstream:
        secret = secret_of(upstream.host, "me", "wrong")
        client = client_of(upstream, Shared(secret=lambda: secret))
        together = threading.Barrier(8)

        def pull() -> None:
            together.wait()
            with suppress(Denied):
                client.manifest("app", V1)

        threads = [threading.Thread(target=pull) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        assert sent(upstream) == ["/v2/"]


def test_a_wrong_password_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rejected password is sent again after some time, because it may be valid by then."""
    monkeypatch.setattr(trials, "AGAIN_S", 0.0)
    gate = BasicGate({"me": "other"})
    with upstream_with(gate) as upstream:
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        denied(lambda: client.manifest("app", V1))
        gate._users = {"me": "right"}

        assert client.manifest("app", V1).body


def test_a_changed_password_is_tried_at_once() -> None:
    """If the configured password changes, the client sends the new password at once."""
    with upstream_with(BasicGate({"me": "right"})) as upstream:
        secrets: list[PlainSecret] = [secret_of(upstream.host, "me", "wrong")]
        client = client_of(upstream, Shared(secret=lambda: secrets[0]))
        denied(lambda: client.head("app", V1))
        secrets[0] = secret_of(upstream.host, "me", "right")

        assert client.head("app", V1).digest


def test_a_password_that_the_upstream_changed_is_sent_twice_and_no_more() -> None:
    """A password that has become invalid is sent only twice: with a HEAD and to `/v2/`."""
    gate = BasicGate({"me": "right"})
    with upstream_with(gate) as upstream:
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        client.head("app", V1)
        gate._users = {"me": "new"}
        upstream.forget()
        denied(lambda: client.head("app", V1), lambda: client.head("other", V1))

        assert sent(upstream) == ["/v2/app/manifests/v1", "/v2/"]


def test_a_repository_that_refuses_a_right_password_stops_no_other() -> None:
    """If one repository rejects a correct password, the client still sends it to the others."""

    class Gate(BasicGate):
        def challenge(self, seen: Seen) -> str | None:
            refused = seen.path.startswith("/v2/other/")
            return 'Basic realm="fake"' if refused else super().challenge(seen)

    with upstream_with(Gate({"me": "right"})) as upstream:
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        for _ in range(2):
            denied(lambda: client.head("other", V1))

            assert client.head("app", V1).digest


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"cut": 0}])
def test_a_check_without_a_result_is_not_repeated_for_each_request(fault: dict[str, Any]) -> None:
    """If `/v2/` fails, the client cannot check a password there.

    In that case the client sends the password with each request and requests `/v2/` only once.
    """
    with upstream_with(BasicGate({"me": "right"})) as upstream:
        upstream.misbehave("/v2/$", **fault)
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        for _ in range(3):
            assert client.head("app", V1).digest

        assert len([each for each in sent(upstream) if each == "/v2/"]) == 1


def test_a_token_endpoint_gets_a_wrong_password_twice_and_no_more() -> None:
    """The client sends a wrong password to a token endpoint once with a scope and once without."""
    with TokenService({"me": "right"}) as service, upstream_with(service) as upstream:
        secret = secret_of(upstream.host, "me", "wrong")
        client = client_of(upstream, Shared(secret=lambda: secret))
        denied(
            lambda: client.head("app", V1),
            lambda: client.manifest("other", V1),
            lambda: client.head("other", V1),
        )

        assert service.issued == ["repository:app:pull", ""]


def test_a_token_endpoint_that_refuses_one_scope_stops_no_other() -> None:
    """If a token endpoint rejects one scope, the client still requests tokens for other scopes.

    The password can be correct although its user has no right to that scope.
    """

    class Service(TokenService):
        def _is_authenticated(self, seen: Seen, form: object) -> bool:  # noqa: ARG002 - inherited
            return "other" not in seen.query.get("scope", "") and basic(seen)

    def basic(seen: Seen) -> bool:
        return "authorization" in seen.headers

    with Service({"me": "right"}) as service, upstream_with(service) as upstream:
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        denied(lambda: client.head("other", V1))

        assert client.head("app", V1).digest
