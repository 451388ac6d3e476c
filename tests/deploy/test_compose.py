"""Tests of the compose file with a bucket: its services fit together."""

from __future__ import annotations

from typing import Any

import pytest

from entrepot import config
from entrepot.appliance.privileges.users import NEEDED
from entrepot.config.sources import environment as variables
from tests.deploy import compose

FILE = compose.DEPLOY / "compose.s3.yaml"
KEYS = {"S3_ACCESS_KEY": "entrepot", "S3_SECRET_KEY": "secret"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the services of the compose file."""
    found: dict[str, Any] = compose.document(FILE, KEYS)["services"]
    return found


def test_its_variables_are_known() -> None:
    """The compose file sets only known variables with valid values."""
    environ = compose.environment(FILE, KEYS)

    assert variables.read(environ).warnings == []
    assert config.examine([], environ).problems == ()


def test_the_appliance_uses_the_service_and_the_bucket(services: dict[str, Any]) -> None:
    """The appliance's endpoint, bucket and login match the other services in the file."""
    storage = config.load([], compose.environment(FILE, KEYS)).settings.storage
    assert storage.s3 is not None

    assert storage.s3.regionendpoint == "http://s3:9000"
    assert services["bucket"]["entrypoint"][-1] == f"s3/{storage.s3.bucket}"
    s3 = services["s3"]["environment"]
    assert (storage.s3.accesskey, storage.s3.secretkey) == (
        s3["MINIO_ROOT_USER"],
        s3["MINIO_ROOT_PASSWORD"],
    )


def test_without_keys_the_file_is_refused() -> None:
    """Without the keys of the bucket in the environment the compose file is refused.

    The keys have no default, because anyone could read a default in the file.
    """
    with pytest.raises(KeyError, match="S3_ACCESS_KEY"):
        compose.document(FILE, {})


def test_its_volumes_and_dependencies_exist(services: dict[str, Any]) -> None:
    """The compose file declares each volume that it mounts, and each service in a `depends_on`."""
    named = [each.partition(":")[0] for one in services.values() for each in one.get("volumes", ())]

    assert set(named) == set(compose.document(FILE, KEYS)["volumes"])
    awaited = {name for one in services.values() for name in one.get("depends_on", ())}
    assert awaited <= services.keys()


def test_root_has_the_capabilities_for_changing_the_user(services: dict[str, Any]) -> None:
    """The compose file grants root all capabilities that it needs to change its user."""
    assert services["entrepot"]["cap_add"] == list(NEEDED)
    assert services["entrepot"]["cap_drop"] == ["ALL"]
