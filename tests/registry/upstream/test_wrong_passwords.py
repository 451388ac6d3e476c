"""A wrong password is sent to an upstream only rarely, so that the upstream locks no account."""

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
    """Return an upstream with two images behind *gate*."""
    upstream = FakeUpstream(gate=gate)
    for name in ("app", "other"):
        upstream.add_image(name, "v1", [b"layer"])
    return upstream


def sent(upstream: FakeUpstream) -> list[str]:
    """Return the paths of the requests that had a password."""
    return [each.path for each in upstream.requests if "authorization" in each.headers]


def denied(*acts: Callable[[], object]) -> None:
    """Call each of *acts*, and assert that the upstream denies it."""
    for act in acts:
        with pytest.raises(Denied):
            act()


def test_many_requests_send_a_wrong_password_once() -> None:
    """After one refusal at `/v2/` no request of any kind sends the password."""
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
    """Requests at the same time send a wrong password once: others wait for the first."""
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
    """A wrong password is tried again after a while, as the upstream may know it by then."""
    monkeypatch.setattr(trials, "AGAIN_S", 0.0)
    gate = BasicGate({"me": "other"})
    with upstream_with(gate) as upstream:
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        denied(lambda: client.manifest("app", V1))
        gate._users = {"me": "right"}

        assert client.manifest("app", V1).body


def test_a_changed_password_is_tried_at_once() -> None:
    """A changed password is tried at once: the refusal belongs to the old one."""
    with upstream_with(BasicGate({"me": "right"})) as upstream:
        secrets: list[PlainSecret] = [secret_of(upstream.host, "me", "wrong")]
        client = client_of(upstream, Shared(secret=lambda: secrets[0]))
        denied(lambda: client.head("app", V1))
        secrets[0] = secret_of(upstream.host, "me", "right")

        assert client.head("app", V1).digest


def test_a_password_that_the_upstream_changed_is_sent_twice_and_no_more() -> None:
    """A password that the upstream changed is sent twice: with a HEAD, and to `/v2/`."""
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
    """A repository that refuses a right password does not stop requests for other repositories."""

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
    """If `/v2/` cannot show whether a password is right, the password is sent unchecked."""
    with upstream_with(BasicGate({"me": "right"})) as upstream:
        upstream.misbehave("/v2/$", **fault)
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        for _ in range(3):
            assert client.head("app", V1).digest

        assert len([each for each in sent(upstream) if each == "/v2/"]) == 1


def test_a_token_endpoint_gets_a_wrong_password_twice_and_no_more() -> None:
    """A token endpoint gets a wrong password twice: for the scope, and without a scope."""
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
    """A token endpoint that refuses one scope does not stop requests for other scopes.

    The password may be right, and only its user may not have that scope.
    """

    class Service(TokenService):
        def _is_authenticated(self, seen: Seen, form: object) -> bool:  # noqa: ARG002 - of the class
            return "other" not in seen.query.get("scope", "") and basic(seen)

    def basic(seen: Seen) -> bool:
        return "authorization" in seen.headers

    with Service({"me": "right"}) as service, upstream_with(service) as upstream:
        secret = secret_of(upstream.host, "me", "right")
        client = client_of(upstream, Shared(secret=lambda: secret))
        denied(lambda: client.head("other", V1))

        assert client.head("app", V1).digest
