"""Define the settings of `storage.s3:`, whose keys are those of docker distribution's driver."""

from __future__ import annotations

from typing import Any

from entrepot.config import value_types
from entrepot.config.section import Section, setting


def _path_style(before: dict[str, Any]) -> bool:
    return bool(before.get("regionendpoint"))


class S3Settings(Section):
    """The settings of `storage.s3:`. If this section is present, content is stored in a bucket."""

    accesskey: value_types.MaybeText = setting(
        None,
        "the access key; if it is not set, the login comes from the AWS environment of the process",
        secret=True,
    )
    secretkey: value_types.MaybeText = setting(None, "the secret key", secret=True)
    sessiontoken: value_types.MaybeText = setting(
        None, "the session token of a temporary key", secret=True
    )
    region: value_types.MaybeText = setting(None, "the region of the bucket", shown="required")
    regionendpoint: value_types.MaybeText = setting(
        None, "the URL of a service with the API of S3, such as MinIO", shown="none: AWS"
    )
    forcepathstyle: value_types.Switch = setting(
        _path_style,
        "whether URLs name the bucket in their path instead of in their host",
        shown="true with regionendpoint, else false",
    )
    bucket: value_types.MaybeText = setting(None, "the name of the bucket", shown="required")
    rootdirectory: value_types.MaybeText = setting(None, "the prefix of all keys in the bucket")
    encrypt: value_types.Switch = setting("false", "whether the service encrypts objects")
    keyid: value_types.MaybeText = setting(
        None, "the KMS key that encrypts objects", shown="none: the service's own key"
    )
    secure: value_types.Switch = setting("true", "whether requests use TLS")
    skipverify: value_types.Switch = setting(
        "false", "true: the certificate of the service is not verified"
    )
    ca: value_types.MaybeFile = setting(
        None, "a PEM file of additional authorities that may issue the service's certificate"
    )
    chunksize: value_types.PartSize = setting(
        "10M", "the size of one part of a multipart upload to the bucket, 5M to 512M"
    )
    storageclass: value_types.StorageClass = setting(
        "STANDARD", "the storage class of objects; NONE for services without storage classes"
    )
    useragent: value_types.MaybeText = setting(None, "the User-Agent header of requests")
    usedualstack: value_types.Switch = setting(
        "false", "whether AWS's dual-stack endpoints (IPv4 and IPv6) are used"
    )
    accelerate: value_types.Switch = setting(
        "false", "whether AWS's endpoints for transfer acceleration are used"
    )
    usefipsendpoint: value_types.Switch = setting("false", "whether AWS's FIPS endpoints are used")

    @property
    def place(self) -> str:
        """Return the name of the bucket, which messages show."""
        return str(self.bucket)
