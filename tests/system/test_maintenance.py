"""Tests a read-only mirror with a credential helper, rules for pushes and a short catalog."""

from __future__ import annotations

import json
from pathlib import Path

from tests.gates import BasicGate
from tests.system.appliance import Setup
from tests.system.conftest import Start
from tests.system.images import KB, of_size
from tests.system.pulls import pull
from tests.system.pushes import push, tags, uploads_path
from tests.upstream import FakeUpstream

_MIRRORED, _PUSHED = of_size(KB, 1), of_size(KB, 2)


def _helper(folder: Path) -> Path:
    """Write a program that supplies the login for one host, as Docker's credential helpers do."""
    path = folder / "docker-credential-test"
    path.write_text(
        f"""#!/bin/sh
echo "$1 $(cat)" >> {folder}/asked
echo '{{"Username": "robot", "Secret": "secret"}}'
"""
    )
    path.chmod(0o755)
    return path


def test_a_read_only_mirror_pulls_through_with_a_helper_and_refuses_pushes(
    start: Start, tmp_path: Path
) -> None:
    """A read-only mirror fetches with the login of a credential helper, and refuses pushes.

    No setting has the login for the upstream, so a pull shows that the helper was run.
    """
    helper = _helper(tmp_path)
    with FakeUpstream(gate=BasicGate({"robot": "secret"})) as upstream:
        upstream.put_image("app", "v1", _MIRRORED)
        settings = {
            "proxy": {
                "remoteurl": upstream.url,
                "exec": {"command": str(helper), "lifetime": "1h"},
                "ttl": "24h",
            },
            "hosted": {"team/**": {}},
            "catalog": {"maxentries": 1},
            "policy": {"repository": {"classes": ["image"]}},
        }
        writable = start(Setup(settings=settings))
        assert push(writable.http, "team/app", "v1", _PUSHED)
        assert writable.stop() == 0

        frozen = settings | {"storage": {"maintenance": {"readonly": {"enabled": True}}}}
        appliance = start(Setup(settings=frozen, data=writable.data))
        pull(appliance.http, "app", "v1")
        refused = appliance.http.request("POST", uploads_path("team/app"))

    assert (refused.status, refused.code) == (405, "UNSUPPORTED")
    assert tags(appliance.http, "team/app") == ["v1"]
    pull(appliance.http, "team/app", "v1")
    pull(appliance.http, "app", "v1")  # the upstream is stopped, so the image is stored
    asked = (tmp_path / "asked").read_text().splitlines()
    assert set(asked) == {f"get {upstream.host}"}
    assert len(asked) <= 2 * 2  # at most once for each of two workers in each of two runs

    first = json.loads(appliance.http.get("/v2/_catalog").body)["repositories"]
    assert first == ["team/app"]
    assert appliance.http.get("/v2/_catalog?n=2").code == "PAGINATION_NUMBER_INVALID"
