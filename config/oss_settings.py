"""Define the settings of `storage.oss:`, whose keys are those of docker distribution's driver."""

from __future__ import annotations

from entrepot.config import value_types
from entrepot.config.section import Section, setting


class OssSettings(Section):
    """The settings of `storage.oss:`. The driver uses the S3-compatible API of Alibaba's OSS."""

    accesskeyid: value_types.MaybeText = setting(
        None, "the access key", shown="required", secret=True
    )
    accesskeysecret: value_types.MaybeText = setting(
        None, "the secret of the access key", shown="required", secret=True
    )
    region: value_types.MaybeText = setting(
        None, "the region of the bucket, such as oss-cn-hangzhou", shown="required"
    )
    bucket: value_types.MaybeText = setting(None, "the name of the bucket", shown="required")
    endpoint: value_types.MaybeText = setting(
        None, "the host of the bucket", shown="none: BUCKET.REGION.aliyuncs.com"
    )
    internal: value_types.Switch = setting(
        "false", "whether the region's internal host is used; no effect if endpoint is set"
    )
    rootdirectory: value_types.MaybeText = setting(None, "the prefix of all keys in the bucket")
    encrypt: value_types.Switch = setting("false", "whether the service encrypts objects")
    secure: value_types.Switch = setting("true", "whether requests use TLS")
    chunksize: value_types.PartSize = setting(
        "10M", "the size of one part of a multipart upload to the bucket, 5M to 512M"
    )

    @property
    def place(self) -> str:
        """Return the name of the bucket, which messages show."""
        return str(self.bucket)
