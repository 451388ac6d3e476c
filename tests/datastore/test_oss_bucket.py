"""Tests that the keys of `storage.oss` are translated to keys of `storage.s3`."""

from __future__ import annotations

import pytest

from entrepot.datastore.drivers.oss import bucket_of

_KEYS = {
    "accesskeyid": "LTAI",
    "accesskeysecret": "sesame",
    "region": "oss-cn-hangzhou",
    "bucket": "images",
    "endpoint": None,
    "internal": False,
    "rootdirectory": "/registry/",
    "encrypt": False,
    "secure": True,
    "chunksize": 10 * 2**20,
}


def test_each_key_becomes_a_key_of_s3() -> None:
    """The keys of `storage.oss` determine the access key, the region, the bucket and encryption.

    The name of the bucket is a part of the host.
    """
    bucket = bucket_of({**_KEYS, "encrypt": True})

    assert (bucket.name, bucket.prefix, bucket.part_bytes) == ("images", "registry", 10 * 2**20)
    assert dict(bucket.attributes) == {}
    expected = {
        "access_key_id": "LTAI",
        "secret_access_key": "sesame",
        "region": "oss-cn-hangzhou",
        "endpoint": "https://images.s3.oss-cn-hangzhou.aliyuncs.com",
        "virtual_hosted_style_request": True,
        "server_side_encryption": "AES256",
    }
    assert expected.items() <= bucket.config.items()


@pytest.mark.parametrize(
    ("keys", "url"),
    [
        ({"secure": False}, "http://images.s3.oss-cn-hangzhou.aliyuncs.com"),
        ({"internal": True}, "https://images.s3.oss-cn-hangzhou-internal.aliyuncs.com"),
        (
            {"endpoint": "images.oss-cn-beijing.aliyuncs.com"},
            "https://images.s3.oss-cn-beijing.aliyuncs.com",
        ),
        (
            {"endpoint": "https://oss-cn-beijing.aliyuncs.com/"},
            "https://images.s3.oss-cn-beijing.aliyuncs.com",
        ),
        ({"endpoint": "s3.cloud.test:8443"}, "https://images.s3.cloud.test:8443"),
    ],
)
def test_the_host_is_that_of_the_api_of_s3(keys: dict[str, object], url: str) -> None:
    """If `endpoint` is a host of OSS's own API, the host of its S3-compatible API is used.

    Any other host is used unchanged.
    """
    assert bucket_of({**_KEYS, **keys}).config["endpoint"] == url


def test_a_remedy_names_the_keys_of_oss() -> None:
    """The remedy for a refused request has the keys of `storage.oss`, not those of `storage.s3`."""
    service = bucket_of(_KEYS).service

    assert service.remedy("put", "403: InvalidAccessKeyId") == "correct storage.oss.accesskeyid"
    assert service.remedy("put", "403") == "allow oss:PutObject on the bucket"
