"""Define the settings of `storage.azure:`, whose keys are those of docker distribution's driver."""

from __future__ import annotations

from pydantic import Field

from entrepot.config import value_types
from entrepot.config.section import Section, setting


class AzureCredentials(Section):
    """The settings of `storage.azure.credentials:`."""

    type: value_types.AzureLogin = setting(
        "shared_key",
        "how requests are authorized: shared_key (by accountkey), client_secret (by the keys below)"
        " or default_credentials (by the Azure environment of the process)",
    )
    clientid: value_types.MaybeText = setting(None, "the id of an application in Microsoft Entra")
    tenantid: value_types.MaybeText = setting(None, "the id of the application's tenant")
    secret: value_types.MaybeText = setting(None, "the application's secret", secret=True)


class AzureSettings(Section):
    """The settings of `storage.azure:`. If this section is present, content is in a container."""

    accountname: value_types.MaybeText = setting(
        None, "the name of the storage account", shown="required"
    )
    accountkey: value_types.MaybeText = setting(
        None,
        "one of the two keys of the storage account",
        shown="required with credentials.type shared_key",
        secret=True,
    )
    credentials: AzureCredentials = Field(default_factory=AzureCredentials)
    container: value_types.MaybeText = setting(None, "the name of the container", shown="required")
    rootdirectory: value_types.MaybeText = setting(None, "the prefix of all names of blobs")
    realm: value_types.Realm = setting(
        "core.windows.net", "the domain of the cloud, such as core.chinacloudapi.cn"
    )
    serviceurl: value_types.MaybeServiceUrl = setting(
        None, "the URL of the blob service", shown="none: https://ACCOUNTNAME.blob.REALM"
    )
    skipverify: value_types.Switch = setting("false", "whether any certificate is accepted")
    ca: value_types.MaybeFile = setting(
        None, "a file with further certificate authorities of the service, in PEM"
    )

    @property
    def place(self) -> str:
        """Return the account and container, as messages name them."""
        return f"{self.accountname}/{self.container}"
