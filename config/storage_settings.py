"""Define the settings of `storage:`, which select one storage driver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrepot.config import value_types
from entrepot.config.azure_settings import AzureSettings
from entrepot.config.oss_settings import OssSettings
from entrepot.config.redirect_settings import RedirectSettings
from entrepot.config.s3_settings import S3Settings
from entrepot.config.section import Section, section, setting


class FilesystemSettings(Section):
    """The settings of `storage.filesystem:`."""

    rootdirectory: value_types.File = setting(
        "./data",
        "the data directory",
        env="REGISTRYDIR",
        shown="/var/lib/registry in the image, else ./data",
    )


class InMemorySettings(Section):
    """The settings of `storage.inmemory:`.

    If the section `inmemory` is present, content is stored in memory and lost when the appliance
    exits.
    """

    rootdirectory: value_types.File = setting(
        "/dev/shm/entrepot",  # noqa: S108 - it is made private at the start
        "a folder on a tmpfs that no other program uses; the appliance deletes its own files there"
        " when it starts and when it exits",
    )


class DeleteSettings(Section):
    """The settings of `storage.delete:`."""

    enabled: value_types.Switch = setting("false", "whether clients may DELETE pushed content")


class UploadPurgingSettings(Section):
    """The settings of `storage.maintenance.uploadpurging:`."""

    enabled: value_types.Switch = setting("true", "whether the cleaner deletes abandoned uploads")
    age: value_types.LongerSpan = setting(
        "168h", "an upload that receives no byte for this long is treated as abandoned"
    )
    interval: value_types.LongerSpan = setting(
        "24h", "the time between two searches for abandoned uploads"
    )
    dryrun: value_types.Switch = setting(
        "false", "true: abandoned uploads are only logged and not deleted"
    )


class ReadOnlySettings(Section):
    """The settings of `storage.maintenance.readonly:`."""

    enabled: value_types.Switch = setting("false", "whether all pushes and deletes get 405")


class MaintenanceSettings(Section):
    """The settings of `storage.maintenance:`."""

    uploadpurging: UploadPurgingSettings = section(UploadPurgingSettings)
    readonly: ReadOnlySettings = section(ReadOnlySettings)


def _state_beside_data(before: Mapping[str, Any]) -> Path:
    chosen: FilesystemSettings | InMemorySettings = before["inmemory"] or before["filesystem"]
    return chosen.rootdirectory / "entrepot"


class StorageSettings(Section):
    """The settings of `storage:`."""

    filesystem: FilesystemSettings = section(FilesystemSettings)
    inmemory: InMemorySettings | None = None
    s3: S3Settings | None = None
    azure: AzureSettings | None = None
    oss: OssSettings | None = None
    delete: DeleteSettings = section(DeleteSettings)
    redirect: RedirectSettings = section(RedirectSettings)
    shared: value_types.Switch = setting(
        "false",
        "whether docker distribution also writes to the bucket; if true, the appliance evicts"
        " nothing and deletes no garbage",
    )
    maintenance: MaintenanceSettings = section(MaintenanceSettings)
    statedir: value_types.File = setting(
        _state_beside_data,
        "the folder of the index, logs and unfinished downloads; use a local disk if the data"
        " directory is on a network disk",
        env="ENTREPOT_STATEDIR",
        shown="the folder entrepot in the data directory",
    )
    spoolsize: value_types.Size | None = setting(
        None,
        "with a bucket: the largest total size of unfinished downloads, uploads and logs in"
        " storage.statedir",
        env="ENTREPOT_SPOOLSIZE",
        shown="80 % of the space that is free at the start",
    )

    @property
    def bucket(self) -> S3Settings | AzureSettings | OssSettings | None:
        """Return the section of the storage driver if content is stored in a bucket, else None."""
        return self.s3 or self.azure or self.oss

    @property
    def rootdirectory(self) -> Path:
        """Return the path of the data directory or, with a bucket, of the state directory."""
        return self.statedir if self.bucket else (self.inmemory or self.filesystem).rootdirectory

    @property
    def driver(self) -> str:
        """Return the name of the storage driver; docker distribution uses the same names."""
        chosen = (name for name in ("s3", "azure", "oss", "inmemory") if getattr(self, name))
        return next(chosen, "filesystem")

    @property
    def parameters(self) -> Mapping[str, object]:
        """Return the keys of the driver's section with their values.

        For a bucket, the keys `statedir` and `shared` are added.
        """
        if self.bucket:
            own = {"statedir": self.statedir, "shared": self.shared}
            return {**self.bucket.values(), **own}
        return (self.inmemory or self.filesystem).values()

    @property
    def has_redirects(self) -> bool:
        """Return whether clients may fetch large blobs from the bucket itself."""
        signs = self.s3 or (self.azure and self.azure.credentials.type == "shared_key")
        return bool(signs) and not self.redirect.disable

    @property
    def place(self) -> str:
        """Return the URL or path of the stored content, which messages show."""
        if self.bucket:
            prefix = (self.bucket.rootdirectory or "").strip("/")
            return f"{self.driver}://{self.bucket.place}/{prefix}"
        return str(self.rootdirectory)
