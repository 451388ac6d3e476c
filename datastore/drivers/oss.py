"""Translate docker distribution's keys of `storage.oss` to the keys of `storage.s3`.

OSS (Alibaba Cloud Object Storage Service) has an API that is compatible with S3. The hosts of this
API begin with `s3.`, and a request must name the bucket in the host, not in the path. This driver
was not tested against the real service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from entrepot.datastore.drivers import s3
from entrepot.datastore.drivers.objects.client import Bucket

_REMEDIES: Final = {
    "NoSuchBucket": "create the bucket, or correct storage.oss.bucket",
    "AuthorizationHeaderMalformed": "correct storage.oss.region",
    "AccessDenied": "correct storage.oss.endpoint, or allow the request on the bucket",
    "InvalidAccessKeyId": "correct storage.oss.accesskeyid",
    "SignatureDoesNotMatch": "correct storage.oss.accesskeysecret",
    "RequestTimeTooSkewed": "set the clock of this machine",
}
_PERMISSIONS: Final = {
    "list": "oss:ListObjects",
    "put": "oss:PutObject",
    "get": "oss:GetObject",
    "conditional put": "oss:PutObject",
    "delete": "oss:DeleteObject",
}


def bucket_of(parameters: Mapping[str, Any]) -> Bucket:
    """Return the bucket that the keys of `storage.oss` select."""
    bucket = s3.bucket_of(
        {
            "accesskey": parameters["accesskeyid"],
            "secretkey": parameters["accesskeysecret"],
            "sessiontoken": None,
            "region": parameters["region"],
            "regionendpoint": _host(parameters),
            "forcepathstyle": False,
            "bucket": parameters["bucket"],
            "rootdirectory": parameters["rootdirectory"],
            "encrypt": parameters["encrypt"],
            "keyid": None,
            "secure": parameters["secure"],
            "skipverify": False,
            "ca": None,
            "chunksize": parameters["chunksize"],
            "storageclass": "NONE",
            "useragent": None,
        }
    )
    service = replace(
        bucket.service, remedies=_REMEDIES, permissions=_PERMISSIONS, place="the bucket"
    )
    return replace(bucket, service=service)


def _host(parameters: Mapping[str, Any]) -> str:
    """Return the host of OSS's S3-compatible API, without the name of the bucket."""
    if endpoint := parameters["endpoint"]:
        host = str(endpoint).rpartition("://")[2].strip("/")
        host = host.removeprefix(f"{parameters['bucket']}.")
        return f"s3.{host}" if host.startswith("oss-") else host
    internal = "-internal" if parameters["internal"] else ""
    return f"s3.{parameters['region']}{internal}.aliyuncs.com"
