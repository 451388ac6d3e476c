"""The rights of a client determine which metrics the client can read."""

from __future__ import annotations

from pathlib import Path

import falcon
import falcon.testing
import pytest

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.repositories import Repositories
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.api.status import MetricsResource
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.rules import AccessGrant, AccessRules
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable

_ALL = """# TYPE entrepot_cache_total counter
entrepot_cache_total{upstream="secret.test"} 1.0
entrepot_blobs 2.0
"""


@pytest.mark.parametrize(("pattern", "sees"), [("**", True), ("quay.io/**", False)])
def test_a_client_that_may_not_pull_everything_sees_no_upstream_metrics(
    tmp_path: Path, pattern: str, *, sees: bool
) -> None:
    """A client without the right to pull everything gets no metrics that name an upstream.

    The host names of upstreams would reveal from which registries other users pull.
    """
    (tmp_path / "metrics").write_text(_ALL)
    rules = AccessRules([AccessGrant(("ann",), (pattern,), frozenset({"pull"}))])
    authenticator = BasicAuthenticator(lambda *_: True, realm="test", rules=lambda: rules)
    app = falcon.App()
    authorization = Authorization(
        authenticator, UpstreamTable(FixedUpstreams({})), Repositories(MemoryStorage())
    )
    app.add_route("/metrics", MetricsResource(authorization, tmp_path / "metrics"))

    shown = falcon.testing.TestClient(app).simulate_get(
        "/metrics", headers={"Authorization": "Basic YW5uOng="}
    )

    assert ("secret.test" in shown.text) is sees
    assert "entrepot_blobs 2.0" in shown.text
