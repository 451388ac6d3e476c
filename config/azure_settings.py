"""Define the settings of `storage.azure:`, whose keys are those of docker distribution's driver."""

from __future__ import annotations

from entrepot.config import value_types
from entrepot.config.section import Section, section, setting


class AzureCredentials(Section):
    """The settings of `storage.azure.credentials:`."""

    type: value_types.AzureLogin = setting(
        "shared_key",
        "how the appliance logs in: shared_key (with accountkey), client_secret (with clientid,"
        " tenantid and secret) or default_credentials (with the Azure environment of the process)",
    )
    clientid: value_types.MaybeText = setting(None, "the id of an application in Microsoft Entra")
    tenantid: value_types.MaybeText = setting(None, "the id of the application's tenant")
    secret: value_types.MaybeText = setting(None, "the application's secret", secret=True)


class AzureSettings(Section):
    """The settings of `storage.azure:`.

    If this section is present, content is stored in a container of Azure Blob Storage.
    """

    accountname: value_types.MaybeText = setting(
        None, "the name of the storage account", shown="required"
    )
    accountkey: value_types.MaybeText = setting(
        None,
        "one of the two keys of the storage account",
        shown="required with credentials.type shared_key",
        secret=True,
    )
    credentials: AzureCredentials = section(AzureCredentials)
    container: value_types.MaybeText = setting(None, "the name of the container", shown="required")
    rootdirectory: value_types.MaybeText = setting(
        None, "the prefix of the names of all objects in the container"
    )
    realm: value_types.Realm = setting(
        "core.windows.net", "the domain of the cloud, such as core.chinacloudapi.cn"
    )
    serviceurl: value_types.MaybeServiceUrl = setting(
        None, "the URL of Azure's blob service", shown="none: https://ACCOUNTNAME.blob.REALM"
    )
    skipverify: value_types.Switch = setting(
        "false", "true: the certificate of the service is not verified"
    )
    ca: value_types.MaybeFile = setting(
        None, "a PEM file of additional authorities that may issue the service's certificate"
    )

    @property
    def place(self) -> str:
        """Return the account and the container as messages show them."""
        return f"{self.accountname}/{self.container}"
