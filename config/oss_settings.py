"""Define the settings of `storage.oss:`, whose keys are those of docker distribution's driver."""

from __future__ import annotations

from entrepot.config import value_types
from entrepot.config.section import Section, setting


class OssSettings(Section):
    """The settings of `storage.oss:`. OSS is reached by its API of S3."""

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
        "false", "whether the region's internal host is used, without endpoint"
    )
    rootdirectory: value_types.MaybeText = setting(None, "the prefix of all keys in the bucket")
    encrypt: value_types.Switch = setting("false", "whether the service encrypts objects")
    secure: value_types.Switch = setting("true", "whether requests use TLS")
    chunksize: value_types.PartSize = setting("10M", "bytes of a part of an upload, 5M to 512M")

    @property
    def place(self) -> str:
        """Return the bucket, as messages name it."""
        return str(self.bucket)
