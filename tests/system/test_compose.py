"""An appliance with the variables of the compose file for a bucket starts and serves."""

from __future__ import annotations

from pathlib import Path

from tests.deploy import compose
from tests.s3_front import S3Front
from tests.system.appliance import Appliance, Setup
from tests.system.images import KB, of_size
from tests.system.pulls import pull
from tests.system.pushes import push

FILE = compose.DEPLOY / "compose.s3.yaml"


def test_the_configuration_of_the_compose_file_serves_from_a_bucket(tmp_path: Path) -> None:
    """With the compose file's variables an appliance stores a pushed image in a bucket.

    The test replaces only the endpoint, the bucket and the paths.
    """
    with S3Front() as s3:
        keys = {"S3_ACCESS_KEY": s3.account.key, "S3_SECRET_KEY": s3.account.secret}
        environ = {
            **compose.environment(FILE, keys),
            "REGISTRY_STORAGE_S3_REGIONENDPOINT": s3.url,
            "REGISTRY_STORAGE_S3_BUCKET": s3.bucket,
            "REGISTRY_STORAGE_S3_REGION": s3.account.region,
            "ENTREPOT_STATEDIR": str(tmp_path / "data/entrepot"),
            "REGISTRYDIR": "",
        }
        made = of_size(100 * KB, 950)
        with Appliance(tmp_path, Setup(environment=environ)) as appliance:
            assert push(appliance.http, "team/app", "v1", made)
            assert pull(appliance.http, "team/app", "v1")[0] == made.digest
        assert s3.keys("registry/docker/registry/v2/repositories/team/app")
